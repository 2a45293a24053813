#include "rdma/rendezvous/client_connection.h"

#include <algorithm>
#include <utility>

#include "rdma/rendezvous/client_core.h"

namespace perigee::rdma::rendezvous {

namespace {
constexpr Nanos kFetchGrace = 2 * kSecond;  // after a call's deadline, for its bulk to be fetched

Nanos Now() { return RealClock::Get().Monotonic(); }
}  // namespace

ClientConnection::ClientConnection(std::shared_ptr<Core> core, std::shared_ptr<Loop> loop,
                                   std::shared_ptr<ClientCore> owner)
    : core_(std::move(core)),
      loop_(std::move(loop)),
      number_(NextConnectionId()),
      owner_(std::move(owner)),
      link_(std::make_shared<Link>(core_, loop_, number_, this)),
      hello_(std::in_place, core_->options()) {}

Status ClientConnection::Open(const SocketAddress& address) {
  PERIGEE_TRY(link_->Connect(address));
  hello_timer_ = loop_->At(Now() + kHelloTimeout, [weak = weak_from_this()] {
    auto self = weak.lock();
    if (self && !self->ready) {
      self->link_->End(Status(Code::kUnavailable, "no answer to hello"));
    }
  });
  link_->SendControl(FrameKind::kHelloStart, hello_->Start());
  return Status::Ok();
}

void ClientConnection::Close(bool politely) {
  loop_->Cancel(hello_timer_);
  owner_.reset();
  if (politely) {
    link_->Leave(FrameKind::kGoAway, "");
  } else {
    link_->Close();
  }
}

void ClientConnection::OnEnd(const Status& why) {
  loop_->Cancel(hello_timer_);
  if (auto owner = std::exchange(owner_, nullptr)) owner->Broken(shared_from_this(), why);
}

void ClientConnection::SendRequest(const std::shared_ptr<ClientCall>& call) {
  call->id = ++next_id_;
  in_flight.emplace(call->id, InFlight{call, call->traffic});
  credits.Take(call->traffic);
  Outgoing out;
  out.head.kind = FrameKind::kRequest;
  out.head.id = call->id;
  out.head.method = static_cast<uint16_t>(call->method);
  out.head.traffic = call->traffic;
  Nanos left_us = (call->deadline - Now()) / kMicrosecond;
  out.head.timeout_us = static_cast<uint32_t>(std::clamp<Nanos>(left_us, 1, UINT32_MAX));
  out.head.data_crc = call->bulk_crc;
  out.body = std::move(call->header);
  out.bulk = call->bulk;
  out.fetch_by = call->deadline + kFetchGrace;
  out.piece = std::move(call->staging);
  if (Link::Announces(out.body.size(), out.bulk.size())) {
    call->announced = true;
    out.sent = [owner = owner_, call] { owner->LetGo(call); };
  }
  link_->Send(std::move(out));
}

// ---------------------------------------------------------------- receiving

Status ClientConnection::OnIncoming(Incoming incoming) {
  if (!ready) return HandleHello(incoming);
  if (incoming.head.kind == FrameKind::kResponse) return HandleResponse(std::move(incoming));
  return Status(Code::kCorrupt, "a message that only clients send");
}

Status ClientConnection::HandleHello(const Incoming& incoming) {
  Status st;
  if (incoming.head.kind == FrameKind::kHelloChallenge) {
    auto answer = hello_->Answer(incoming.body);
    if (answer.ok()) {
      link_->SendControl(FrameKind::kHelloAnswer, *answer);
      return Status::Ok();
    }
    st = answer.status();
  } else if (incoming.head.kind == FrameKind::kHelloVerdict) {
    auto server = hello_->Finish(incoming.body);
    if (server.ok()) {
      loop_->Cancel(hello_timer_);
      ready = true;
      credits = Credits(std::min(server->credits, core_->options().credits));
      link_->BeginService(kHeaderBytesMax, core_->BytesWith(server->role, server->node_id));
      owner_->Ready(shared_from_this());
      return Status::Ok();
    }
    st = server.status();
  } else {
    return Status(Code::kCorrupt, "a call before hello");
  }
  link_->End(st);
  return Status::Ok();
}

Status ClientConnection::HandleResponse(Incoming incoming) {
  auto it = in_flight.find(incoming.head.id);
  if (it == in_flight.end()) return Status::Ok();  // nobody asked; its bulk is not fetched
  std::shared_ptr<ClientCall> call = std::move(it->second.call);
  TrafficClass traffic = it->second.traffic;
  credits.Give(traffic);
  in_flight.erase(it);
  auto owner = owner_;
  if (call && !call->finished) {
    uint16_t code = incoming.head.method;
    if (code != static_cast<uint16_t>(Code::kOk)) {
      if (code > static_cast<uint16_t>(Code::kInternal))
        code = static_cast<uint16_t>(Code::kInternal);
      owner->Finish(call, Status(static_cast<Code>(code), incoming.body));
    } else if (incoming.bulk.bytes == 0) {
      Payload payload;
      payload.header = std::move(incoming.body);
      owner->Finish(call, std::move(payload));
    } else {
      auto header = std::make_shared<std::string>(std::move(incoming.body));
      link_->Pull(std::move(incoming.bulk), traffic, call->deadline,
                  [self = shared_from_this(), owner, call, header](Result<Piece> piece) {
                    // A fault of the way here, not of what is stored over there.
                    if (piece.code() == Code::kCorrupt) {
                      owner->Finish(call, Status(Code::kUnavailable, piece.status().message()));
                      return self->link_->OnViolation(piece.status());
                    }
                    if (!piece.ok()) return owner->Finish(call, piece.status());
                    Payload payload;
                    payload.header = std::move(*header);
                    payload.bulk = std::move(*piece);
                    owner->Finish(call, std::move(payload));
                  });
    }
  }
  owner->Pump();
  return Status::Ok();
}

}  // namespace perigee::rdma::rendezvous
