// ClientCore's handling of bulk: what goes with a call before it is sent, and into a buffer before
// it is handed over.

#include <algorithm>
#include <cstring>
#include <utility>

#include "rdma/local/client_core.h"

namespace perigee::rdma::local {

namespace {
Nanos Now() { return RealClock::Get().Monotonic(); }
}  // namespace

// ---------------------------------------------------------------- staging

Status ClientCore::Check(const ClientCall& call) const {
  if (call.header.size() > kHeaderBytesMax) {
    return Status(Code::kTooLarge, "a message of " + std::to_string(call.header.size()) + " bytes");
  }
  if (call.bulk.size() > kPieceBytesMax) {
    return Status(Code::kTooLarge,
                  "a bulk payload of " + std::to_string(call.bulk.size()) + " bytes");
  }
  return Status::Ok();
}

// Decides how the bulk travels; true when it has to be copied into the pool first.
bool ClientCore::NeedsCopy(ClientCall* call) const {
  call->bulk_kind = call->bulk.empty()                    ? BulkKind::kNone
                    : call->bulk.size() <= kInlineBulkMax ? BulkKind::kInline
                                                          : BulkKind::kSlab;
  return call->bulk_kind == BulkKind::kSlab &&
         !core_->pool().Locate(call->bulk.data(), call->bulk.size(), &call->at);
}

void ClientCore::CopyInto(ClientCall* call, Piece piece) {
  std::memcpy(piece.data(), call->bulk.data(), call->bulk.size());
  call->staging = std::move(piece);
  call->bulk = call->staging.span();
}

Status ClientCore::Lend(ClientCall* call) const {
  if (call->bulk_kind != BulkKind::kSlab) return Status::Ok();
  PERIGEE_CHECK(core_->pool().Locate(call->bulk.data(), call->bulk.size(), &call->at));
  call->lease = core_->leases()->Take();
  if (!call->lease) return Status(Code::kBusy, "too many bulk payloads are in flight");
  return Status::Ok();
}

Status ClientCore::StageAndWait(ClientCall* call) const {
  if (NeedsCopy(call)) {
    PERIGEE_ASSIGN(Piece piece, core_->pool().Allocate(call->bulk.size(),
                                                       std::max<Nanos>(call->deadline - Now(), 0)));
    CopyInto(call, std::move(piece));
  }
  return Lend(call);
}

// An asynchronous call ends on the loop, also when it never started.
void ClientCore::Refuse(const CallPtr& call, Status why) {
  {
    std::lock_guard lock(mu_);
    if (call->finished) return;
    call->finished = true;
    call->status = std::move(why);
    loop_->Cancel(call->timer);
  }
  if (loop_->Post([self = shared_from_this(), call] { self->Deliver(call); })) return;
  call->done(call->status);  // after the transport's end there is no thread of its own
}

void ClientCore::Park(const CallPtr& call) {
  Status refused;
  bool watch = false;
  {
    std::lock_guard lock(mu_);
    if (call->finished) return;
    if (closed_) {
      refused = Status(Code::kCancelled, "the channel to " + path_ + " was closed");
    } else if (!MayWait(call->traffic, waiting_.size() + parked_.size(),
                        core_->options().waiting_max)) {
      refused = Status(Code::kBusy, "too many calls wait for " + path_);
    } else {
      parked_.Push(call->traffic, call, Now());
      watch = !std::exchange(watching_pool_, true);
    }
  }
  if (!refused.ok()) return Refuse(call, std::move(refused));
  if (watch) WatchPool();
}

// The second try, after the registration, closes the gap before it.
void ClientCore::WatchPool() {
  core_->pool().OnNextFree([loop = loop_, weak = weak_from_this()] {
    (void)loop->Post([weak] {
      auto self = weak.lock();
      if (!self) return;
      {
        std::lock_guard lock(self->mu_);
        self->watching_pool_ = false;
      }
      self->RetryParked();
    });
  });
  (void)loop_->Post([self = shared_from_this()] { self->RetryParked(); });
}

void ClientCore::RetryParked() {
  while (true) {
    CallPtr call;
    Piece piece;
    bool watch = false;
    {
      std::lock_guard lock(mu_);
      Nanos now = Now();
      auto traffic = parked_.Next(now);
      if (!traffic) return;
      piece = core_->pool().TryAllocate(parked_.Front(*traffic)->bulk.size());
      if (piece) {
        call = parked_.Pop(*traffic, now);
      } else {
        watch = !std::exchange(watching_pool_, true);
      }
    }
    if (!piece) {
      if (watch) WatchPool();
      return;
    }
    CopyInto(call.get(), std::move(piece));
    Status st = Lend(call.get());
    if (st.ok()) {
      Submit(call);
    } else {
      Refuse(call, std::move(st));
    }
  }
}

// ---------------------------------------------------------------- collecting

Status ClientCore::Pull(Answer* answer, Piece* piece) {
  if (!answer->source) {
    std::memcpy(piece->data(), answer->inline_bulk.data(), answer->inline_bulk.size());
    return Status::Ok();
  }
  Status st = answer->source->CopyTo(piece->data());
  core_->NoteBulkIn(answer->source->bytes());
  Unwanted(answer);
  return st;
}

// Empty when it cannot be mapped: a copy does as well.
Piece ClientCore::Borrow(Answer* answer) {
  auto piece =
      answer->source->Lend([from = answer->from, id = answer->id] { from->SendPulled(id); });
  piece.status().Ignore();
  if (!piece.ok()) return Piece();
  core_->NoteBulkIn(answer->source->bytes());
  answer->from.reset();
  return std::move(piece).value();
}

void ClientCore::Unwanted(Answer* answer) {
  if (auto from = std::exchange(answer->from, nullptr)) from->SendPulled(answer->id);
}

Result<Payload> ClientCore::Collect(ClientCall* call) {
  Answer& answer = call->answer;
  if (!call->status.ok()) {
    Unwanted(&answer);
    return call->status;
  }
  Payload payload;
  size_t bytes = answer.source ? answer.source->bytes() : answer.inline_bulk.size();
  if (answer.source && call->lent_reply) payload.bulk = Borrow(&answer);
  if (bytes > 0 && !payload.bulk) {
    auto piece = core_->pool().Allocate(bytes, std::max<Nanos>(call->deadline - Now(), 0));
    if (!piece.ok()) {
      Unwanted(&answer);
      return piece.status();
    }
    payload.bulk = std::move(*piece);
    PERIGEE_TRY(Pull(&answer, &payload.bulk));
  }
  payload.header = std::move(answer.header);
  payload.fds = std::move(answer.fds);
  return payload;
}

// A buffer for an asynchronous call's answer, now or when the pool has one again (then Deliver runs
// anew).
Piece ClientCore::CollectingPiece(const CallPtr& call, size_t bytes) {
  Piece piece = core_->pool().TryAllocate(bytes);
  if (piece) return piece;
  if (!call->collecting) {
    call->collecting = true;
    std::lock_guard lock(mu_);
    collecting_.push_back(call);
    call->timer =
        loop_->At(call->deadline, [self = shared_from_this(), call] { self->Deliver(call); });
  }
  if (std::exchange(call->watching_pool, true)) return piece;
  core_->pool().OnNextFree(
      [loop = loop_, weak = weak_from_this(), weak_call = std::weak_ptr(call)] {
        (void)loop->Post([weak, weak_call] {
          auto self = weak.lock();
          auto woken = weak_call.lock();
          if (!self || !woken) return;
          woken->watching_pool = false;
          self->Deliver(woken);
        });
      });
  return core_->pool().TryAllocate(bytes);
}

void ClientCore::Deliver(const CallPtr& call) {
  if (call->delivered) return;
  Answer& answer = call->answer;
  Status status = call->status;
  Payload payload;
  size_t bytes = answer.source ? answer.source->bytes() : answer.inline_bulk.size();
  if (status.ok() && bytes > 0) {
    bool closed;
    {
      std::lock_guard lock(mu_);
      closed = closed_;
    }
    payload.bulk = CollectingPiece(call, bytes);
    if (payload.bulk) {
      status = Pull(&answer, &payload.bulk);
    } else if (closed) {
      status = Status(Code::kCancelled, "the channel to " + path_ + " was closed");
    } else if (Now() >= call->deadline) {
      status = Status(Code::kDeadlineExceeded, "no buffer for the answer came free in time");
    } else {
      return;
    }
  }
  call->delivered = true;
  Unwanted(&answer);
  if (call->collecting) {
    std::lock_guard lock(mu_);
    loop_->Cancel(call->timer);
    collecting_.remove(call);
  }
  Channel::Done done = std::move(call->done);
  call->staging.Release();
  if (!status.ok()) return done(std::move(status));
  payload.header = std::move(answer.header);
  payload.fds = std::move(answer.fds);
  done(std::move(payload));
}

// ---------------------------------------------------------------- the channel

namespace {
std::shared_ptr<ClientCall> MakeCall(wire::Method method, std::string header, ConstBytes bulk,
                                     CallOptions options) {
  constexpr Nanos kLongest = 24 * 3600 * kSecond;
  auto call = std::make_shared<ClientCall>();
  call->method = method;
  call->traffic = options.traffic;
  call->header = std::move(header);
  call->bulk = bulk;
  call->deadline = Now() + std::clamp<Nanos>(options.timeout, 0, kLongest);
  call->lent_reply = options.lent_reply;
  return call;
}
}  // namespace

LocalChannel::~LocalChannel() {
  if (core_->core().OwnProcess()) {
    core_->Close();
  } else {
    // The socket is the parent's too, and its locks may be held by threads that this process does
    // not have.
    new std::shared_ptr<ClientCore>(core_);
  }
}

void LocalChannel::Call(wire::Method method, std::string header, ConstBytes bulk,
                        CallOptions options, Done done) {
  PERIGEE_CHECK(done != nullptr);
  auto call = MakeCall(method, std::move(header), bulk, options);
  call->done = std::move(done);
  core_->CallAsync(std::move(call));
}

Result<Payload> LocalChannel::CallAndWait(wire::Method method, std::string header, ConstBytes bulk,
                                          CallOptions options) {
  return core_->CallAndWait(MakeCall(method, std::move(header), bulk, options));
}

}  // namespace perigee::rdma::local
