#include "rdma/provider_core.h"

#include <unistd.h>

#include <algorithm>
#include <utility>

namespace perigee::rdma {

namespace {
constexpr Nanos kTrimPeriod = 10 * kSecond;
}

Status ProviderCore::Init(TransportOptions options, const char* provider, uint32_t loops) {
  if (options.role == Role::kNode && options.cluster_secret.empty()) {
    return Status(Code::kInvalidArgument, "a node needs the cluster secret");
  }
  if (!options.pool) {
    PERIGEE_ASSIGN(options.pool, SlabPool::Create({}));
  }
  if (metrics::Registry* registry = options.metrics) {
    auto counter = [&](const char* name, const char* help, const char* direction) {
      return registry->GetCounter(name, help, {{"provider", provider}, {"direction", direction}});
    };
    const char* bytes_help = "Bytes through the transport's connections.";
    const char* calls_help = "Calls made (out) and served (in).";
    bytes_.sent = counter("perigee_rdma_bytes_total", bytes_help, "out");
    bytes_.received = counter("perigee_rdma_bytes_total", bytes_help, "in");
    calls_out_ = counter("perigee_rdma_calls_total", calls_help, "out");
    calls_in_ = counter("perigee_rdma_calls_total", calls_help, "in");
  }
  options_ = std::move(options);
  owner_ = getpid();
  loops_.resize(std::clamp<uint32_t>(loops, 1, 64));
  return Status::Ok();
}

bool ProviderCore::OwnProcess() const { return getpid() == owner_; }

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

bool ProviderCore::TakePlace() {
  uint32_t taken = connections_.load();
  while (taken < options_.connections_max) {
    if (connections_.compare_exchange_weak(taken, taken + 1)) return true;
  }
  return false;
}

}  // namespace perigee::rdma
