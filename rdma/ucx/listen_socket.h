#pragma once
// UcxListenSocket: a ucp_listener, and the connection requests that come to it. Thread rule: that
// of its Worker.

#include <functional>
#include <memory>

#include "rdma/ucx/worker.h"

struct ucp_conn_request;

namespace perigee::rdma::ucx {

struct UcxConnectionRequest final : ConnectionRequest {
  explicit UcxConnectionRequest(ucp_conn_request* request) : raw(request) {}
  // UCX's, which frees it when it is accepted, rejected, or lost with its worker.
  ucp_conn_request* const raw;
};

class UcxListenSocket final : public ListenSocket {
 public:
  static Result<std::unique_ptr<UcxListenSocket>> Create(
      UcxWorker* worker, const SocketAddress& address,
      std::function<void(std::shared_ptr<ConnectionRequest>)> on_request);
  ~UcxListenSocket() override;
  void Reject(std::shared_ptr<ConnectionRequest> request) override;
  const SocketAddress& address() const override { return address_; }

 private:
  struct Shared;  // with what is deferred
  UcxListenSocket() = default;
  void RejectRaw(ucp_conn_request* request);
  std::shared_ptr<Shared> shared_;
  SocketAddress address_;
};

}  // namespace perigee::rdma::ucx
