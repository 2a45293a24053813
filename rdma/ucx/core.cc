#include "rdma/ucx/core.h"

#include <unistd.h>

#include <algorithm>
#include <utility>

#include "base/event.h"
#include "base/log.h"

namespace perigee::rdma::ucx {

namespace {
constexpr Nanos kTrimPeriod = 10 * kSecond;
}

Result<std::shared_ptr<Core>> Core::Create(TransportOptions options, UcxOptions ucx) {
  if (options.role == Role::kNode && options.cluster_secret.empty()) {
    return Status(Code::kInvalidArgument, "a node needs the cluster secret");
  }
  options.credits = std::clamp<uint32_t>(options.credits, 1, 4096);
  if (!options.pool) {
    PERIGEE_ASSIGN(options.pool, SlabPool::Create({}));
  }
  std::shared_ptr<Core> core(new Core());
  if (metrics::Registry* registry = options.metrics) {
    auto counter = [&](const char* name, const char* help, const char* direction) {
      return registry->GetCounter(name, help, {{"provider", "ucx"}, {"direction", direction}});
    };
    const char* bytes_help = "Bytes through the transport's connections.";
    const char* calls_help = "Calls made (out) and served (in).";
    core->bytes_out_ = counter("perigee_rdma_bytes_total", bytes_help, "out");
    core->bytes_in_ = counter("perigee_rdma_bytes_total", bytes_help, "in");
    core->calls_out_ = counter("perigee_rdma_calls_total", calls_help, "out");
    core->calls_in_ = counter("perigee_rdma_calls_total", calls_help, "in");
  }
  core->loops_.resize(std::clamp<uint32_t>(ucx.loops, 1, 64));
  core->options_ = std::move(options);
  core->ucx_ = std::move(ucx);
  core->owner_ = getpid();
  return core;
}

bool Core::OwnProcess() const { return getpid() == owner_; }

Status Core::CheckInterface(const Interface& interface) const {
  if (interface.loopback || ucx_.fabric_trusted) return Status::Ok();
  for (const std::string& device : ucx_.devices) {
    if (device == interface.name) return Status::Ok();
  }
  return Status(Code::kPermissionDenied,
                "ucx on " + interface.name +
                    ": UCX over TCP lets a peer write this process's memory; list the interface "
                    "among ucx's devices, or say that the fabric is trusted");
}

Result<std::shared_ptr<Context>> Core::ContextLocked() {
  if (context_) return context_;
  ContextOptions options;
  options.shared_memory = ucx_.shared_memory;
  if (ucx_.fabric_trusted && ucx_.devices.empty()) {
    options.devices = "all";
  } else {
    options.devices = "lo";
    for (const std::string& device : ucx_.devices) {
      if (device != "lo") options.devices += "," + device;
    }
  }
  PERIGEE_ASSIGN(context_, Context::Create(options));
  if (ucx_.shared_memory && !context_->no_shared_memory().empty()) {
    log::Warn("rdma_ucx_no_shared_memory", {{"why", context_->no_shared_memory()},
                                            {"instead", "network devices " + options.devices}});
  }
  return context_;
}

Result<std::shared_ptr<Loop>> Core::NextLoop() {
  std::lock_guard lock(mu_);
  if (stopped_) return Status(Code::kCancelled, "the transport has stopped");
  size_t index = next_loop_++ % loops_.size();
  if (!loops_[index]) {
    PERIGEE_ASSIGN(auto context, ContextLocked());
    Loop::Options options{"ucx-" + std::to_string(index), ucx_.poll, options_.pool,
                          ucx_.pull_bytes_max};
    PERIGEE_ASSIGN(loops_[index], Loop::Start(std::move(context), std::move(options)));
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
  context_.reset();
}

bool Core::TakePlace() {
  uint32_t taken = connections_.load();
  while (taken < options_.connections_max) {
    if (connections_.compare_exchange_weak(taken, taken + 1)) return true;
  }
  return false;
}

void Core::NotePath(const std::string& peer, const std::string& transports) {
  if (path_told_.exchange(true)) return;
  log::Info("rdma_ucx_path", {{"peer", peer}, {"transports", transports}});
}

}  // namespace perigee::rdma::ucx
