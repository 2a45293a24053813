#pragma once
// Context: what a transport's workers share of UCX: its configuration, devices and memory domains.
// Configuration comes from ContextOptions, not from UCX_* variables. Immutable after build.

#include <memory>
#include <string>

#include "base/status.h"

struct ucp_context;

namespace perigee::rdma::ucx {

struct ContextOptions {
  std::string devices;  // UCX names, by comma: "lo,eth1,mlx5_0:1"; "all"
  bool shared_memory = true;
};

class Context {
 public:
  // kUnavailable: UCX finds no usable transport on these devices.
  static Result<std::shared_ptr<Context>> Create(const ContextOptions& options);
  ~Context();
  ucp_context* get() const { return context_; }
  // Why processes of one machine do not talk through shared memory; empty when they do.
  const std::string& no_shared_memory() const { return no_shared_memory_; }

 private:
  Context() = default;
  ucp_context* context_ = nullptr;
  std::string no_shared_memory_;
};

}  // namespace perigee::rdma::ucx
