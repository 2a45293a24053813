#include "rdma/rendezvous/core.h"

#include <algorithm>
#include <utility>

#include "base/event.h"
#include "base/log.h"

namespace perigee::rdma::rendezvous {

Status Core::Init(TransportOptions options) {
  options.credits = std::clamp<uint32_t>(options.credits, 1, 4096);
  PERIGEE_TRY(ProviderBase::Init(std::move(options), provider_.c_str()));
  loops_.resize(std::clamp<uint32_t>(fabric_.loops, 1, kLoopsMax));
  return Status::Ok();
}

Status Core::CheckInterface(const Interface& interface) const {
  if (interface.loopback || fabric_.fabric_trusted) return Status::Ok();
  for (const std::string& device : fabric_.devices) {
    if (device == interface.name) return Status::Ok();
  }
  return Status(Code::kPermissionDenied, provider_ + " on " + interface.name + ": " + risk_ +
                                             "; list the interface among " + provider_ +
                                             "'s devices, or say that the fabric is trusted");
}

Result<std::shared_ptr<Loop>> Core::NextLoop() {
  std::lock_guard lock(mu_);
  if (stopped_) return Status(Code::kCancelled, "the transport has stopped");
  size_t index = next_loop_++ % loops_.size();
  if (!loops_[index]) {
    if (!make_worker_) {
      PERIGEE_ASSIGN(make_worker_, StartLibrary());
    }
    Loop::Options options{provider_ + "-" + std::to_string(index),
                          provider_,
                          fabric_.poll,
                          this->options().pool,
                          fabric_.pull_bytes_max,
                          this->options().class_age};
    PERIGEE_ASSIGN(loops_[index], Loop::Start(make_worker_, std::move(options)));
    if (index == 0) ArmTrimLocked();
  }
  return loops_[index];
}

void Core::ArmTrimLocked() {
  loops_[0]->At(RealClock::Get().Monotonic() + kTrimPeriod, [weak = weak_from_this()] {
    auto self = weak.lock();
    if (!self) return;
    self->pool().Trim();
    std::lock_guard lock(self->mu_);
    if (!self->stopped_) self->ArmTrimLocked();
  });
}

void Core::WaitForLoops() {
  std::vector<std::shared_ptr<Loop>> loops;
  {
    std::lock_guard lock(mu_);
    loops = loops_;
  }
  for (auto& loop : loops) {
    if (!loop) continue;
    Event ran;
    if (loop->Post([&ran] { ran.Set(); })) ran.Wait();
  }
}

void Core::StopLoops() {
  std::vector<std::shared_ptr<Loop>> loops;
  {
    std::lock_guard lock(mu_);
    stopped_ = true;
    loops.swap(loops_);
  }
  for (auto& loop : loops) {
    if (loop) loop->Stop();
  }
  loops.clear();
  std::lock_guard lock(mu_);
  make_worker_ = nullptr;  // and with it what the workers shared
}

void Core::NotePath(const std::string& peer, const std::string& transports) {
  if (path_told_.exchange(true)) return;
  log::Info("rdma_path", {{"provider", provider_}, {"peer", peer}, {"transports", transports}});
}

}  // namespace perigee::rdma::rendezvous
