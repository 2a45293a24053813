#pragma once
// ProviderCore: what the channels and listeners of one transport share, whatever the provider: its
// options and pool, its loops, places for accepted connections, and what is counted. Thread-safe.

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/metrics.h"
#include "rdma/event_loop.h"
#include "rdma/transport.h"

namespace perigee::rdma {

inline constexpr Nanos kHelloTimeout = 10 * kSecond;

// Both null when nobody counts.
struct ByteCounters {
  metrics::Counter* sent = nullptr;
  metrics::Counter* received = nullptr;
};

class ProviderCore : public std::enable_shared_from_this<ProviderCore> {
 public:
  virtual ~ProviderCore() = default;

  const TransportOptions& options() const { return options_; }
  SlabPool& pool() const { return *options_.pool; }
  ByteCounters byte_counters() const { return bytes_; }
  void CountCallOut() const {
    if (calls_out_ != nullptr) calls_out_->Add();
  }
  void CountCallIn() const {
    if (calls_in_ != nullptr) calls_in_->Add();
  }
  // Slabs of the pool are in use: sees to it that those which then stay idle are given back.
  void NotePoolUse() {
    if (!trim_armed_.load(std::memory_order_relaxed) && !trim_armed_.exchange(true)) ArmTrim();
  }

  // The loop for a new channel or connection: one after the other, each started when first asked
  // for.
  Result<std::shared_ptr<EventLoop>> NextLoop();
  void StopLoops();
  // A place among connections_max for an accepted connection; false when all are taken.
  bool TakePlace();
  void GivePlace() { connections_.fetch_sub(1); }
  // False in a forked child, where the threads behind this object do not exist.
  bool OwnProcess() const;

 protected:
  ProviderCore() = default;
  // Before anything else. Options without a pool get one.
  Status Init(TransportOptions options, const char* provider, uint32_t loops);

 private:
  void ArmTrim();
  TransportOptions options_;
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

}  // namespace perigee::rdma
