#include "rdma/tls/client_core.h"

#include <algorithm>
#include <utility>

#include "base/failpoint.h"

namespace perigee::rdma::tls {

namespace {
constexpr Nanos kPauseFirst = 10 * kMillisecond;
constexpr Nanos kPauseMost = 1 * kSecond;
constexpr Nanos kWorthWaiting = 100 * kMillisecond;
constexpr Nanos kLongestCall = 24 * 3600 * kSecond;

Nanos Now() { return RealClock::Get().Monotonic(); }
}  // namespace

ClientCore::ClientCore(std::shared_ptr<Core> core, std::shared_ptr<EventLoop> loop,
                       Endpoint endpoint)
    : core_(std::move(core)),
      loop_(std::move(loop)),
      endpoint_(std::move(endpoint)),
      waiting_(core_->options().class_age),
      random_(SecretU64()) {}

// ---------------------------------------------------------------- connection

void ClientCore::Connect() {
  if (connecting_ || connection_ || retry_timer_ != 0) return;
  Nanos now = Now();
  if (now < next_attempt_) {
    if (next_attempt_ - now > kWorthWaiting) {
      return FailWaiting(Status(Code::kUnavailable,
                                endpoint_.text + ": " + last_failure_ + " (tried a moment ago)"));
    }
    retry_timer_ = loop_->At(next_attempt_, [weak = weak_from_this()] {
      auto self = weak.lock();
      if (!self) return;
      self->retry_timer_ = 0;
      if (!self->closed_ && !self->waiting_.empty()) self->Connect();
    });
    return;
  }
  connecting_ = true;
  connect_timer_ = loop_->At(now + core_->tls().handshake_timeout, [weak = weak_from_this()] {
    if (auto self = weak.lock(); self && self->connecting_) {
      self->GiveUpConnecting(Status(Code::kUnavailable, "no connection in time"));
    }
  });
  auto numbers = Resolve(endpoint_, Lookup::kNumbersOnly);
  if (numbers.ok()) return Resolved(std::move(numbers));
  numbers.status().Ignore();  // it is a name
  Status posted = core_->resolver().Post([self = shared_from_this()] {
    auto found = std::make_shared<Result<std::vector<SocketAddress>>>(
        Resolve(self->endpoint_, Lookup::kNames));
    if (!self->loop_->Post([self, found] { self->Resolved(std::move(*found)); })) {
      found->status().Ignore();  // nobody is left to connect
    }
  });
  if (!posted.ok()) GiveUpConnecting(posted);
}

void ClientCore::Resolved(Result<std::vector<SocketAddress>> addresses) {
  if (!connecting_ || connection_) return addresses.status().Ignore();  // too late
  if (!addresses.ok()) return GiveUpConnecting(addresses.status());
  candidates_.assign(addresses->begin(), addresses->end());
  OpenNext();
}

void ClientCore::OpenNext() {
  Status last(Code::kUnavailable, "no address");
  while (!candidates_.empty()) {
    SocketAddress address = std::move(candidates_.front());
    candidates_.pop_front();
    auto opened = ClientConnection::Open(shared_from_this(), core_, loop_, address, endpoint_.host);
    if (opened.ok()) {
      last.Ignore();
      connection_ = std::move(*opened);
      return;
    }
    last.Ignore();  // the newest says why
    last = opened.status();
  }
  GiveUpConnecting(last);
}

void ClientCore::GiveUpConnecting(const Status& why) {
  if (auto connection = std::exchange(connection_, nullptr)) connection->End();
  connecting_ = false;
  candidates_.clear();
  loop_->Cancel(connect_timer_);
  healthy_ = false;
  last_failure_ = why.message();
  pause_ = std::clamp(2 * pause_, kPauseFirst, kPauseMost);
  // Not all peers of a node that comes back at the same moment.
  auto jitter = static_cast<Nanos>(random_.Below(static_cast<uint64_t>(pause_ / 2)));
  next_attempt_ = Now() + pause_ - jitter;
  FailWaiting(why.With(endpoint_.text));
}

void ClientCore::Ready() {
  connecting_ = false;
  candidates_.clear();
  loop_->Cancel(connect_timer_);
  healthy_ = true;
  pause_ = 0;
  Pump();
}

void ClientCore::Ended(const std::shared_ptr<ClientConnection>& connection, const Status& why) {
  if (connection_ != connection) return why.Ignore();
  if (!connection->ready()) {
    connection_.reset();
    if (!connection->reached() && !candidates_.empty()) {
      why.Ignore();  // the host's next address
      return OpenNext();
    }
    return GiveUpConnecting(why);
  }
  connection_.reset();
  healthy_ = false;
  Status lost(Code::kUnavailable,
              "lost the connection to " + endpoint_.text + ": " + why.message());
  lost.Ignore();  // it may have had no calls
  why.Ignore();
  for (auto& call : connection->TakeCalls()) Finish(call, lost);
  if (!closed_ && !waiting_.empty()) Connect();
}

void ClientCore::FailWaiting(const Status& why) {
  why.Ignore();  // nobody may be waiting
  for (auto& call : waiting_.TakeAll()) Finish(call, why);
}

void ClientCore::Close() {
  if (closed_.exchange(true)) return;
  // After the loop's end there is nobody else.
  if (!loop_->Post([self = shared_from_this()] { self->CloseNow(); })) CloseNow();
}

void ClientCore::CloseNow() {
  Status why(Code::kCancelled, "the channel to " + endpoint_.text + " was closed");
  loop_->Cancel(connect_timer_);
  loop_->Cancel(retry_timer_);
  connecting_ = false;
  if (auto connection = std::exchange(connection_, nullptr)) {
    connection->End();
    for (auto& call : connection->TakeCalls()) Finish(call, why);
  }
  FailWaiting(why);
}

// ---------------------------------------------------------------- calls

void ClientCore::Submit(CallPtr call) {
  if (loop_->Post([self = shared_from_this(), call] { self->Enqueue(call); })) return;
  Channel::Done done = std::move(call->done);
  done(Status(Code::kCancelled, "the transport has stopped"));
}

void ClientCore::Enqueue(const CallPtr& call) {
  if (call->header.size() > kHeaderBytesMax) {
    return Finish(call, Status(Code::kTooLarge,
                               "a message of " + std::to_string(call->header.size()) + " bytes"));
  }
  if (call->bulk.size() > kPieceBytesMax) {
    return Finish(call, Status(Code::kTooLarge, "a bulk payload of " +
                                                    std::to_string(call->bulk.size()) + " bytes"));
  }
  if (closed_) {
    return Finish(call,
                  Status(Code::kCancelled, "the channel to " + endpoint_.text + " was closed"));
  }
  if (!MayWait(call->traffic, waiting_.size(), core_->options().waiting_max)) {
    return Finish(call, Status(Code::kBusy, "too many calls wait for " + endpoint_.text));
  }
  core_->CountCallOut();
  call->timer =
      loop_->At(call->deadline, [weak = weak_from_this(), weak_call = std::weak_ptr(call)] {
        auto self = weak.lock();
        auto late = weak_call.lock();
        if (self && late) self->Expire(late);
      });
  waiting_.Push(call->traffic, call, Now());
  Connect();
  Pump();
}

// Sends what waits, as far as the credits go.
void ClientCore::Pump() {
  if (!connection_ || !connection_->ready()) return;
  Nanos now = Now();
  auto may = [this](TrafficClass traffic) { return connection_->HasCredit(traffic); };
  while (auto traffic = waiting_.Next(now, may)) {
    CallPtr call = waiting_.Pop(*traffic, now);
    PERIGEE_FAILPOINT(rdma_tls_before_call);
    connection_->SendRequest(call);
    PERIGEE_FAILPOINT(rdma_tls_after_call);
  }
  connection_->Flush();
}

void ClientCore::Expire(const CallPtr& call) {
  if (!call->done) return;
  if (call->id == 0) {
    waiting_.Erase(call->traffic, call);
    return Finish(call, Status(Code::kDeadlineExceeded,
                               "no answer from " + endpoint_.text + " in time (not sent)"));
  }
  if (connection_) connection_->GiveUp(call->id);
  Finish(call, Status(Code::kDeadlineExceeded, "no answer from " + endpoint_.text + " in time"));
  Pump();
}

void ClientCore::Finish(const CallPtr& call, Result<Payload> result) {
  loop_->Cancel(call->timer);
  Channel::Done done = std::move(call->done);
  call->done = nullptr;
  done(std::move(result));
}

// ---------------------------------------------------------------- the channel

TlsChannel::~TlsChannel() {
  if (core_->core().OwnProcess()) {
    core_->Close();
  } else {
    new std::shared_ptr<ClientCore>(core_);  // the socket and its thread are the parent's
  }
}

void TlsChannel::Call(wire::Method method, std::string header, ConstBytes bulk, CallOptions options,
                      Done done) {
  PERIGEE_CHECK(done != nullptr);
  auto call = std::make_shared<ClientCall>();
  call->method = method;
  call->traffic = options.traffic;
  call->header = std::move(header);
  call->bulk = bulk;
  call->deadline =
      RealClock::Get().Monotonic() + std::clamp<Nanos>(options.timeout, 0, kLongestCall);
  call->done = std::move(done);
  core_->Submit(std::move(call));
}

}  // namespace perigee::rdma::tls
