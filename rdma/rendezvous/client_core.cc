#include "rdma/rendezvous/client_core.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/checksum.h"
#include "base/failpoint.h"

namespace perigee::rdma::rendezvous {

namespace {
constexpr Nanos kPauseMin = 5 * kMillisecond;  // between attempts to connect
constexpr Nanos kPauseMax = 500 * kMillisecond;
// For the server to let go of a finished call's bulk, which it does within a round trip when it is
// well: both sides know the deadline.
constexpr Nanos kLetGoGrace = 250 * kMillisecond;

Nanos Now() { return RealClock::Get().Monotonic(); }

void CopyInto(ClientCall* call, Piece piece) {
  std::memcpy(piece.data(), call->bulk.data(), call->bulk.size());
  call->staging = std::move(piece);
  call->bulk = call->staging.span();
}
}  // namespace

// ---------------------------------------------------------------- connection

void ClientCore::EnsureConnected() {
  if (connection_ || retry_timer_ != 0) return;
  if (Now() >= next_attempt_) return ConnectNow();
  retry_timer_ = loop_->At(next_attempt_, [weak = weak_from_this()] {
    auto self = weak.lock();
    if (!self) return;
    self->retry_timer_ = 0;
    if (!self->ended_ && !self->waiting_.empty()) self->ConnectNow();
  });
}

void ClientCore::ConnectNow() {
  auto connection = std::make_shared<ClientConnection>(core_, loop_, shared_from_this());
  connection_ = connection;
  Status st = connection->Open(address_);
  if (st.ok()) return;
  connection->Close(false);
  Broken(connection, Status(Code::kUnavailable, st.message()));
}

void ClientCore::Ready(const ConnectionPtr& connection) {
  healthy_ = true;
  pause_ = 0;
  std::string transports = connection->link().Transports();
  core_->NotePath(name_, transports);
  {
    std::lock_guard lock(path_mu_);
    path_ = std::move(transports);
  }
  Pump();
}

void ClientCore::Broken(const ConnectionPtr& connection, const Status& why) {
  auto self = shared_from_this();
  if (connection_ == connection) connection_.reset();
  healthy_ = false;
  Status lost(Code::kUnavailable, "lost the connection to " + name_ + ": " + why.message());
  lost.Ignore();  // it may have no calls to fail
  for (auto& [id, entry] : std::exchange(connection->in_flight, {})) {
    if (entry.call) Finish(entry.call, lost);
  }
  // Calls that have not been sent may try again, but not at a server that does not get as far as
  // hello.
  if (!connection->ready) {
    pause_ = std::clamp(2 * pause_, kPauseMin, kPauseMax);
    next_attempt_ = Now() + pause_;
    FailWaiting(why.With(name_));
  } else if (!ended_ && !waiting_.empty()) {
    EnsureConnected();
  }
}

void ClientCore::FailWaiting(const Status& why) {
  why.Ignore();  // nobody may be waiting
  for (auto& call : waiting_.TakeAll()) Finish(call, why);
}

std::string ClientCore::Describe() const {
  std::lock_guard lock(path_mu_);
  std::string out = core_->provider() + " " + address_.ToString();
  if (!path_.empty()) out += " over " + path_;
  return out;
}

void ClientCore::Close() {
  if (closed_.exchange(true)) return;
  // After the loop's end its connections are closed and its calls have failed.
  (void)loop_->Post([self = shared_from_this()] { self->CloseOnLoop(); });
}

void ClientCore::CloseOnLoop() {
  ended_ = true;
  loop_->Cancel(std::exchange(retry_timer_, 0));
  Status why(Code::kCancelled, "the channel to " + name_ + " was closed");
  why.Ignore();  // it may have no calls to fail
  waiting_.Clear();
  parked_.Clear();
  bool announced = false;
  for (auto& call : std::exchange(calls_, {})) {
    announced = announced || call->announced;
    Finish(call, why);
  }
  if (auto connection = std::exchange(connection_, nullptr)) {
    connection->in_flight.clear();
    connection->Close(!announced);
  }
}

// ---------------------------------------------------------------- calls

void ClientCore::Call(std::shared_ptr<ClientCall> call) {
  core_->CountCallOut();
  if (Link::Announces(call->header.size(), call->bulk.size())) {
    // Here and not on the loop, which others use.
    call->bulk_crc = Crc32c(call->bulk);
    SlabPool::Location at;
    call->copy = !core_->pool().Locate(call->bulk.data(), call->bulk.size(), &at);
    if (call->copy) {
      Piece piece = core_->pool().TryAllocate(call->bulk.size());
      if (piece) CopyInto(call.get(), std::move(piece));
    }
  }
  if (!loop_->Post([self = shared_from_this(), call] { self->Start(call); })) {
    call->done(Status(Code::kCancelled, "the transport has stopped"));
  }
}

void ClientCore::Start(const CallPtr& call) {
  if (ended_) {
    return call->done(Status(Code::kCancelled, "the channel to " + name_ + " was closed"));
  }
  calls_.insert(call);
  bool sends_now = connection_ && connection_->ready && waiting_.empty() &&
                   connection_->credits.Free(call->traffic);
  if (!sends_now &&
      !MayWait(call->traffic, waiting_.size() + parked_.size(), core_->options().waiting_max)) {
    return Finish(call, Status(Code::kBusy, "too many calls wait for " + name_));
  }
  call->timer =
      loop_->At(call->deadline, [weak = weak_from_this(), weak_call = std::weak_ptr(call)] {
        auto self = weak.lock();
        auto late = weak_call.lock();
        if (self && late) self->Expire(late);
      });
  if (call->copy && !call->staging && (!parked_.empty() || !Stage(call))) {
    parked_.Push(call->traffic, call, Now());
    return Unpark();
  }
  waiting_.Push(call->traffic, call, Now());
  Pump();
}

// Sends what waits, as far as the credits go.
void ClientCore::Pump() {
  auto may = [this](TrafficClass traffic) { return connection_->credits.Free(traffic); };
  while (!waiting_.empty()) {
    if (!connection_) return EnsureConnected();
    Nanos now = Now();
    auto traffic = waiting_.Next(now, may);
    if (!traffic) return;
    CallPtr call = waiting_.Pop(*traffic, now);
    PERIGEE_FAILPOINT(rdma_rendezvous_before_call);
    connection_->SendRequest(call);
    PERIGEE_FAILPOINT(rdma_rendezvous_after_call);
  }
}

void ClientCore::Expire(const CallPtr& call) {
  if (call->finished) return;
  bool sent = call->id != 0;
  if (!sent) {
    if (!waiting_.Erase(call->traffic, call)) parked_.Erase(call->traffic, call);
  } else if (connection_) {
    auto it = connection_->in_flight.find(call->id);
    if (it != connection_->in_flight.end() && it->second.call == call) {
      it->second.call.reset();
    }
  }
  Finish(call, Status(Code::kDeadlineExceeded,
                      "no answer from " + name_ + " in time" + (sent ? "" : " (not sent)")));
}

void ClientCore::Finish(const CallPtr& call, Result<Payload> outcome) {
  outcome.status().Ignore();  // the call may be over
  if (std::exchange(call->finished, true)) return;
  loop_->Cancel(call->timer);
  calls_.erase(call);
  call->staging.Release();
  call->outcome.emplace(std::move(outcome));
  if (!call->announced) return Tell(call);
  // The caller may give the memory to others, and the server is not to serve what is over.
  (void)loop_->At(Now() + kLetGoGrace,
                  [self = shared_from_this(), call, weak = std::weak_ptr(connection_)] {
                    if (call->announced) self->HoldsOn(call, weak.lock());
                  });
}

void ClientCore::HoldsOn(const CallPtr& call, const ConnectionPtr& connection) {
  if (call->copy) return Tell(call);
  if (!connection) return;  // closed, so that the library will let go
  connection->link().End(
      Status(Code::kUnavailable, "the peer holds on to the memory of a call that is over"));
}

void ClientCore::LetGo(const CallPtr& call) {
  call->announced = false;
  if (call->finished) Tell(call);
}

void ClientCore::Tell(const CallPtr& call) {
  if (Channel::Done done = std::exchange(call->done, nullptr)) done(std::move(*call->outcome));
}

// ---------------------------------------------------------------- staging

bool ClientCore::Stage(const CallPtr& call) {
  Piece piece = core_->pool().TryAllocate(call->bulk.size());
  if (!piece) return false;
  CopyInto(call.get(), std::move(piece));
  return true;
}

void ClientCore::Unpark() {
  while (auto traffic = parked_.Next(Now())) {
    CallPtr call = parked_.Front(*traffic);
    if (!Stage(call)) {
      if (std::exchange(watching_pool_, true)) return;
      core_->pool().OnNextFree([loop = loop_, weak = weak_from_this()] {
        (void)loop->Post([weak] {
          auto self = weak.lock();
          if (!self) return;
          self->watching_pool_ = false;
          self->Unpark();
        });
      });
      continue;  // closes the gap before the registration
    }
    parked_.Pop(*traffic, Now());
    waiting_.Push(*traffic, std::move(call), Now());
    Pump();
  }
}

// ---------------------------------------------------------------- the channel

RendezvousChannel::~RendezvousChannel() {
  if (core_->core().OwnProcess()) {
    core_->Close();
  } else {
    new std::shared_ptr<ClientCore>(core_);  // its locks may be held by threads of the parent
  }
}

void RendezvousChannel::Call(wire::Method method, std::string header, ConstBytes bulk,
                             CallOptions options, Done done) {
  PERIGEE_CHECK(done != nullptr);
  if (header.size() > kHeaderBytesMax || bulk.size() > kPieceBytesMax) {
    return done(Status(Code::kTooLarge, "a message of " + std::to_string(header.size()) +
                                            " bytes with " + std::to_string(bulk.size()) +
                                            " of bulk"));
  }
  constexpr Nanos kLongest = 24 * 3600 * kSecond;
  auto call = std::make_shared<ClientCall>();
  call->method = method;
  call->traffic = options.traffic;
  call->header = std::move(header);
  call->bulk = bulk;
  call->deadline = Now() + std::clamp<Nanos>(options.timeout, 0, kLongest);
  call->done = std::move(done);
  core_->Call(std::move(call));
}

}  // namespace perigee::rdma::rendezvous
