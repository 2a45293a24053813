#include "rdma/tls/link.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace perigee::rdma::tls {

namespace {
constexpr size_t kBufferMin = 16 << 10;  // a record
constexpr size_t kTurnBytes = 1 << 20;   // of one connection, before others of the loop
constexpr size_t kBacklogMax = 8 << 20;  // answers not taken: then no more requests are read
constexpr Nanos kBeatsPerDeath = 3;

Nanos Now() { return RealClock::Get().Monotonic(); }
}  // namespace

Link::Link(std::shared_ptr<Core> core, std::shared_ptr<EventLoop> loop, Side side)
    : core_(std::move(core)),
      loop_(std::move(loop)),
      side_(side),
      in_(core_->options().class_age),
      responses_(core_->options().class_age),
      out_(core_->options().class_age) {}

Link::~Link() = default;

// ---------------------------------------------------------------- life

Status Link::Begin(std::unique_ptr<TlsSocket> socket) {
  socket_ = std::move(socket);
  if (side_ == Side::kServer) phase_ = Phase::kHandshake;
  heard_ = spoke_ = Now();
  return watch_.Begin(loop_, socket_->fd(), EPOLLIN | EPOLLOUT, shared_from_this());
}

void Link::Fail(Status why) {
  if (ended()) return;
  // After the loop's end nobody waits for this.
  (void)loop_->Post([self = shared_from_this(), why = std::make_shared<Status>(std::move(why))] {
    self->EndWith(*why);
    why->Ignore();
  });
}

void Link::End() {
  phase_ = Phase::kEnded;
  watch_.End();
  loop_->Cancel(tick_);
  if (socket_) socket_->Shutdown();
  in_.Clear();
  out_.Clear();
  piece_.reset();
  small_.clear();
  responses_.Clear();
}

void Link::EndWith(const Status& why) {
  if (ended()) return;
  End();
  OnEnd(why);
}

void Link::OnReady(uint32_t) {
  auto self = shared_from_this();
  if (ended()) return;
  Status st = Advance();
  if (st.ok() && phase_ == Phase::kOpen) {
    st = ReadSome();
    Status written = ended() ? Status::Ok() : WriteSome();
    if (st.ok()) st = std::move(written);
    written.Ignore();  // what the peer said before it went explains more
  }
  if (!st.ok()) EndWith(st);
}

// Connecting and the TLS handshake, as far as they go now.
Status Link::Advance() {
  if (phase_ == Phase::kConnecting) {
    int error = 0;
    socklen_t length = sizeof error;
    if (getsockopt(socket_->fd(), SOL_SOCKET, SO_ERROR, &error, &length) != 0) error = errno;
    if (error != 0) {
      return Status(Code::kUnavailable, Status::FromErrno(error, "connect").message());
    }
    phase_ = Phase::kHandshake;
  }
  if (phase_ != Phase::kHandshake) return Status::Ok();
  PERIGEE_ASSIGN(TlsSocket::Outcome outcome, socket_->Handshake());
  if (outcome.want == TlsSocket::Want::kEnd) {
    return Status(Code::kUnavailable, "the peer hung up during the TLS handshake");
  }
  if (outcome.want == TlsSocket::Want::kNothing) {
    phase_ = Phase::kOpen;
    heard_ = Now();
    ArmTick();
    OnOpen();
  }
  if (outcome.want == TlsSocket::Want::kRead) watch_.Drop(EPOLLOUT);
  if (outcome.want == TlsSocket::Want::kWrite) watch_.Add(EPOLLOUT);
  return Status::Ok();
}

// ---------------------------------------------------------------- reading

