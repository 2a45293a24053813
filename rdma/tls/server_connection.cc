#include "rdma/tls/server_connection.h"

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "rdma/tls/server_call.h"

namespace perigee::rdma::tls {

namespace {
constexpr size_t kUserHeaderMax = 256 << 10;  // of peers that are no nodes
constexpr uint32_t kNobody = 65534;
// A peer cannot hold our memory longer by asking for more time.
constexpr Nanos kDeadlineMax = 600 * kSecond;
constexpr size_t kFailureTextMax = 64 << 10;
}  // namespace

ServerConnection::ServerConnection(std::shared_ptr<Core> core, std::shared_ptr<EventLoop> loop,
                                   OwnedFd fd, std::string from, std::shared_ptr<Handler> handler,
                                   std::function<void(ServerConnection*)> on_closed)
    : Link(std::move(core), std::move(loop), Side::kServer),
      handler_(std::move(handler)),
      from_(std::move(from)),
      fd_(std::move(fd)),
      on_closed_(std::move(on_closed)),
      hello_(std::in_place, this->core().options()) {
  peer_.provider = "tls";
  peer_.connection = NextConnectionId();
  peer_.uid = peer_.gid = kNobody;
}

ServerConnection::~ServerConnection() = default;

// ---------------------------------------------------------------- opening and closing

void ServerConnection::PostOpen() {
  // A loop that has stopped has no connections to open.
  (void)loop()->Post(
      [self = std::static_pointer_cast<ServerConnection>(shared_from_this())] { self->Open(); });
}

void ServerConnection::Open() {
  if (closing_) return;
  auto context = core().context().Get();
  auto socket = TlsSocket::Server(std::move(fd_), context.get(), core().byte_counters());
  Status st = socket.ok() ? Begin(std::move(*socket)) : socket.status();
  if (!st.ok()) return OnEnd(st);
  hello_timer_ = loop()->At(RealClock::Get().Monotonic() + core().tls().handshake_timeout,
                            [weak = weak_from_this()] {
                              auto self = std::static_pointer_cast<ServerConnection>(weak.lock());
                              if (self && !self->served_)
                                self->Fail(Status(Code::kUnavailable, "no hello in time"));
                            });
}

void ServerConnection::PostClose(std::function<void()> done) {
  bool posted =
      loop()->Post([self = std::static_pointer_cast<ServerConnection>(shared_from_this()), done] {
        self->Close();
        if (done) done();
      });
  if (!posted && done) done();
}

void ServerConnection::Close() {
  if (std::exchange(closing_, true)) return;
  auto self = shared_from_this();
  loop()->Cancel(hello_timer_);
  End();
  for (auto& [id, request] : arriving_) loop()->Cancel(request.timer);
  arriving_.clear();  // answers into the void
  if (served_) handler_->OnDisconnect(peer_);
  if (auto on_closed = std::exchange(on_closed_, nullptr)) on_closed(this);
}

void ServerConnection::OnEnd(const Status& why) {
  if (closing_) return why.Ignore();
  bool went = why.Is(Code::kUnavailable);
  if (!served_ || !went) {
    log::Warn(went ? "rdma_connection_closed" : "rdma_peer_violation",
              {{"why", why}, {"from", from_}, {"connection", peer_.connection}});
  }
  Close();
}

// ---------------------------------------------------------------- hello

FrameLimits ServerConnection::Limits() const {
  if (!served_) return {kHelloBytesMax, 0};
  return {peer_.role == Role::kNode ? kHeaderBytesMax : kUserHeaderMax, kPieceBytesMax};
}

Status ServerConnection::HandleHello(const Frame& frame) {
  if (frame.head.kind == FrameKind::kHelloStart && !challenged_) {
    auto challenge = hello_->Challenge(frame.message);
    if (!challenge.ok()) return Refuse(challenge.status());
    challenged_ = true;
    Send({.kind = FrameKind::kHelloChallenge}, *challenge);
    return Status::Ok();
  }
  if (frame.head.kind == FrameKind::kHelloAnswer && challenged_) return Accept(frame.message);
  return Status(Code::kCorrupt, "hello out of order, or a call before it");
}

Status ServerConnection::Accept(std::string_view answer) {
  auto verified = hello_->Verify(answer);
  if (!verified.ok()) return Refuse(verified.status());
  if (!core().TakePlace()) return Refuse(Status(Code::kUnavailable, "connections_max reached"));
  peer_.role = verified->role;
  peer_.node_id = verified->node_id;
  if (peer_.role == Role::kNode) peer_.uid = peer_.gid = 0;
  KnowPeer(peer_.role, peer_.node_id);
  served_ = true;
  loop()->Cancel(hello_timer_);
  Send({.kind = FrameKind::kHelloVerdict}, hello_->Welcome());
  hello_.reset();
  return Status::Ok();
}

Status ServerConnection::Refuse(const Status& why) {
  // As far as it goes without waiting: the connection ends either way.
  Send({.kind = FrameKind::kHelloVerdict}, HelloServer::Refusal(why));
  Flush();
  return why;
}

// ---------------------------------------------------------------- requests

Status ServerConnection::OnFrame(const Frame& frame) {
  if (!served_) return HandleHello(frame);
  if (frame.head.kind == FrameKind::kRequest) return HandleRequest(frame);
  return Status(Code::kCorrupt, "a frame that only servers send, or a second hello");
}

Status ServerConnection::HandleRequest(const Frame& frame) {
  const FrameHeader& head = frame.head;
  if (head.id <= last_id_) return Status(Code::kCorrupt, "a call id was used again");
  last_id_ = head.id;
  if (in_flight_ >= core().options().credits) {
    return Status(Code::kCorrupt, "more calls in flight than granted");
  }
  ++in_flight_;
  core().CountCallIn();
  Nanos left = std::min<Nanos>(Nanos{head.timeout_us} * kMicrosecond, kDeadlineMax);
  auto self = std::static_pointer_cast<ServerConnection>(shared_from_this());
  auto call = std::make_unique<TlsServerCall>(
      self, static_cast<wire::Method>(head.method),
      CallTicket{head.id, head.traffic, RealClock::Get().Monotonic() + left},
      std::string(frame.message));
  if (head.bulk_len == 0) {
    handler_->OnCall(std::move(call));
    return Status::Ok();
  }
  Arriving request;
  request.timer = loop()->At(call->deadline(), [weak = weak_from_this(), id = head.id] {
    auto late = std::static_pointer_cast<ServerConnection>(weak.lock());
    if (late && !late->closing_) late->Late(id);
  });
  request.call = std::move(call);
  arriving_.emplace(head.id, std::move(request));
  return Expect(frame, head.traffic);
}

void ServerConnection::Late(uint64_t id) {
  auto it = arriving_.find(id);
  if (it == arriving_.end()) return;
  Drop(id, false);  // the answer says it
  auto call = std::move(it->second.call);
  arriving_.erase(it);
  call->Fail(Status(Code::kDeadlineExceeded, "the payload did not arrive in time"));
}

void ServerConnection::OnBulk(uint64_t id, Result<Piece> piece) {
  auto it = arriving_.find(id);
  auto call = std::move(it->second.call);
  loop()->Cancel(it->second.timer);
  arriving_.erase(it);
  if (piece.ok()) {
    call->bulk() = std::move(*piece);
    return handler_->OnCall(std::move(call));
  }
  call->Fail(piece.status());
}

// ---------------------------------------------------------------- answers

void ServerConnection::Reply(CallTicket ticket, Status status, Payload payload) {
  struct Parcel {
    Status status;
    Payload payload;
  };
  auto parcel = std::make_shared<Parcel>(std::move(status), std::move(payload));
  if (parcel->status.ok() &&
      (parcel->payload.header.size() > kHeaderBytesMax || !parcel->payload.fds.empty())) {
    parcel->payload = {};
    parcel->status = Status(Code::kInternal, "the handler's reply exceeds what a frame carries");
  }
  auto self = std::static_pointer_cast<ServerConnection>(shared_from_this());
  bool posted = loop()->Post([self, ticket, parcel] {
    if (!self->closing_) {
      self->Answer(ticket, parcel->status, std::move(parcel->payload));
      self->Flush();
    }
    parcel->status.Ignore();
  });
  if (!posted) parcel->status.Ignore();  // nobody is there to hear it
}

void ServerConnection::Answer(CallTicket ticket, const Status& status, Payload payload) {
  --in_flight_;
  FrameHeader head;
  head.kind = FrameKind::kResponse;
  head.id = ticket.id;
  head.traffic = ticket.traffic;
  head.method = static_cast<uint16_t>(status.code());
  if (!status.ok()) return Send(head, status.message().substr(0, kFailureTextMax));
  head.bulk_len = static_cast<uint32_t>(payload.bulk.size());
  ConstBytes bulk = payload.bulk.span();
  Send(head, payload.header, head.Announces() ? ConstBytes() : bulk);
  if (head.Announces())
    Offer(head, bulk, std::move(payload.bulk), ticket.deadline + core().tls().bulk_grace);
}

}  // namespace perigee::rdma::tls
