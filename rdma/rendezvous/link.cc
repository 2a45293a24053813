#include "rdma/rendezvous/link.h"

#include <utility>

#include "base/checksum.h"
#include "base/log.h"
#include "rdma/hello.h"

namespace perigee::rdma::rendezvous {

namespace {
constexpr Nanos kTick = 500 * kMillisecond;
constexpr uint32_t kSilentTicksMax = 6;  // then the peer is dead: three seconds
constexpr Nanos kLastWord = 300 * kMillisecond;

Nanos Now() { return RealClock::Get().Monotonic(); }
}  // namespace

// ---------------------------------------------------------------- opening and closing

Status Link::Connect(const SocketAddress& address) {
  limits_ = {kHelloBytesMax, 0};
  PERIGEE_ASSIGN(endpoint_, loop_->worker().Connect(address, this));
  return Status::Ok();
}

Status Link::Accept(std::shared_ptr<ConnectionRequest> request) {
  limits_ = {kHelloBytesMax, 0};
  PERIGEE_ASSIGN(endpoint_, loop_->worker().Accept(std::move(request), this));
  return Status::Ok();
}

void Link::BeginService(size_t body_max, PeerBytes* bytes) {
  bytes_ = bytes;
  limits_ = {body_max, kPieceBytesMax};
  last_tick_ = Now();
  ArmTick();
}

bool Link::Detach() {
  if (std::exchange(user_, nullptr) == nullptr) return false;
  loop_->Cancel(tick_);
  loop_->pulls().Drop(number_);
  parts_.clear();
  return true;
}

void Link::End(const Status& why) {
  why.Ignore();                    // a server has nobody to tell
  auto self = shared_from_this();  // the user may let go
  LinkUser* user = user_;
  if (!Detach()) return;
  if (endpoint_) endpoint_->Close();
  user->OnEnd(why);
}

void Link::Close() {
  if (Detach() && endpoint_) endpoint_->Close();
}

void Link::Leave(FrameKind last, std::string body) {
  if (user_ == nullptr || !endpoint_) return;
  bool holds = !held_.empty();
  if (!holds) SendControl(last, std::move(body));
  Detach();
  if (holds) return endpoint_->Close();
  // The peer closes when it has read it; to do so first could cost it the message.
  auto close = [self = shared_from_this()] { self->endpoint_->Close(); };
  if (loop_->At(Now() + kLastWord, close) == 0) close();
}

void Link::OnViolation(const Status& why) {
  log::Warn("rdma_peer_violation",
            {{"why", why}, {"provider", core_->provider()}, {"connection", number_}});
  End(Status(Code::kUnavailable, why.message()));
}

// ---------------------------------------------------------------- heartbeat

void Link::ArmTick() {
  tick_ = loop_->At(Now() + kTick, [weak = weak_from_this()] {
    if (auto self = weak.lock()) self->Tick();
  });
}

void Link::Tick() {
  Nanos now = Now();
  // A loop that was held up itself has not looked what came.
  bool on_time = now - std::exchange(last_tick_, now) < 2 * kTick;
  if (std::exchange(heard_, false)) {
    silent_ticks_ = 0;
  } else if (on_time && ++silent_ticks_ >= kSilentTicksMax) {
    log::Warn("rdma_peer_silent", {{"provider", core_->provider()}, {"connection", number_}});
    return End(Status(Code::kUnavailable, "the peer was silent for three seconds"));
  }
  for (const auto& [id, until] : held_) {
    if (until > now) continue;
    return OnViolation(Status(Code::kUnavailable, "announced bulk was never fetched"));
  }
  if (!std::exchange(spoken_, false)) SendControl(FrameKind::kPing, "");
  ArmTick();
}

// ---------------------------------------------------------------- sending

void Link::Transmit(FrameHeader head, std::string_view body_in_head,
                    std::unique_ptr<Sending> sending, Nanos fetch_by, std::function<void()> sent) {
  spoken_ = head.kind != FrameKind::kPing;
  sending->head = EncodeFrame(head, body_in_head);
  size_t copied = sending->copy.size();
  ++unsent_;
  unsent_bytes_ += copied;
  uint64_t held = 0;
  if (fetch_by != 0) {
    held = ++next_held_;
    held_.emplace(held, fetch_by);
  }
  sending->done = [self = shared_from_this(), copied, held,
                   sent = std::move(sent)](Status outcome) {
    // A failure is that of a lost connection, which shows by itself.
    if (outcome.ok() && held != 0) self->heard_ = true;
    --self->unsent_;
    self->unsent_bytes_ -= copied;
    self->held_.erase(held);
    if (sent) sent();
  };
  core_->CountSent(sending->head.size() + sending->data.size());
  endpoint_->Send(std::move(sending));
}

void Link::Send(Outgoing out) {
  if (user_ == nullptr) {
    if (out.sent) out.sent();
    return;
  }
  FrameHeader& head = out.head;
  head.body_len = static_cast<uint32_t>(out.body.size());
  head.bulk_len = static_cast<uint32_t>(out.bulk.size());
  if (bytes_ != nullptr && head.Carries()) {
    bytes_->CountSent(head.traffic, out.body.size() + out.bulk.size());
  }
  auto sending = std::make_unique<Sending>();
  if (!Announces(out.body.size(), out.bulk.size())) {
    head.data = DataKind::kPacked;
    sending->copy = std::move(out.body);
    sending->copy.append(AsView(out.bulk));
    sending->data = AsBytes(sending->copy);
    head.data_crc = Crc32c(sending->data);
    out.piece.Release();
    if (out.sent) out.sent();
    return Transmit(head, "", std::move(sending), 0, nullptr);
  }
  head.data = DataKind::kBodyInHead;
  if (out.body.size() > kBodyInHeadMax) {
    head.data = DataKind::kBodyApart;
    FrameHeader body;
    body.kind = FrameKind::kBody;
    body.id = head.id;
    body.body_len = head.body_len;
    body.data_crc = Crc32c(AsBytes(out.body));
    auto apart = std::make_unique<Sending>();
    apart->copy = std::move(out.body);
    apart->data = AsBytes(apart->copy);
    Transmit(body, "", std::move(apart), 0, nullptr);
    out.body.clear();
  }
  sending->piece = std::move(out.piece);
  sending->data = out.bulk;
  Transmit(head, out.body, std::move(sending), out.fetch_by, std::move(out.sent));
}

void Link::SendControl(FrameKind kind, std::string body) {
  Outgoing out;
  out.head.kind = kind;
  out.body = std::move(body);
  Send(std::move(out));
}

// ---------------------------------------------------------------- receiving

// On a slow way the peer's pings wait behind its bulk.
void Link::Pull(Source bulk, TrafficClass traffic, Nanos deadline, Puller::Done done) {
  bool over_the_way = bulk.announced != nullptr;
  loop_->pulls().Pull(number_, std::move(bulk), traffic, deadline,
                      [self = shared_from_this(), over_the_way, traffic,
                       done = std::move(done)](Result<Piece> piece) {
                        if (piece.ok() && self->bytes_ != nullptr) {
                          self->bytes_->CountReceived(traffic, piece->size());
                        }
                        if (piece.ok() && over_the_way) self->heard_ = true;
                        done(std::move(piece));
                      });
}

// Of an honest peer: one for each call in flight, and hello.
size_t Link::PartsMax() const { return core_->options().credits + 16; }

void Link::OnArrival(Arrival arrival) {
  if (user_ == nullptr) return;  // left, and the last word is still on its way
  heard_ = true;
  core_->CountReceived(arrival.head.size() + arrival.bytes);
  auto self = shared_from_this();
  Status st = Handle(std::move(arrival));
  if (!st.ok()) OnViolation(st);
}

Status Link::Handle(Arrival arrival) {
  if (!arrival.announced && arrival.data.size() != arrival.bytes) {
    return Status(Code::kCorrupt, "large data that was not announced");
  }
  std::string_view body;
  PERIGEE_ASSIGN(FrameHeader head,
                 DecodeFrame(AsBytes(arrival.head), arrival.bytes, limits_, &body));
  if (head.data == DataKind::kPacked) {
    if (arrival.announced) return PullBody(head, std::move(arrival));
    return Whole(head, std::move(arrival.data));
  }
  Incoming incoming;
  incoming.head = head;
  incoming.body = body;
  incoming.bulk.endpoint = endpoint_;
  incoming.bulk.bytes = head.bulk_len;
  incoming.bulk.crc = head.data_crc;
  if (arrival.announced) {
    incoming.bulk.announced = std::move(arrival.announced);
  } else if (Crc32c(AsBytes(arrival.data)) == head.data_crc) {
    incoming.bulk.copied = std::move(arrival.data);
  } else {
    return Status(Code::kCorrupt, "a bulk payload does not have its checksum");
  }
  if (head.data == DataKind::kBodyInHead) return Deliver(std::move(incoming));
  Part& part = parts_[head.id];
  if (part.main || parts_.size() > PartsMax()) {
    return Status(Code::kCorrupt, "a message without its body");
  }
  part.main = std::move(incoming);
  return Assemble(head.id);
}

// Small data has come along, or large data has been pulled.
Status Link::Whole(const FrameHeader& head, std::string data) {
  if (Crc32c(AsBytes(data)) != head.data_crc) {
    return Status(Code::kCorrupt, "a message does not have its checksum");
  }
  if (head.kind == FrameKind::kPing) return Status::Ok();
  if (head.kind == FrameKind::kGoAway) {
    End(Status(Code::kUnavailable, "the peer ended the connection"));
    return Status::Ok();
  }
  if (head.kind == FrameKind::kBody) {
    Part& part = parts_[head.id];
    if (part.body || head.bulk_len > 0 || parts_.size() > PartsMax()) {
      return Status(Code::kCorrupt, "a body without its message");
    }
    part.body = std::move(data);
    return Assemble(head.id);
  }
  Incoming incoming;
  incoming.head = head;
  incoming.bulk.bytes = head.bulk_len;
  incoming.bulk.copied = data.substr(head.body_len);
  data.resize(head.body_len);
  incoming.body = std::move(data);
  return Deliver(std::move(incoming));
}

Status Link::Deliver(Incoming incoming) {
  if (bytes_ != nullptr && incoming.head.Carries()) {
    bytes_->CountReceived(incoming.head.traffic, incoming.body.size());
  }
  return user_->OnIncoming(std::move(incoming));
}

Status Link::Assemble(uint64_t id) {
  auto it = parts_.find(id);
  if (!it->second.main || !it->second.body) return Status::Ok();
  Incoming incoming = std::move(*it->second.main);
  incoming.body = std::move(*it->second.body);
  parts_.erase(it);
  if (incoming.body.size() != incoming.head.body_len) {
    return Status(Code::kCorrupt, "a body of another length than its message says");
  }
  return Deliver(std::move(incoming));
}

Status Link::PullBody(const FrameHeader& head, Arrival arrival) {
  if (bodies_pulling_ >= PartsMax()) return Status(Code::kCorrupt, "too many bodies at once");
  ++bodies_pulling_;
  auto data = std::make_shared<std::string>(arrival.bytes, '\0');
  auto* to = reinterpret_cast<uint8_t*>(data->data());
  endpoint_->Pull(std::move(arrival.announced), to, arrival.bytes,
                  [self = shared_from_this(), head, data](Status pulled) {
                    --self->bodies_pulling_;
                    // A lost connection shows by itself.
                    if (!pulled.ok() || self->user_ == nullptr) return;
                    self->heard_ = true;
                    Status st = self->Whole(head, std::move(*data));
                    if (!st.ok()) self->OnViolation(st);
                  });
  return Status::Ok();
}

}  // namespace perigee::rdma::rendezvous