Status Link::ReadSome() {
  if (paused_) return Status::Ok();
  size_t budget = kTurnBytes;
  while (!ended()) {
    size_t got = 0;
    TlsSocket::Want want = TlsSocket::Want::kNothing;
    if (piece_left_ > 0 && begin_ == end_) {
      // Straight to where it belongs.
      uint8_t* place = in_.Place(piece_id_);
      if (place == nullptr) buffer_.resize(std::max(buffer_.size(), kBufferMin));
      size_t room = place != nullptr ? piece_left_ : std::min(piece_left_, buffer_.size());
      PERIGEE_ASSIGN(TlsSocket::Outcome outcome,
                     socket_->Read({place != nullptr ? place : buffer_.data(), room}));
      got = outcome.bytes;
      want = outcome.want;
      if (got > 0) PERIGEE_TRY(PieceArrived(got));
    } else {
      if (begin_ == end_) begin_ = end_ = 0;
      if (begin_ > 0 && buffer_.size() - end_ < kBufferMin / 2) {
        std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
        end_ -= begin_;
        begin_ = 0;
      }
      // Grows with what arrived, not with what a header claims.
      if (buffer_.size() - end_ < kBufferMin / 2) {
        buffer_.resize(std::max(kBufferMin, 2 * buffer_.size()));
      }
      PERIGEE_ASSIGN(TlsSocket::Outcome outcome,
                     socket_->Read({buffer_.data() + end_, buffer_.size() - end_}));
      got = outcome.bytes;
      want = outcome.want;
      end_ += got;
      if (got > 0) PERIGEE_TRY(Parse());
    }
    if (want == TlsSocket::Want::kEnd) {
      return Status(Code::kUnavailable, "the peer closed the connection");
    }
    if (got == 0) {
      if (begin_ == end_ && buffer_.size() > kBufferMin) std::vector<uint8_t>().swap(buffer_);
      return Status::Ok();
    }
    heard_ = Now();
    if (paused_) return Status::Ok();
    budget -= std::min(budget, got);
    if (budget == 0) {
      // OpenSSL may hold bytes that the socket does not show any more.
      if (!std::exchange(again_, true)) {
        (void)loop_->Post([self = shared_from_this()] {
          self->again_ = false;
          if (!self->ended()) self->OnReady(EPOLLIN);
        });
      }
      return Status::Ok();
    }
  }
  return Status::Ok();
}

// Every whole frame in the buffer, and what it has of a piece.
Status Link::Parse() {
  while (!ended() && begin_ < end_ && !paused_) {
    size_t have = end_ - begin_;
    const uint8_t* at = buffer_.data() + begin_;
    if (piece_left_ > 0) {
      size_t bytes = std::min(have, piece_left_);
      if (uint8_t* place = in_.Place(piece_id_)) std::memcpy(place, at, bytes);
      begin_ += bytes;
      PERIGEE_TRY(PieceArrived(bytes));
      continue;
    }
    if (have < kFrameBytes) return Status::Ok();
    Frame frame;
    PERIGEE_ASSIGN(frame.head, DecodeFrame(at, Limits()));
    size_t total = kFrameBytes + frame.head.BodyBytes();
    if (have < total) return Status::Ok();
    frame.message = AsView(ConstBytes(at + kFrameBytes, frame.head.header_len));
    frame.inline_bulk =
        ConstBytes(at + kFrameBytes + frame.head.header_len, frame.head.InlineBytes());
    begin_ += total;
    PERIGEE_TRY(Handle(frame));
    if (side_ == Side::kServer && small_bytes_ > kBacklogMax) {
      paused_ = true;  // until WriteSome has made room
      watch_.Drop(EPOLLIN);
    }
  }
  return Status::Ok();
}

Status Link::Handle(const Frame& frame) {
  const FrameHeader& head = frame.head;
  switch (head.kind) {
    case FrameKind::kGrant:
      return out_.Grant(head.id, Now());
    case FrameKind::kDecline:
      // It may cross with the last piece, and then means nothing.
      if (out_.Drop(head.id)) Send({.kind = FrameKind::kWithdraw, .id = head.id});
      out_.Forget(head.id);
      return Status::Ok();
    case FrameKind::kData:
      PERIGEE_TRY(in_.BeginPiece(head));
      piece_id_ = head.id;
      piece_left_ = head.bulk_len;
      return Status::Ok();
    case FrameKind::kWithdraw:
      if (in_.Withdrawn(head.id)) {
        OnBulk(head.id, Status(Code::kUnavailable, "the sender withdrew the payload"));
      }
      GrantSome();
      return Status::Ok();
    case FrameKind::kBeat:
      return Status::Ok();
    default:
      if (bytes_ != nullptr && head.Carries())
        bytes_->CountReceived(head.traffic, head.BodyBytes());
      return OnFrame(frame);
  }
}

