#include "rdma/local/core.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>

namespace perigee::rdma::local {

namespace {
constexpr Nanos kTrimPeriod = 10 * kSecond;
}

Result<std::shared_ptr<Core>> Core::Create(TransportOptions options, LocalOptions local) {
  if (options.role == Role::kNode && options.cluster_secret.empty()) {
    return Status(Code::kInvalidArgument, "a node needs the cluster secret");
  }
  options.credits = std::clamp<uint32_t>(options.credits, 1, kLeaseSlots / 2);
  if (!options.pool) {
    PERIGEE_ASSIGN(options.pool, SlabPool::Create({}));
  }
  std::shared_ptr<Core> core(new Core());
  PERIGEE_ASSIGN(core->leases_, LeaseTable::Create());
  if (metrics::Registry* registry = options.metrics) {
    auto counter = [&](const char* name, const char* help, const char* direction) {
      return registry->GetCounter(name, help, {{"provider", "local"}, {"direction", direction}});
    };
    const char* bytes_help = "Bytes through the transport's connections.";
    const char* calls_help = "Calls made (out) and served (in).";
    core->bytes_.sent = counter("perigee_rdma_bytes_total", bytes_help, "out");
    core->bytes_.received = counter("perigee_rdma_bytes_total", bytes_help, "in");
    core->calls_out_ = counter("perigee_rdma_calls_total", calls_help, "out");
    core->calls_in_ = counter("perigee_rdma_calls_total", calls_help, "in");
  }
  core->options_ = std::move(options);
  core->local_ = local;
  core->owner_ = getpid();
  core->loops_.resize(std::clamp<uint32_t>(local.loops, 1, 64));
  return core;
}

bool Core::OwnProcess() const { return getpid() == owner_; }

Result<std::shared_ptr<EventLoop>> Core::NextLoop() {
  std::lock_guard lock(mu_);
  if (stopped_) return Status(Code::kCancelled, "the transport has stopped");
  size_t index = next_loop_++ % loops_.size();
  if (!loops_[index]) {
    PERIGEE_ASSIGN(loops_[index], EventLoop::Start("rdma-" + std::to_string(index)));
  }
  return loops_[index];
}

void Core::NoteBulk(metrics::Counter* counter, size_t bytes) {
  if (counter != nullptr) counter->Add(static_cast<double>(bytes));
  if (!trim_armed_.load(std::memory_order_relaxed) && !trim_armed_.exchange(true)) ArmTrim();
}

// Ticks only while the pool has slabs: an idle process sleeps.
void Core::ArmTrim() {
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

void Core::StopLoops() {
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

bool Core::TakePlace() {
  uint32_t taken = connections_.load();
  while (taken < options_.connections_max) {
    if (connections_.compare_exchange_weak(taken, taken + 1)) return true;
  }
  return false;
}

Result<SocketPath> SocketPath::Of(const std::string& path) {
  SocketPath out;
  sockaddr_un address{};
  static_assert(sizeof address <= sizeof out.address_);
  address.sun_family = AF_UNIX;
  std::string name = path;
  if (name.empty() || name.find('\0') != std::string::npos) {
    return Status(Code::kInvalidArgument, "not a socket path: \"" + path + "\"");
  }
  if (name.size() >= sizeof address.sun_path) {
    size_t slash = name.rfind('/');
    std::string dir = slash == std::string::npos ? "." : name.substr(0, slash + 1);
    out.dir_.Reset(open(dir.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (out.dir_.get() < 0) return Status::FromErrno(errno, "open " + dir);
    name = "/proc/self/fd/" + std::to_string(out.dir_.get()) + "/" + name.substr(slash + 1);
    if (name.size() >= sizeof address.sun_path) {
      return Status(Code::kInvalidArgument, "socket name too long: " + path);
    }
  }
  std::memcpy(address.sun_path, name.data(), name.size());
  std::memcpy(out.address_, &address, sizeof address);
  out.length_ = static_cast<uint32_t>(offsetof(sockaddr_un, sun_path) + name.size() + 1);
  return out;
}

}  // namespace perigee::rdma::local
