#pragma once
// ProviderCore: ProviderBase with EventLoops. Thread-safe.

#include <atomic>
#include <memory>
#include <mutex>
#include <vector>

#include "rdma/event_loop.h"
#include "rdma/provider_base.h"

namespace perigee::rdma {

class ProviderCore : public ProviderBase, public std::enable_shared_from_this<ProviderCore> {
 public:
  // Slabs of the pool are in use: sees to it that those which then stay idle are given back.
  void NotePoolUse() {
    if (!trim_armed_.load(std::memory_order_relaxed) && !trim_armed_.exchange(true)) ArmTrim();
  }

  // The loop for a new channel or connection: one after the other, each started when first asked
  // for.
  Result<std::shared_ptr<EventLoop>> NextLoop();
  void StopLoops();

 protected:
  ProviderCore() = default;
  Status Init(TransportOptions options, const char* provider, uint32_t loops);

 private:
  void ArmTrim();

  std::atomic<bool> trim_armed_{false};
  std::mutex mu_;  // guards what follows
  std::vector<std::shared_ptr<EventLoop>> loops_;
  size_t next_loop_ = 0;
  bool stopped_ = false;
};

}  // namespace perigee::rdma