Status Link::PieceArrived(size_t bytes) {
  piece_left_ -= bytes;
  if (bytes_ != nullptr) bytes_->CountReceived(in_.TrafficOf(piece_id_), bytes);
  if (in_.Received(piece_id_, bytes)) OnBulk(piece_id_, in_.Take(piece_id_));
  if (piece_left_ == 0) GrantSome();
  return Status::Ok();
}

// ---------------------------------------------------------------- payloads

Status Link::Expect(const Frame& frame, TrafficClass traffic) {
  PERIGEE_TRY(in_.Expect({frame.head.id, traffic, frame.head.bulk_len},
                         std::string(AsView(frame.inline_bulk)), Now()));
  GrantSome();
  return Status::Ok();
}

// At most one registration with the pool at a time; the second try closes the gap before it.
void Link::GrantSome() {
  while (auto wanted = in_.Wanted(Now())) {
    Piece piece = core_->pool().TryAllocate(wanted->bytes);
    if (!piece && !watching_pool_) {
      watching_pool_ = true;
      std::weak_ptr<Link> weak = weak_from_this();
      core_->pool().OnNextFree([loop = loop_, weak] {
        // After Stop nobody waits for the buffer.
        (void)loop->Post([weak] {
          auto self = weak.lock();
          if (!self) return;
          self->watching_pool_ = false;
          if (self->ended()) return;
          self->GrantSome();
          self->Flush();
        });
      });
      piece = core_->pool().TryAllocate(wanted->bytes);
    }
    if (!piece) return;
    core_->NotePoolUse();
    BulkIn::Started started = in_.Start(*wanted, std::move(piece), Now());
    if (started.here) {
      OnBulk(started.id, in_.Take(started.id));
    } else {
      Send({.kind = FrameKind::kGrant, .id = started.id});
    }
  }
}

void Link::Drop(uint64_t id, bool tell) {
  BulkIn::Dropped dropped = in_.Drop(id, Now() + core_->tls().bulk_grace);
  if (tell && dropped != BulkIn::Dropped::kUnknown) Decline(id);
  if (dropped == BulkIn::Dropped::kWaiting) GrantSome();
}

void Link::Decline(uint64_t id) { Send({.kind = FrameKind::kDecline, .id = id}); }

void Link::Withdraw(uint64_t id, bool answered) {
  if (piece_ && piece_->id == id && piece_copy_.empty()) {
    // Its frame has begun and must have its bytes.
    piece_copy_.assign(piece_->bytes.begin(), piece_->bytes.end());
    piece_->bytes = piece_copy_;
  }
  bool granted = out_.Drop(id);
  if (granted || !answered) Send({.kind = FrameKind::kWithdraw, .id = id});
  if (answered) out_.Forget(id);
}

// ---------------------------------------------------------------- writing

void Link::Send(const FrameHeader& head, std::string_view message, ConstBytes inline_bulk) {
  if (ended()) return;
  std::string text = FrameText(head, message, inline_bulk);
  small_bytes_ += text.size();
  if (bytes_ != nullptr && head.Carries()) {
    bytes_->CountSent(head.traffic, message.size() + inline_bulk.size());
  }
  if (head.kind == FrameKind::kResponse) {
    responses_.Push(head.traffic, std::move(text), Now());
  } else {
    small_.push_back(std::move(text));
  }
}

void Link::Flush() {
  if (phase_ != Phase::kOpen) return;
  Status st = WriteSome();
  if (!st.ok()) Fail(std::move(st));
}

