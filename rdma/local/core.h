#pragma once
// What the channels and listeners of one `local` transport share. Thread-safe.

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/metrics.h"
#include "rdma/local/bulk.h"
#include "rdma/local/event_loop.h"
#include "rdma/local/stream.h"
#include "rdma/transport.h"

namespace perigee::rdma::local {

inline constexpr Nanos kHelloTimeout = 10 * kSecond;

class Core : public std::enable_shared_from_this<Core> {
 public:
  static Result<std::shared_ptr<Core>> Create(TransportOptions options, LocalOptions local);

  const TransportOptions& options() const { return options_; }
  const LocalOptions& local() const { return local_; }
  SlabPool& pool() const { return *options_.pool; }
  const std::shared_ptr<LeaseTable>& leases() const { return leases_; }
  ByteCounters byte_counters() const { return bytes_; }
  void CountCallOut() const {
    if (calls_out_ != nullptr) calls_out_->Add();
  }
  void CountCallIn() const {
    if (calls_in_ != nullptr) calls_in_->Add();
  }

  // Bulk went by reference: counts it, and sees to it that slabs which then stay idle are given
  // back.
  void NoteBulkOut(size_t bytes) { NoteBulk(bytes_.sent, bytes); }
  void NoteBulkIn(size_t bytes) { NoteBulk(bytes_.received, bytes); }

  // The loop for a new channel or connection: one after the other, each started when first asked
  // for.
  Result<std::shared_ptr<EventLoop>> NextLoop();
  void StopLoops();
  // A place among connections_max for an accepted connection; false when all are taken.
  bool TakePlace();
  void GivePlace() { connections_.fetch_sub(1); }
  // False in a forked child, where the threads behind this object do not exist.
  bool OwnProcess() const;

 private:
  Core() = default;
  void NoteBulk(metrics::Counter* counter, size_t bytes);
  void ArmTrim();
  TransportOptions options_;
  LocalOptions local_;
  std::shared_ptr<LeaseTable> leases_;
  ByteCounters bytes_;
  metrics::Counter* calls_out_ = nullptr;
  metrics::Counter* calls_in_ = nullptr;
  std::atomic<uint32_t> connections_{0};
  std::atomic<bool> trim_armed_{false};
  int32_t owner_ = 0;
  std::mutex mu_;  // guards what follows
  std::vector<std::shared_ptr<EventLoop>> loops_;
  size_t next_loop_ = 0;
  bool stopped_ = false;
};

// A Unix socket address, also for paths longer than sun_path holds (through a descriptor of the
// directory).
class SocketPath {
 public:
  static Result<SocketPath> Of(const std::string& path);
  const void* address() const { return address_; }
  uint32_t length() const { return length_; }

 private:
  OwnedFd dir_;
  alignas(8) char address_[128];
  uint32_t length_ = 0;
};

}  // namespace perigee::rdma::local
