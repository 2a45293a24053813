#pragma once
// What the channels and listeners of one `ucx` transport share. Thread-safe.

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/metrics.h"
#include "rdma/ucx/address.h"
#include "rdma/ucx/loop.h"
#include "rdma/ucx_transport.h"

namespace perigee::rdma::ucx {

inline constexpr Nanos kHelloTimeout = 10 * kSecond;

class Core : public std::enable_shared_from_this<Core> {
 public:
  static Result<std::shared_ptr<Core>> Create(TransportOptions options, UcxOptions ucx);

  const TransportOptions& options() const { return options_; }
  SlabPool& pool() const { return *options_.pool; }
  void CountOut(size_t bytes) const { Count(bytes_out_, bytes); }
  void CountIn(size_t bytes) const { Count(bytes_in_, bytes); }
  void CountCallOut() const { Count(calls_out_, 1); }
  void CountCallIn() const { Count(calls_in_, 1); }

  // kPermissionDenied: that interface is not one of this transport's.
  Status CheckInterface(const Interface& interface) const;
  // The loop for a new channel or connection: one after the other, each started when first asked
  // for.
  Result<std::shared_ptr<Loop>> NextLoop();
  // Returns when every loop has run what was posted to it so far. Not from a loop.
  void WaitForLoops();
  void StopLoops();
  // A place among connections_max for an accepted connection; false when all are taken.
  bool TakePlace();
  void GivePlace() { connections_.fetch_sub(1); }
  // Says in the log, once, what the transport's connections run over.
  void NotePath(const std::string& peer, const std::string& transports);
  // False in a forked child, where the threads behind this object do not exist.
  bool OwnProcess() const;

 private:
  Core() = default;
  static void Count(metrics::Counter* counter, size_t by) {
    if (counter != nullptr) counter->Add(static_cast<double>(by));
  }
  Result<std::shared_ptr<Context>> ContextLocked();
  void ArmTrimLocked();

  TransportOptions options_;
  UcxOptions ucx_;
  metrics::Counter* bytes_out_ = nullptr;
  metrics::Counter* bytes_in_ = nullptr;
  metrics::Counter* calls_out_ = nullptr;
  metrics::Counter* calls_in_ = nullptr;
  std::atomic<uint32_t> connections_{0};
  std::atomic<bool> path_told_{false};
  int32_t owner_ = 0;
  std::mutex mu_;  // guards what follows
  std::shared_ptr<Context> context_;
  std::vector<std::shared_ptr<Loop>> loops_;
  size_t next_loop_ = 0;
  bool stopped_ = false;
};

}  // namespace perigee::rdma::ucx
