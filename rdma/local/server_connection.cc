#include "rdma/local/server_connection.h"

#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/log.h"
#include "rdma/local/server_call.h"

namespace perigee::rdma::local {

namespace {
constexpr size_t kUserHeaderMax = 256 << 10;  // of peers that are neither nodes nor this user
constexpr size_t kBacklogMax = 8 << 20;       // replies not taken: then no more requests are read
constexpr Nanos kDeadlineMax =
    600 * kSecond;  // a peer cannot hold our memory longer by asking for more time
}  // namespace

ServerConnection::ServerConnection(std::shared_ptr<Core> core, std::shared_ptr<EventLoop> loop,
                                   OwnedFd fd, Peer peer, std::shared_ptr<Handler> handler,
                                   std::function<void(ServerConnection*)> on_closed)
    : core_(std::move(core)),
      loop_(std::move(loop)),
      peer_(std::move(peer)),
      handler_(std::move(handler)),
      on_closed_(std::move(on_closed)),
      hello_(std::in_place, core_->options()),
      stream_(std::move(fd), core_->byte_counters()) {}

ServerConnection::~ServerConnection() = default;

bool ServerConnection::MayReadSlabs() const {
  // A slab holds other callers' payloads too: only those may see it who could read them anyway.
  return peer_.role == Role::kNode || peer_.uid == 0 || peer_.uid == geteuid();
}

FrameLimits ServerConnection::Limits() const {
  if (phase_ != Phase::kServing) return {kHelloBytesMax, 0};
  return {trusted_ ? kHeaderBytesMax : kUserHeaderMax, kInlineBulkMax};
}

// ---------------------------------------------------------------- opening and closing

void ServerConnection::PostOpen() {
  // A loop that has stopped has no connections to open.
  (void)loop_->Post([self = shared_from_this()] { self->Open(); });
}

void ServerConnection::Open() {
  if (phase_ == Phase::kClosed) return;
  stream_.set_on_backlog([weak = weak_from_this()] {
    if (auto self = weak.lock()) self->watch_.Add(EPOLLOUT);
  });
  hello_timer_ = loop_->At(RealClock::Get().Monotonic() + kHelloTimeout, [weak = weak_from_this()] {
    if (auto self = weak.lock(); self && self->phase_ != Phase::kServing) self->Close();
  });
  Status st = watch_.Begin(loop_, stream_.fd(), EPOLLIN | EPOLLRDHUP, shared_from_this());
  if (!st.ok()) {
    log::Warn("rdma_connection_refused", {{"why", st}});
    Close();
  }
}

void ServerConnection::PostClose(std::function<void()> done) {
  bool posted = loop_->Post([self = shared_from_this(), done] {
    self->Close();
    done();
  });
  if (!posted) done();
}

void ServerConnection::Close() {
  if (phase_ == Phase::kClosed) return;
  bool served = phase_ == Phase::kServing;
  phase_ = Phase::kClosed;
  watch_.End();
  loop_->Cancel(hello_timer_);
  loop_->Cancel(stalled_timer_);
  loop_->Cancel(sweep_timer_);
  std::map<uint64_t, Held> held;
  {
    std::lock_guard lock(stream_.write_mutex());
    closed_ = true;
    held.swap(held_);
  }
  held.clear();
  stalled_.reset();  // answers into the void
  stream_.Shutdown();
  if (served) handler_->OnDisconnect(peer_);
  if (auto on_closed = std::exchange(on_closed_, nullptr)) on_closed(this);
}

// ---------------------------------------------------------------- reading

void ServerConnection::OnReady(uint32_t events) {
  auto self = shared_from_this();  // Close drops the loop's reference
  if (phase_ == Phase::kClosed) return;
  if ((events & EPOLLOUT) != 0) {
    bool drained = false, broken = false;
    {
      std::lock_guard lock(stream_.write_mutex());
      auto flushed = stream_.Flush();
      broken = !flushed.ok();
      drained = flushed.ok() && *flushed;
      if (drained) watch_.Drop(EPOLLOUT);
    }
    if (broken) return Close();
    if (drained && !stalled_) {
      watch_.Add(EPOLLIN);
      HandleBuffered();
      if (phase_ == Phase::kClosed) return;
    }
  }
  if ((events & EPOLLIN) != 0 && !stalled_) return ReadOnce();
  if ((events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) Close();
}

void ServerConnection::ReadOnce() {
  auto got = stream_.Receive(0);
  if (!got.ok()) {
    log::Warn("rdma_connection_closed", {{"why", got.status()}, {"pid", peer_.pid}});
    return Close();
  }
  if (*got == Stream::Got::kEnd) return Close();
  HandleBuffered();
}

void ServerConnection::HandleBuffered() {
  Frame frame;
  while (phase_ != Phase::kClosed && !stalled_) {
    if (stream_.backlog() > kBacklogMax) {
      watch_.Drop(EPOLLIN);  // until OnReady has flushed
      return;
    }
    auto next = stream_.Next(Limits(), &frame);
    if (next.ok() && !*next) return;
    Status st = next.ok() ? Handle(frame) : std::move(next).TakeStatus();
    if (!st.ok()) {
      log::Warn(
          "rdma_peer_violation",
          {{"why", st}, {"pid", peer_.pid}, {"uid", peer_.uid}, {"connection", peer_.connection}});
      return Close();
    }
  }
}

Status ServerConnection::Handle(Frame& frame) {
  size_t fds_expected = frame.head.kind == FrameKind::kSlab ? 1 : 0;
  if (frame.fds.size() != fds_expected) {
    return Status(Code::kCorrupt, "descriptors where none belong");
  }
  switch (frame.head.kind) {
    case FrameKind::kHelloStart:
    case FrameKind::kHelloAnswer:
      return HandleHello(frame);
    default:
      break;
  }
  if (phase_ != Phase::kServing) return Status(Code::kUnauthenticated, "a call before hello");
  switch (frame.head.kind) {
    case FrameKind::kRequest:
      return HandleRequest(frame);
    case FrameKind::kSlab:
      return slabs_.Announce(frame.head.ref.slab, frame.head.ref.offset, std::move(frame.fds[0]));
    case FrameKind::kForgetSlab:
      return slabs_.Forget(frame.head.ref.slab);
    case FrameKind::kPulled:
      return HandlePulled(frame.head.id);
    default:
      return Status(Code::kCorrupt, "a frame that only servers send");
  }
}

Status ServerConnection::HandleHello(Frame& frame) {
  if (phase_ == Phase::kStart && frame.head.kind == FrameKind::kHelloStart) {
    auto challenge = hello_->Challenge(frame.message);
    if (!challenge.ok()) return Refuse(challenge.status());
    phase_ = Phase::kAnswer;
    return SendControl(FrameKind::kHelloChallenge, *challenge);
  }
  if (phase_ == Phase::kAnswer && frame.head.kind == FrameKind::kHelloAnswer) {
    return Accept(frame.message);
  }
  return Status(Code::kCorrupt, "hello out of order");
}

Status ServerConnection::Accept(std::string_view answer) {
  auto verified = hello_->Verify(answer);
  if (!verified.ok()) return Refuse(verified.status());
  peer_.role = verified->role;
  peer_.node_id = verified->node_id;
  trusted_ = MayReadSlabs();
  bytes_ = core_->BytesWith(peer_.role, peer_.node_id);
  phase_ = Phase::kServing;
  loop_->Cancel(hello_timer_);
  Status st = SendControl(FrameKind::kHelloVerdict, hello_->Welcome());
  hello_.reset();
  return st;
}

Status ServerConnection::Refuse(const Status& why) {
  // Best effort: the connection ends either way.
  SendControl(FrameKind::kHelloVerdict, HelloServer::Refusal(why)).Ignore();
  return why;
}

Status ServerConnection::SendControl(FrameKind kind, std::string_view message) {
  FrameHeader head;
  head.kind = kind;
  head.header_len = static_cast<uint32_t>(message.size());
  std::lock_guard lock(stream_.write_mutex());
  return stream_.Send(head, message, {}, {});
}

// ---------------------------------------------------------------- requests

Status ServerConnection::HandleRequest(Frame& frame) {
  const FrameHeader& head = frame.head;
  if (head.id <= last_id_) return Status(Code::kCorrupt, "a call id was used again");
  last_id_ = head.id;
  if (in_flight_.load() >= core_->options().credits) {
    return Status(Code::kCorrupt, "more calls in flight than granted");
  }
  in_flight_.fetch_add(1);
  core_->CountCallIn();
  bytes_->CountReceived(head.traffic, frame.message.size() + head.bulk_len);
  Nanos left = std::min<Nanos>(Nanos{head.timeout_us} * kMicrosecond, kDeadlineMax);
  auto call = std::make_unique<LocalServerCall>(
      shared_from_this(), static_cast<wire::Method>(head.method),
      CallTicket{head.id, head.traffic, RealClock::Get().Monotonic() + left},
      std::string(frame.message));
  if (head.bulk == BulkKind::kNone) {
    Deliver(std::move(call));
    return Status::Ok();
  }
  Stalled request{std::move(call), std::nullopt, ""};
  if (head.bulk == BulkKind::kSlab) {
    PERIGEE_ASSIGN(request.source, slabs_.Find(head.ref, head.bulk_len));
    if (peer_.role == Role::kNode && handler_->TakesLent(request.call->method())) {
      auto lent = request.source->Lend(nullptr);
      if (lent.ok()) {
        request.call->bulk() = std::move(lent).value();
        core_->NoteBulkIn(head.bulk_len);
        Deliver(std::move(request.call));
        return Status::Ok();
      }
      lent.status().Ignore();  // a copy does as well
    }
  }
  Piece piece = AllocateOrWatch(head.bulk_len);
  if (piece && !request.source) {
    std::memcpy(piece.data(), frame.inline_bulk.data(), frame.inline_bulk.size());
    request.call->bulk() = std::move(piece);
    Deliver(std::move(request.call));
    return Status::Ok();
  }
  if (piece) return FillBulk(request, std::move(piece));
  if (!request.source) request.inline_bulk.assign(AsView(frame.inline_bulk));
  stalled_.emplace(std::move(request));
  watch_.Drop(EPOLLIN);
  stalled_timer_ = loop_->At(stalled_->call->deadline(), [weak = weak_from_this()] {
    if (auto self = weak.lock()) self->RetryStalled();
  });
  return Status::Ok();
}

// A payload that its sender withdrew means a call that its sender gave up: nobody waits for it.
Status ServerConnection::FillBulk(Stalled& request, Piece piece) {
  if (request.source) {
    Status st = request.source->CopyTo(piece.data());
    core_->NoteBulkIn(request.source->bytes());
    if (st.Is(Code::kCorrupt)) {
      request.call->Fail(st);
      return st;
    }
    if (!st.ok()) {
      request.call->Fail(st);
      return Status::Ok();
    }
  } else {
    std::memcpy(piece.data(), request.inline_bulk.data(), request.inline_bulk.size());
  }
  request.call->bulk() = std::move(piece);
  Deliver(std::move(request.call));
  return Status::Ok();
}

void ServerConnection::Deliver(std::unique_ptr<LocalServerCall> call) {
  handler_->OnCall(std::move(call));
}

// At most one registration with the pool at a time; the second try closes the gap before it.
Piece ServerConnection::AllocateOrWatch(size_t bytes) {
  Piece piece = core_->pool().TryAllocate(bytes);
  if (piece || watching_pool_) return piece;
  watching_pool_ = true;
  core_->pool().OnNextFree([loop = loop_, weak = weak_from_this()] {
    // After Stop nobody waits for the buffer.
    (void)loop->Post([weak] {
      auto self = weak.lock();
      if (!self) return;
      self->watching_pool_ = false;
      self->RetryStalled();
    });
  });
  return core_->pool().TryAllocate(bytes);
}

void ServerConnection::RetryStalled() {
  if (!stalled_ || phase_ == Phase::kClosed) return;
  size_t bytes = stalled_->source ? stalled_->source->bytes() : stalled_->inline_bulk.size();
  bool late = RealClock::Get().Monotonic() >= stalled_->call->deadline();
  Piece piece = late ? Piece() : AllocateOrWatch(bytes);
  if (!piece && !late) return;
  Stalled request = std::move(*stalled_);
  stalled_.reset();
  loop_->Cancel(stalled_timer_);
  Status st;
  if (late) {
    request.call->Fail(Status(Code::kDeadlineExceeded, "no buffer for the payload came free"));
  } else {
    st = FillBulk(request, std::move(piece));
  }
  if (!st.ok()) {
    log::Warn("rdma_peer_violation", {{"why", st}, {"pid", peer_.pid}});
    return Close();
  }
  watch_.Add(EPOLLIN);
  HandleBuffered();
}

}  // namespace perigee::rdma::local
