#pragma once
// ProviderBase: what the channels and listeners of one transport share, whatever its loops are: its
// options and pool, places for accepted connections, and what is counted. Thread-safe.

#include <atomic>
#include <memory>
#include <string>

#include "base/metrics.h"
#include "rdma/class_bytes.h"
#include "rdma/transport.h"

namespace perigee::rdma {

inline constexpr Nanos kHelloTimeout = 10 * kSecond;
inline constexpr Nanos kTrimPeriod = 10 * kSecond;  // of the pool
inline constexpr uint32_t kLoopsMax = 64;

// Both null when nobody counts.
struct ByteCounters {
  metrics::Counter* sent = nullptr;
  metrics::Counter* received = nullptr;
};

class ProviderBase {
 public:
  virtual ~ProviderBase() = default;

  const TransportOptions& options() const { return options_; }
  SlabPool& pool() const { return *options_.pool; }
  ByteCounters byte_counters() const { return bytes_; }
  void CountSent(size_t bytes) const { Count(bytes_.sent, bytes); }
  void CountReceived(size_t bytes) const { Count(bytes_.received, bytes); }
  // Of calls with this peer. Lives as long as this.
  PeerBytes* BytesWith(Role role, uint64_t node_id) const {
    return class_bytes_->With(role, node_id);
  }
  void CountCallOut() const { Count(calls_out_, 1); }
  void CountCallIn() const { Count(calls_in_, 1); }

  // A place among connections_max for an accepted connection; false when all are taken.
  bool TakePlace();
  void GivePlace() { connections_.fetch_sub(1); }
  // False in a forked child, where the threads behind this object do not exist.
  bool OwnProcess() const;

 protected:
  ProviderBase() = default;
  // Before anything else. Options without a pool get one.
  Status Init(TransportOptions options, const char* provider);

 private:
  static void Count(metrics::Counter* counter, size_t by) {
    if (counter != nullptr) counter->Add(static_cast<double>(by));
  }

  TransportOptions options_;
  ByteCounters bytes_;
  std::unique_ptr<ClassBytes> class_bytes_;
  metrics::Counter* calls_out_ = nullptr;
  metrics::Counter* calls_in_ = nullptr;
  std::atomic<uint32_t> connections_{0};
  int32_t owner_ = 0;
};

}  // namespace perigee::rdma
