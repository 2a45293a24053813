#include "rdma/ofi/worker.h"

#include <rdma/fabric.h>
#include <rdma/fi_cm.h>
#include <rdma/fi_domain.h>
#include <rdma/fi_endpoint.h>
#include <rdma/fi_eq.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "base/clock.h"
#include "base/log.h"
#include "rdma/ofi/ofi_status.h"

namespace perigee::rdma::ofi {

namespace {
constexpr Nanos kTeardownMax = 2 * kSecond;
constexpr Nanos kSoon = 1 * kMillisecond;
constexpr uint32_t kRefusalsMax = 100;
constexpr size_t kBatch = 16;
constexpr uint32_t kEventsEvery = 16;

Status Watched(int epoll, int fd) {
  epoll_event event{};
  event.events = EPOLLIN;
  if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0) return Status::Ok();
  return Status::FromErrno(errno, "epoll_ctl");
}

Status Failure(int error) {
  if (error == FI_ECANCELED) return Status(Code::kUnavailable, "the connection was lost");
  return FromFi(-error, "libfabric");
}
}  // namespace

// ---------------------------------------------------------------- life

Result<std::unique_ptr<OfiWorker>> OfiWorker::Create(std::shared_ptr<Fabric> fabric,
                                                     std::shared_ptr<SlabPool> pool) {
  std::unique_ptr<OfiWorker> out(new OfiWorker(std::move(fabric), std::move(pool)));
  out->epoll_.Reset(epoll_create1(EPOLL_CLOEXEC));
  out->signal_.Reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  out->timer_.Reset(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
  if (out->epoll_.get() < 0 || out->signal_.get() < 0 || out->timer_.get() < 0) {
    return Status::FromErrno(errno, "a loop's descriptors");
  }
  PERIGEE_TRY(Watched(out->epoll_.get(), out->signal_.get()));
  PERIGEE_TRY(Watched(out->epoll_.get(), out->timer_.get()));
  return out;
}

OfiWorker::~OfiWorker() {
  while (!endpoints_.empty()) {
    auto endpoint = endpoints_.begin()->second;
    endpoint->Close();
  }
  Nanos limit = RealClock::Get().Monotonic() + kTeardownMax;
  while (Progress() || (!retired_.empty() && RealClock::Get().Monotonic() < limit)) {
  }
  if (!retired_.empty()) log::Error("rdma_ofi_teardown", {{"endpoints", retired_.size()}});
  for (const auto& endpoint : retired_) endpoint->CloseNow();
  RunDeferred();
}

Result<Device*> OfiWorker::DeviceFor(const fi_info& info) {
  std::string key = FabricKey(info);
  auto it = devices_.find(key);
  if (it != devices_.end()) return it->second.get();
  PERIGEE_ASSIGN(fid_fabric * fabric, fabric_->Open(info));
  PERIGEE_ASSIGN(auto device, Device::Open(fabric, info, pool_));
  PERIGEE_TRY(Watch(&device->cq()->fid));
  PERIGEE_TRY(Watch(&device->eq()->fid));
  return devices_.emplace(key, std::move(device)).first->second.get();
}

// A queue's descriptor leaves the set by being closed.
Status OfiWorker::Watch(fid* queue) {
  int fd = -1;
  PERIGEE_TRY(FromFi(fi_control(queue, FI_GETWAIT, &fd), "FI_GETWAIT"));
  return Watched(epoll_.get(), fd);
}

Result<std::shared_ptr<rendezvous::Endpoint>> OfiWorker::Connect(
    const rendezvous::SocketAddress& address, rendezvous::EndpointUser* user) {
  PERIGEE_ASSIGN(InfoPtr info, fabric_->Find(address, Fabric::Side::kConnect));
  PERIGEE_ASSIGN(Device * device, DeviceFor(*info));
  PERIGEE_ASSIGN(auto endpoint, OfiEndpoint::Connect(this, device, *info, user));
  endpoints_.emplace(&endpoint->get()->fid, endpoint);
  return std::shared_ptr<rendezvous::Endpoint>(std::move(endpoint));
}

Result<std::shared_ptr<rendezvous::Endpoint>> OfiWorker::Accept(
    std::shared_ptr<rendezvous::ConnectionRequest> request, rendezvous::EndpointUser* user) {
  auto& ours = static_cast<OfiConnectionRequest&>(*request);
  PERIGEE_ASSIGN(Device * device, DeviceFor(ours.info()));
  PERIGEE_ASSIGN(auto endpoint, OfiEndpoint::Accept(this, device, ours, user));
  endpoints_.emplace(&endpoint->get()->fid, endpoint);
  return std::shared_ptr<rendezvous::Endpoint>(std::move(endpoint));
}

Result<std::unique_ptr<rendezvous::ListenSocket>> OfiWorker::Listen(
    const rendezvous::SocketAddress& address,
    std::function<void(std::shared_ptr<rendezvous::ConnectionRequest>)> on_request) {
  auto ended = [this](OfiListenSocket* socket) { listening_.erase(socket); };
  PERIGEE_ASSIGN(auto socket,
                 OfiListenSocket::Create(fabric_.get(), address, std::move(on_request), ended));
  PERIGEE_TRY(Watch(&socket->eq()->fid));
  listening_.insert(socket.get());
  return std::unique_ptr<rendezvous::ListenSocket>(std::move(socket));
}

void OfiWorker::Retire(const std::shared_ptr<OfiEndpoint>& endpoint) {
  std::erase_if(endpoints_, [&](const auto& entry) { return entry.second == endpoint; });
  blocked_.erase(endpoint);
  retired_.insert(endpoint);
}

// ---------------------------------------------------------------- progress

bool OfiWorker::Progress() {
  bool any = false;
  for (auto& [key, device] : devices_) any = ReadCompletions(device.get()) || any;
  if (!any || ++rounds_ % kEventsEvery == 0) {
    for (auto& [key, device] : devices_) any = ReadEvents(device.get()) || any;
    for (OfiListenSocket* socket : listening_) {
      if (!socket->Progress()) continue;
      any = true;
      break;  // whoever was told may have made or ended another
    }
  }
  any = RunDeferred() || any;
  any = Retry() || any;
  any = SettleRetired() || any;
  if (any) refusals_ = 0;
  return any;
}

bool OfiWorker::ReadCompletions(Device* device) {
  fi_cq_msg_entry entries[kBatch];
  ssize_t n = fi_cq_read(device->cq(), entries, kBatch);
  auto tell = [](void* context, const Status& outcome, size_t bytes) {
    outcome.Ignore();
    std::unique_ptr<Operation> operation(static_cast<Operation*>(context));
    auto endpoint = operation->endpoint;
    endpoint->OnCompletion(std::move(operation), outcome, bytes);
  };
  for (ssize_t i = 0; i < n; ++i) tell(entries[i].op_context, Status::Ok(), entries[i].len);
  if (n != -FI_EAVAIL) return n > 0;
  fi_cq_err_entry error{};
  if (fi_cq_readerr(device->cq(), &error, 0) < 1) return false;
  if (error.op_context != nullptr) tell(error.op_context, Failure(error.err), 0);
  return true;
}

bool OfiWorker::ReadEvents(Device* device) {
  // Behind the entry comes what the peer sent with its answer; we look at none of it.
  alignas(fi_eq_cm_entry) uint8_t event[sizeof(fi_eq_cm_entry) + 256];
  uint32_t kind = 0;
  ssize_t n = ReadEvent(device->eq(), &kind, event, sizeof event);
  if (n == -FI_EAVAIL) {
    fi_eq_err_entry error{};
    if (fi_eq_readerr(device->eq(), &error, 0) < 1) return false;
    Event(error.fid, FI_SHUTDOWN, Failure(error.err));
    return true;
  }
  if (n < static_cast<ssize_t>(sizeof(fi_eq_cm_entry))) return false;
  Event(reinterpret_cast<fi_eq_cm_entry*>(event)->fid, kind,
        Status(Code::kUnavailable, "the peer closed the connection"));
  return true;
}

void OfiWorker::Event(fid* which, uint32_t kind, Status failure) {
  failure.Ignore();
  auto it = endpoints_.find(which);
  if (it == endpoints_.end()) return;  // closed by us
  auto endpoint = it->second;
  if (kind == FI_CONNECTED) endpoint->OnConnected();
  // Not at once: what came before it may be in the completion queue still.
  if (kind == FI_SHUTDOWN) endpoint->FailSoon(std::move(failure));
}

bool OfiWorker::RunDeferred() {
  bool any = false;
  for (; !deferred_.empty(); any = true) {
    auto fn = std::move(deferred_.front());
    deferred_.pop_front();
    fn();
  }
  return any;
}

bool OfiWorker::Retry() {
  bool any = false;
  for (const auto& endpoint : std::exchange(blocked_, {})) {
    if (endpoint->Flush()) {
      any = true;
    } else {
      blocked_.insert(endpoint);
    }
  }
  return any;
}

bool OfiWorker::SettleRetired() {
  if (retired_.empty()) return false;
  Nanos now = RealClock::Get().Monotonic();
  return std::erase_if(retired_, [&](const auto& endpoint) { return endpoint->Settle(now); }) > 0;
}

// ---------------------------------------------------------------- sleeping

void OfiWorker::Signal() {
  uint64_t one = 1;
  // Fails only when the counter is full, and then the loop is awake.
  (void)!write(signal_.get(), &one, sizeof one);
}

void OfiWorker::WakeSoon() {
  itimerspec soon{};
  soon.it_value.tv_nsec = kSoon;
  timerfd_settime(timer_.get(), 0, &soon, nullptr);
}

bool OfiWorker::Arm() {
  if (!deferred_.empty()) return false;
  uint64_t count;
  (void)!read(signal_.get(), &count, sizeof count);
  (void)!read(timer_.get(), &count, sizeof count);
  if (!blocked_.empty() || !retired_.empty()) WakeSoon();
  bool quiet = true;
  for (auto& [key, device] : devices_) {
    fid* queues[] = {&device->cq()->fid, &device->eq()->fid};
    quiet = quiet && fi_trywait(device->fabric(), queues, 2) == FI_SUCCESS;
  }
  for (OfiListenSocket* socket : listening_) {
    fid* queue = &socket->eq()->fid;
    quiet = quiet && fi_trywait(socket->fabric(), &queue, 1) == FI_SUCCESS;
  }
  if (quiet) return true;
  if (++refusals_ < kRefusalsMax) return false;
  // 1.17's tcp can refuse for ever, with nothing to do (fixed in 1.18.1): it gets some rest.
  WakeSoon();
  return true;
}

}  // namespace perigee::rdma::ofi
