#include "rdma/provider_core.h"

#include <algorithm>
#include <utility>

namespace perigee::rdma {

Status ProviderCore::Init(TransportOptions options, const char* provider, uint32_t loops) {
  PERIGEE_TRY(ProviderBase::Init(std::move(options), provider));
  loops_.resize(std::clamp<uint32_t>(loops, 1, kLoopsMax));
  return Status::Ok();
}

Result<std::shared_ptr<EventLoop>> ProviderCore::NextLoop() {
  std::lock_guard lock(mu_);
  if (stopped_) return Status(Code::kCancelled, "the transport has stopped");
  size_t index = next_loop_++ % loops_.size();
  if (!loops_[index]) {
    PERIGEE_ASSIGN(loops_[index], EventLoop::Start("rdma-" + std::to_string(index)));
  }
  return loops_[index];
}

// Ticks only while the pool has slabs: an idle process sleeps.
void ProviderCore::ArmTrim() {
  std::shared_ptr<EventLoop> loop;
  {
    std::lock_guard lock(mu_);
    for (auto& candidate : loops_) {
      if (!loop) loop = candidate;
    }
  }
  if (!loop) return;
  loop->At(RealClock::Get().Monotonic() + kTrimPeriod, [weak = weak_from_this()] {
    auto self = weak.lock();
    if (!self) return;
    self->pool().Trim();
    if (self->pool().BytesMapped() > 0) return self->ArmTrim();
    self->trim_armed_ = false;
  });
}

void ProviderCore::StopLoops() {
  std::vector<std::shared_ptr<EventLoop>> loops;
  {
    std::lock_guard lock(mu_);
    stopped_ = true;
    loops.swap(loops_);
  }
  for (auto& loop : loops) {
    if (loop) loop->Stop();
  }
}

}  // namespace perigee::rdma