bool Link::Writing() const {
  return !text_left_.empty() || piece_ || small_bytes_ > 0 || out_.HasPiece();
}

bool Link::TakeSmall() {
  if (!small_.empty()) {
    text_ = std::move(small_.front());
    small_.pop_front();
  } else if (auto traffic = responses_.Next(Now())) {
    text_ = responses_.Pop(*traffic, Now());
  } else {
    return false;
  }
  small_bytes_ -= text_.size();
  text_left_ = AsBytes(text_);
  return true;
}

// False: there is nothing to write.
bool Link::ChooseNext() {
  if (!text_left_.empty()) return true;
  if (piece_) return true;
  if (TakeSmall()) return true;
  piece_ = out_.TakePiece(Now());
  if (!piece_) return false;
  if (bytes_ != nullptr) bytes_->CountSent(piece_->traffic, piece_->bytes.size());
  FrameHeader head;
  head.kind = FrameKind::kData;
  head.id = piece_->id;
  head.offset = piece_->offset;
  head.bulk_len = static_cast<uint32_t>(piece_->bytes.size());
  EncodeFrame(head, piece_head_.data());
  text_left_ = piece_head_;
  return true;
}

Status Link::WriteSome() {
  size_t budget = kTurnBytes;
  while (ChooseNext()) {
    bool text = !text_left_.empty();
    ConstBytes& left = text ? text_left_ : piece_->bytes;
    PERIGEE_ASSIGN(TlsSocket::Outcome outcome, socket_->Write(left));
    if (outcome.want == TlsSocket::Want::kEnd) {
      return Status(Code::kUnavailable, "the peer closed the connection");
    }
    if (outcome.bytes == 0) {
      watch_.Add(EPOLLOUT);
      return Status::Ok();
    }
    spoke_ = Now();
    if (paused_) heard_ = spoke_;  // it takes what we send
    left = left.subspan(outcome.bytes);
    if (!text && left.empty()) {
      uint64_t id = piece_->id;
      piece_.reset();
      piece_copy_.clear();
      out_.PieceSent(id);
    }
    budget -= std::min(budget, outcome.bytes);
    if (budget == 0) break;  // others first
  }
  PERIGEE_ASSIGN(bool gone, socket_->Push());
  if (gone && budget > 0) {
    watch_.Drop(EPOLLOUT);
  } else {
    watch_.Add(EPOLLOUT);
  }
  if (paused_ && small_bytes_ <= kBacklogMax / 2) {
    paused_ = false;
    watch_.Add(EPOLLIN);
    // What is in the buffer already, or inside OpenSSL, will not make the socket readable.
    (void)loop_->Post([self = shared_from_this()] {
      if (self->ended()) return;
      Status st = self->Parse();
      if (!st.ok()) return self->EndWith(st);
      self->OnReady(EPOLLIN);
    });
  }
  return Status::Ok();
}

// ---------------------------------------------------------------- beats

void Link::ArmTick() {
  tick_ = loop_->At(Now() + core_->tls().dead_after / kBeatsPerDeath, [weak = weak_from_this()] {
    if (auto self = weak.lock(); self && !self->ended()) self->Tick();
  });
}

void Link::Tick() {
  if (Now() - heard_ >= core_->tls().dead_after)
    OnReady(EPOLLIN);  // this loop may be what was late
  if (ended()) return;
  Nanos now = Now();
  if (now - heard_ >= core_->tls().dead_after) {
    return EndWith(Status(Code::kUnavailable,
                          "nothing was heard of the peer for " +
                              std::to_string(core_->tls().dead_after / kMillisecond) + " ms"));
  }
  if (out_.Overdue(now) || in_.Overdue(now)) {
    return EndWith(Status(Code::kCorrupt, "a payload was neither taken nor sent in time"));
  }
  if (now - spoke_ >= core_->tls().dead_after / kBeatsPerDeath && !Writing()) {
    socket_->Trim();
    Send({.kind = FrameKind::kBeat});
    Flush();
  }
  ArmTick();
}

}  // namespace perigee::rdma::tls
