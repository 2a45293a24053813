#include "rdma/rendezvous/server_connection.h"

#include <algorithm>
#include <utility>

#include "base/checksum.h"
#include "base/log.h"
#include "rdma/rendezvous/server_call.h"

namespace perigee::rdma::rendezvous {

namespace {
constexpr size_t kUserHeaderMax = 256 << 10;   // of peers without the secret
constexpr Nanos kDeadlineMax = 600 * kSecond;  // a peer cannot hold our memory longer
constexpr Nanos kFetchGrace = 2 * kSecond;     // after a call's deadline, for its bulk

constexpr Nanos kWayHereMax = 10 * kMillisecond;

Nanos Now() { return RealClock::Get().Monotonic(); }
}  // namespace

ServerConnection::ServerConnection(std::shared_ptr<Core> core, std::shared_ptr<Loop> loop,
                                   std::shared_ptr<Handler> handler,
                                   std::function<void(ServerConnection*)> on_closed)
    : core_(std::move(core)),
      loop_(std::move(loop)),
      peer_{.provider = core_->provider(), .connection = NextConnectionId()},
      handler_(std::move(handler)),
      on_closed_(std::move(on_closed)),
      link_(std::make_shared<Link>(core_, loop_, peer_.connection, this)),
      hello_(std::in_place, core_->options()) {}

// ---------------------------------------------------------------- opening and closing

void ServerConnection::Open(std::shared_ptr<ConnectionRequest> request) {
  Status st = link_->Accept(std::move(request));
  if (!st.ok()) {
    log::Warn("rdma_connection_refused", {{"why", st}, {"provider", core_->provider()}});
    return Close();
  }
  hello_timer_ = loop_->At(Now() + kHelloTimeout, [weak = weak_from_this()] {
    auto self = weak.lock();
    if (!self || self->phase_ == Phase::kServing) return;
    self->OnEnd(Status(Code::kUnavailable, "no hello in time"));
  });
}

void ServerConnection::PostClose(std::function<void()> done) {
  bool posted = loop_->Post([self = shared_from_this(), done] {
    if (self->phase_ == Phase::kServing) self->link_->Leave(FrameKind::kGoAway, "");
    self->Close();
    done();
  });
  if (!posted) done();
}

void ServerConnection::OnEnd(const Status& why) {
  if (phase_ == Phase::kAnswer) {
    // It has seen this side's proof.
    Unserved("rdma_connection_closed", "it may have another cluster secret: " + why.message());
  } else if (phase_ == Phase::kStart) {
    Unserved("rdma_connection_closed", "it did not say hello: " + why.message());
  }
  why.Ignore();
  Close();
}

void ServerConnection::Close() {
  auto self = shared_from_this();
  if (phase_ == Phase::kClosed) return;
  bool served = phase_ == Phase::kServing;
  phase_ = Phase::kClosed;
  loop_->Cancel(hello_timer_);
  link_->Close();
  if (served) handler_->OnDisconnect(peer_);
  if (auto on_closed = std::exchange(on_closed_, nullptr)) on_closed(this);
}

// ---------------------------------------------------------------- requests

Status ServerConnection::OnIncoming(Incoming incoming) {
  auto self = shared_from_this();
  switch (incoming.head.kind) {
    case FrameKind::kHelloStart:
    case FrameKind::kHelloAnswer:
      return HandleHello(incoming);
    case FrameKind::kRequest:
      if (phase_ != Phase::kServing) return Status(Code::kUnauthenticated, "a call before hello");
      return HandleRequest(std::move(incoming));
    default:
      return Status(Code::kCorrupt, "a message that only servers send");
  }
}

Status ServerConnection::HandleHello(const Incoming& incoming) {
  if (phase_ == Phase::kStart && incoming.head.kind == FrameKind::kHelloStart) {
    auto challenge = hello_->Challenge(incoming.body);
    if (!challenge.ok()) {
      Refuse(challenge.status());
      return Status::Ok();
    }
    phase_ = Phase::kAnswer;
    link_->SendControl(FrameKind::kHelloChallenge, *challenge);
    return Status::Ok();
  }
  if (phase_ != Phase::kAnswer || incoming.head.kind != FrameKind::kHelloAnswer) {
    return Status(Code::kCorrupt, "hello out of order");
  }
  auto verified = hello_->Verify(incoming.body);
  if (!verified.ok()) {
    Refuse(verified.status());
    return Status::Ok();
  }
  peer_.role = verified->role;
  peer_.node_id = verified->node_id;
  phase_ = Phase::kServing;
  loop_->Cancel(hello_timer_);
  link_->BeginService(peer_.role == Role::kNode ? kHeaderBytesMax : kUserHeaderMax,
                      core_->BytesWith(peer_.role, peer_.node_id));
  link_->SendControl(FrameKind::kHelloVerdict, hello_->Welcome());
  hello_.reset();
  core_->NotePath("accepted", link_->Transports());
  return Status::Ok();
}

// Strangers and nodes with a wrong secret come again and again.
void ServerConnection::Unserved(const char* event, const std::string& why) {
  auto left_out = core_->unserved().Pass(Now());
  if (!left_out) return;
  log::Warn(event, {{"why", why},
                    {"provider", core_->provider()},
                    {"connection", peer_.connection},
                    {"left_out", *left_out}});
}

void ServerConnection::Refuse(const Status& why) {
  Unserved("rdma_peer_violation", why.ToString());
  link_->Leave(FrameKind::kHelloVerdict, HelloServer::Refusal(why));
  Close();
}

Status ServerConnection::HandleRequest(Incoming incoming) {
  const FrameHeader& head = incoming.head;
  if (in_flight_.size() >= core_->options().credits) {
    return Status(Code::kCorrupt, "more calls in flight than granted");
  }
  if (link_->unsent() > 2 * core_->options().credits + 64 ||
      link_->unsent_bytes() > core_->options().credits * kHeaderBytesMax) {
    return Status(Code::kBusy, "the peer does not take its replies");
  }
  if (!in_flight_.insert(head.id).second) {
    return Status(Code::kCorrupt, "a call id was used again");
  }
  core_->CountCallIn();
  Nanos left = std::min<Nanos>(Nanos{head.timeout_us} * kMicrosecond, kDeadlineMax);
  Nanos deadline = Now() + left;
  TrafficClass traffic = head.traffic;
  auto call = std::make_unique<RendezvousServerCall>(
      shared_from_this(), static_cast<wire::Method>(head.method),
      CallTicket{head.id, traffic, deadline}, std::move(incoming.body));
  if (incoming.bulk.bytes == 0) {
    handler_->OnCall(std::move(call));
    return Status::Ok();
  }
  auto waiting = std::make_shared<std::unique_ptr<RendezvousServerCall>>(std::move(call));
  link_->Pull(std::move(incoming.bulk), traffic, deadline,
              [self = shared_from_this(), waiting](Result<Piece> piece) {
                auto call = std::move(*waiting);
                if (piece.ok() && self->phase_ == Phase::kServing) {
                  call->bulk() = std::move(*piece);
                  return self->handler_->OnCall(std::move(call));
                }
                if (piece.code() == Code::kCorrupt) self->link_->OnViolation(piece.status());
                call->Fail(piece.ok() ? Status(Code::kUnavailable, "closed") : piece.status());
              });
  return Status::Ok();
}

// ---------------------------------------------------------------- replies

void ServerConnection::SendReply(CallTicket ticket, const Status& status, Payload payload) {
  auto out = std::make_shared<Outgoing>();
  out->head.kind = FrameKind::kResponse;
  out->head.id = ticket.id;
  out->head.traffic = ticket.traffic;
  Code code = status.code();
  if (!status.ok()) {
    out->body = status.message().substr(0, 64 << 10);
  } else if (payload.header.size() > kHeaderBytesMax || payload.bulk.size() > kPieceBytesMax) {
    code = Code::kInternal;
    out->body = "the handler's reply exceeds what a message carries";
  } else {
    out->body = std::move(payload.header);
    out->piece = std::move(payload.bulk);
    out->bulk = out->piece.span();
  }
  out->head.method = static_cast<uint16_t>(code);
  out->fetch_by = std::max(ticket.deadline, Now()) + kFetchGrace;
  // Here and not on the loop, which others use.
  if (Link::Announces(out->body.size(), out->bulk.size())) out->head.data_crc = Crc32c(out->bulk);
  // After the loop's end there is nobody to answer.
  (void)loop_->Run([self = shared_from_this(), out] { self->Reply(std::move(*out)); });
}

void ServerConnection::Reply(Outgoing out) {
  if (phase_ != Phase::kServing) return;
  in_flight_.erase(out.head.id);
  link_->Send(std::move(out));
}

}  // namespace perigee::rdma::rendezvous
