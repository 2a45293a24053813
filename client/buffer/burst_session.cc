#include "client/buffer/burst_session.h"

#include <algorithm>

namespace perigee::client {

using wire::Method;

namespace {

constexpr uint64_t kPoolBytesMax = 64 << 20;
constexpr Nanos kPingTimeout = 2 * kSecond;
constexpr Nanos kBackoffMin = 20 * kMillisecond;
constexpr Nanos kBackoffMax = 500 * kMillisecond;
constexpr Nanos kSlack = 5 * kSecond;  // on top of a wait that bufferd itself ends

bool ConnectionFailed(Code code) { return code == Code::kUnavailable; }

}  // namespace

Result<std::unique_ptr<BurstSession>> BurstSession::Connect(const std::string& socket,
                                                            Options options) {
  rdma::TransportOptions transport_options;
  rdma::SlabPool::Options pool;
  pool.bytes_max = kPoolBytesMax;
  PERIGEE_ASSIGN(transport_options.pool, rdma::SlabPool::Create(pool));
  PERIGEE_ASSIGN(std::unique_ptr<rdma::Transport> transport,
                 rdma::CreateLocalTransport(std::move(transport_options)));
  PERIGEE_ASSIGN(std::shared_ptr<rdma::Channel> channel, transport->Connect("local:" + socket));
  return std::unique_ptr<BurstSession>(
      new BurstSession(std::move(transport), std::move(channel), options));
}

std::unique_ptr<BurstSession> BurstSession::Over(std::shared_ptr<rdma::Channel> channel,
                                                 Options options) {
  return std::unique_ptr<BurstSession>(new BurstSession(nullptr, std::move(channel), options));
}

BurstSession::BurstSession(std::unique_ptr<rdma::Transport> transport,
                           std::shared_ptr<rdma::Channel> channel, Options options)
    : transport_(std::move(transport)),
      channel_(std::move(channel)),
      options_(options),
      meta_(channel_, {.timeout = options.timeout,
                       .durable_timeout = options.timeout,
                       .reconnect_timeout = options.reconnect_timeout}) {}

BurstSession::~BurstSession() {
  if (transport_) channel_->Close();
}

void BurstSession::NoteLost() {
  std::lock_guard lock(mu_);
  ++epoch_;
}

Status BurstSession::AwaitConnection() {
  Nanos waited = 0;
  Nanos backoff = kBackoffMin;
  while (true) {
    auto reply = rdma::Call<wire::Empty>(*channel_, Method::kPing, wire::Empty{}, {},
                                         {.timeout = kPingTimeout});
    Code code = reply.code();
    if (code == Code::kDeadlineExceeded) waited += kPingTimeout;
    // Any answer at all is a bufferd that is there.
    if (!ConnectionFailed(code) && code != Code::kDeadlineExceeded) return Status::Ok();
    if (waited >= options_.reconnect_timeout) {
      return std::move(reply).TakeStatus().With(channel_->Describe());
    }
    Event never;
    never.WaitFor(backoff);
    waited += backoff;
    backoff = std::min(backoff * 2, kBackoffMax);
  }
}

rdma::TrafficClass BurstSession::TrafficOf(Method method) {
  switch (method) {
    case Method::kBurstPublish:
    case Method::kBurstFsync:
    case Method::kBurstSync:
      return rdma::TrafficClass::kCheckpoint;
    default:
      return rdma::TrafficClass::kForeground;
  }
}

// For calls that do no harm when they happen twice.
template <class Reply, class Request>
Result<Reply> BurstSession::Repeat(Method method, const Request& request, Nanos timeout) {
  for (int attempt = 0;; ++attempt) {
    auto reply = rdma::Call<Reply>(*channel_, method, request, {},
                                   {.timeout = timeout, .traffic = TrafficOf(method)});
    if (reply.ok() || !ConnectionFailed(reply.code()) || attempt > 0) return reply;
    if (!channel_->Healthy()) NoteLost();
    PERIGEE_TRY(AwaitConnection());
  }
}

// `remote` came in an answer to an open. bufferd never gives a number out twice on one connection:
// seeing one that another handle has means that the connection is a new one, which nobody told us.
void BurstSession::NoteRemote(uint64_t handle, uint64_t remote) {
  for (const auto& [other, h] : handles_) {
    if (other != handle && h.remote == remote && h.epoch == epoch_) {
      ++epoch_;
      break;
    }
  }
  handles_[handle].remote = remote;
  handles_[handle].epoch = epoch_;
}

// `remote` belongs to another handle by now, so its connection is gone. Of any other number bufferd
// is told, also when the epoch grew since: a loss may be noted late, after the handle was opened on
// the next connection.
bool BurstSession::TakenByAnother(uint64_t handle, uint64_t remote) const {
  return std::any_of(handles_.begin(), handles_.end(), [&](const auto& other) {
    return other.first != handle && other.second.remote == remote && other.second.epoch == epoch_;
  });
}

Result<OpenedBurst> BurstSession::Opened(Result<rdma::TypedReply<wire::BurstOpenReply>> reply,
                                         wire::BurstOpenRequest again) {
  if (!reply.ok()) return std::move(reply).TakeStatus();
  if (reply->fds.empty()) return Status(Code::kInternal, "bufferd sent no descriptor");
  wire::BurstOpenReply& message = reply->message;
  OpenedBurst opened;
  opened.burst = message.burst;
  opened.kind = message.kind;
  opened.record = std::move(message.record);
  opened.size = message.size;
  opened.low_space = message.low_space;
  opened.fd = std::move(reply->fds[0]);
  opened.delegation = std::move(message.delegation);
  if (reply->fds.size() > 1) opened.delegation_page = std::move(reply->fds[1]);
  again.id = opened.record.id;
  again.path.clear();
  again.expect_burst = opened.burst;
  again.truncate = false;
  again.want_writable_fd = false;
  again.wait_fill_ms = 0;
  again.want_delegation = false;
  std::lock_guard lock(mu_);
  opened.handle = next_handle_++;
  handles_[opened.handle].again = std::move(again);
  NoteRemote(opened.handle, message.handle);
  return opened;
}

Result<OpenedBurst> BurstSession::Open(const wire::BurstOpenRequest& request) {
  Nanos timeout = options_.timeout + request.wait_fill_ms * kMillisecond;
  for (int attempt = 0;; ++attempt) {
    auto reply = rdma::CallFull<wire::BurstOpenReply>(*channel_, Method::kBurstOpen, request, {},
                                                      {.timeout = timeout});
    if (reply.ok() || !ConnectionFailed(reply.code()) || attempt > 0) {
      return Opened(std::move(reply), request);
    }
    if (!channel_->Healthy()) NoteLost();
    PERIGEE_TRY(AwaitConnection());
  }
}

Result<OpenedBurst> BurstSession::Create(const wire::BurstCreateRequest& request,
                                         Exclusive exclusive) {
  if (!channel_->Healthy()) {
    NoteLost();
    PERIGEE_TRY(AwaitConnection());
  }
  wire::BurstOpenRequest again;
  again.caller = request.caller;
  again.access = wire::Access::kWrite;
  for (int attempt = 0;; ++attempt) {
    auto reply = rdma::CallFull<wire::BurstOpenReply>(*channel_, Method::kBurstCreate, request, {},
                                                      {.timeout = options_.timeout});
    bool lost = !reply.ok() && ConnectionFailed(reply.code()) && !channel_->Healthy();
    if (!lost || exclusive == Exclusive::kYes || attempt > 0)
      return Opened(std::move(reply), std::move(again));
    NoteLost();
    PERIGEE_TRY(AwaitConnection());
  }
}

Status BurstSession::Reopen(std::unique_lock<std::mutex>& lock, uint64_t handle) {
  Handle& before = handles_[handle];
  before.reopening = true;
  wire::BurstOpenRequest request = before.again;
  // On a connection that still lives the old number must not keep the file open.
  bool release = !TakenByAnother(handle, before.remote);
  wire::BurstHandleRequest old;
  old.handle = before.remote;
  lock.unlock();
  if (release) {
    auto released = rdma::Call<wire::BurstStatReply>(*channel_, Method::kBurstRelease, old, {},
                                                     {.timeout = options_.timeout});
    released.status().Ignore();  // bufferd has just said that it does not know it
  }
  auto open = [&] {
    return rdma::CallFull<wire::BurstOpenReply>(*channel_, Method::kBurstOpen, request, {},
                                                {.timeout = options_.timeout});
  };
  auto reply = open();
  // bufferd may be back before objectd is.
  for (Nanos waited = 0; !reply.ok() && ConnectionFailed(reply.code()) &&
                         waited < options_.reconnect_timeout && channel_->Healthy();
       waited += kBackoffMax) {
    Event never;
    never.WaitFor(kBackoffMax);
    reply = open();
  }
  lock.lock();
  auto it = handles_.find(handle);
  changed_.NotifyAll();
  if (it == handles_.end()) return Status(Code::kStale, "released meanwhile");
  it->second.reopening = false;
  if (!reply.ok()) return std::move(reply).TakeStatus().With("opening again");
  NoteRemote(handle, reply->message.handle);
  return Status::Ok();
}

// bufferd's number for `handle`, opening it again when its connection is gone or when that number
// is `refused`.
Result<uint64_t> BurstSession::RemoteHandle(uint64_t handle, uint64_t refused) {
  std::unique_lock lock(mu_);
  while (true) {
    auto it = handles_.find(handle);
    if (it == handles_.end()) {
      return Status(Code::kStale, "no open burst file " + std::to_string(handle));
    }
    Handle& h = it->second;
    if (h.reopening) {
      changed_.Wait(lock);
      continue;
    }
    if (h.epoch == epoch_ && h.remote != refused) return h.remote;
    PERIGEE_TRY(Reopen(lock, handle));
    refused = 0;
  }
}

template <class Reply, class Request>
Result<Reply> BurstSession::WithHandle(Method method, Request request, Nanos timeout,
                                       ConstBytes bulk) {
  const uint64_t handle = request.handle;
  uint64_t refused = 0;
  bool reconnected = false;
  while (true) {
    if (!channel_->Healthy() && !reconnected) {
      reconnected = true;
      NoteLost();
      PERIGEE_TRY(AwaitConnection());
    }
    auto remote = RemoteHandle(handle, refused);
    if (!remote.ok()) {
      if (!ConnectionFailed(remote.code()) || reconnected) return std::move(remote).TakeStatus();
    } else {
      request.handle = *remote;
      auto reply = rdma::Call<Reply>(*channel_, method, request, bulk,
                                     {.timeout = timeout, .traffic = TrafficOf(method)});
      if (reply.ok()) return reply;
      bool unknown = reply.code() == Code::kStale || reply.code() == Code::kNotFound;
      if (unknown && refused == 0) {
        refused = *remote;
        continue;
      }
      if (!ConnectionFailed(reply.code()) || reconnected) return reply;
    }
    // Lost, or bufferd itself says that something behind it is away: one more try tells.
    reconnected = true;
    if (!channel_->Healthy()) NoteLost();
    PERIGEE_TRY(AwaitConnection());
  }
}

Result<wire::BurstStatReply> BurstSession::Publish(uint64_t handle) {
  wire::BurstHandleRequest request;
  request.handle = handle;
  return WithHandle<wire::BurstStatReply>(Method::kBurstPublish, std::move(request),
                                          options_.timeout);
}

Result<wire::BurstStatReply> BurstSession::Fsync(uint64_t handle, wire::Durability durability) {
  wire::BurstHandleRequest request;
  request.handle = handle;
  request.durability = durability;
  return WithHandle<wire::BurstStatReply>(Method::kBurstFsync, std::move(request),
                                          options_.wait_timeout);
}

Status BurstSession::Sync(wire::FileId id) {
  auto reply =
      Repeat<wire::Empty>(Method::kBurstSync, wire::BurstTarget{.id = id}, options_.wait_timeout);
  return reply.ok() ? Status::Ok() : std::move(reply).TakeStatus();
}

Status BurstSession::Ensure(uint64_t handle, uint64_t offset, uint64_t length) {
  wire::BurstEnsureRequest request;
  request.handle = handle;
  request.offset = offset;
  request.length = length;
  auto reply =
      WithHandle<wire::Empty>(Method::kBurstEnsure, std::move(request), options_.wait_timeout);
  return reply.ok() ? Status::Ok() : std::move(reply).TakeStatus();
}

Status BurstSession::Write(uint64_t handle, uint64_t offset, ConstBytes data) {
  while (!data.empty()) {
    ConstBytes piece = data.first(std::min(data.size(), rdma::kPieceBytesMax));
    wire::BurstWriteRequest request;
    request.handle = handle;
    request.offset = offset;
    auto reply = WithHandle<wire::Empty>(Method::kBurstWrite, std::move(request),
                                         options_.wait_timeout, piece);
    if (!reply.ok()) return std::move(reply).TakeStatus();
    offset += piece.size();
    data = data.subspan(piece.size());
  }
  return Status::Ok();
}

Result<wire::BurstStatReply> BurstSession::Truncate(uint64_t handle, uint64_t size) {
  wire::BurstTruncateRequest request;
  request.handle = handle;
  request.size = size;
  return WithHandle<wire::BurstStatReply>(Method::kBurstTruncate, std::move(request),
                                          options_.timeout);
}

Result<wire::BurstStatReply> BurstSession::TruncateFile(wire::FileId id, uint64_t size,
                                                        const wire::Caller& caller) {
  wire::BurstTruncateRequest request;
  request.caller = caller;
  request.id = id;
  request.size = size;
  return Repeat<wire::BurstStatReply>(Method::kBurstTruncate, request, options_.timeout);
}

Status BurstSession::Release(uint64_t handle) {
  wire::BurstHandleRequest request;
  {
    std::unique_lock lock(mu_);
    changed_.Wait(lock, [&] {
      auto it = handles_.find(handle);
      return it == handles_.end() || !it->second.reopening;
    });
    auto it = handles_.find(handle);
    if (it == handles_.end()) return Status(Code::kStale, "released already");
    request.handle = it->second.remote;
    bool taken = TakenByAnother(handle, request.handle);
    handles_.erase(it);
    if (taken) return Status::Ok();
  }
  if (!channel_->Healthy()) return Status::Ok();
  auto reply = rdma::Call<wire::BurstStatReply>(*channel_, Method::kBurstRelease, request, {},
                                                {.timeout = options_.timeout});
  Code code = reply.code();
  bool gone = ConnectionFailed(code) || code == Code::kStale || code == Code::kNotFound;
  return reply.ok() || gone ? Status::Ok() : std::move(reply).TakeStatus();
}

Result<wire::BurstStatReply> BurstSession::Stat(const wire::BurstTarget& target) {
  return Repeat<wire::BurstStatReply>(Method::kBurstStat, target, options_.timeout);
}

Result<wire::BurstBatchReply> BurstSession::Batch(Method method, const wire::BurstTarget& target) {
  Nanos timeout = options_.timeout;
  if (target.wait) {
    timeout =
        target.timeout_ms == 0 ? options_.wait_timeout : target.timeout_ms * kMillisecond + kSlack;
  }
  return Repeat<wire::BurstBatchReply>(method, target, timeout);
}

Result<wire::BurstBatchReply> BurstSession::Flush(const wire::BurstTarget& target) {
  return Batch(Method::kBurstFlush, target);
}

Result<wire::BurstBatchReply> BurstSession::Evict(const wire::BurstTarget& target) {
  return Batch(Method::kBurstEvict, target);
}

Result<wire::BurstBatchReply> BurstSession::Warm(const wire::BurstTarget& target) {
  return Batch(Method::kBurstWarm, target);
}

Result<wire::BurstBatchReply> BurstSession::Pin(const wire::BurstTarget& target) {
  return Batch(Method::kBurstPin, target);
}

Result<wire::BurstBatchReply> BurstSession::Hold(const wire::BurstTarget& target) {
  return Batch(Method::kBurstHold, target);
}

Result<rdma::Piece> BurstSession::Read(const wire::BurstReadRequest& request) {
  PERIGEE_ASSIGN(auto reply, rdma::CallFull<wire::Empty>(*channel_, Method::kBurstRead, request, {},
                                                         {.timeout = options_.timeout}));
  return std::move(reply.bulk);
}

Result<wire::BurstWatchReply> BurstSession::Watch(const wire::BurstWatchRequest& request) {
  return rdma::Call<wire::BurstWatchReply>(
      *channel_, Method::kBurstWatch, request, {},
      {.timeout = request.wait_ms * kMillisecond + options_.timeout});
}

Result<wire::BufferdStatusReply> BurstSession::BufferdStatus() {
  return Repeat<wire::BufferdStatusReply>(Method::kControlBufferdStatus, wire::Empty{},
                                          options_.timeout);
}

}  // namespace perigee::client
