#include "rdma/local/client_core.h"

#include <sys/epoll.h>

#include <algorithm>
#include <utility>

namespace perigee::rdma::local {

namespace {
constexpr Nanos kConnectPause = 2 * kMillisecond;  // when the server's backlog is full

Nanos Now() { return RealClock::Get().Monotonic(); }
}  // namespace

// ---------------------------------------------------------------- connection

void ClientCore::ConnectLocked() {
  auto opened = ClientConnection::Open(shared_from_this(), loop_, path_);
  Status st;
  if (opened.ok()) {
    connection_ = *opened;
    st = connection_->Begin();
  } else if (opened.status().Is(Code::kBusy)) {
    if (std::exchange(retry_armed_, true)) return;
    loop_->At(Now() + kConnectPause, [weak = weak_from_this()] {
      auto self = weak.lock();
      if (!self) return;
      std::lock_guard lock(self->mu_);
      self->retry_armed_ = false;
      if (!self->closed_ && !self->connection_ && !self->waiting_.empty()) self->ConnectLocked();
    });
    return;
  } else {
    st = opened.status();
  }
  if (!st.ok()) {
    if (connection_) {
      connection_->broken = true;
      connection_->End();
      connection_.reset();
    }
    healthy_ = false;
    FailWaitingLocked(st);
    return;
  }
  connection_->hello_timer = loop_->At(
      Now() + kHelloTimeout, [weak = weak_from_this(), wire = std::weak_ptr(connection_)] {
        auto self = weak.lock();
        auto connection = wire.lock();
        if (!self || !connection) return;
        {
          std::lock_guard lock(self->mu_);
          if (connection->ready) return;
        }
        self->Break(connection, Status(Code::kUnavailable, "no answer to hello"));
      });
}

void ClientCore::Ready(const ConnectionPtr& connection, const HelloPeer& server) {
  {
    std::lock_guard lock(mu_);
    if (connection->broken) return;
    connection->ready = true;
    connection->credits = Credits(std::min(server.credits, core_->options().credits));
    connection->bytes = core_->BytesWith(server.role, server.node_id);
    loop_->Cancel(connection->hello_timer);
    healthy_ = true;
  }
  Pump(connection);
}

void ClientCore::Break(const ConnectionPtr& connection, const Status& why) {
  why.Ignore();                               // it may have no calls to fail, or be broken already
  decltype(connection->in_flight) in_flight;  // destroyed without the lock
  {
    std::lock_guard lock(mu_);
    if (connection->broken) return;
    connection->broken = true;
    loop_->Cancel(connection->hello_timer);
    healthy_ = false;
    in_flight.swap(connection->in_flight);
    for (auto& [id, entry] : in_flight) {
      const CallPtr& call = entry.call;
      if (!call) continue;
      call->connection.reset();
      call->lease.Release();
      FinishLocked(
          call,
          Status(Code::kUnavailable, "lost the connection to " + path_ + ": " + why.message()), {});
    }
    if (connection_ == connection) {
      connection_.reset();
      // Calls that have not been sent may try again, but not at a server that does not get as far
      // as hello.
      if (!connection->ready) {
        FailWaitingLocked(why.With(path_));
      } else if (!closed_ && !waiting_.empty()) {
        ConnectLocked();
      }
    }
  }
  connection->End();
}

void ClientCore::FailWaitingLocked(const Status& why) {
  why.Ignore();  // nobody may be waiting
  for (auto& call : waiting_.TakeAll()) {
    call->lease.Release();
    FinishLocked(call, why, {});
  }
}

bool ClientCore::Healthy() const {
  std::lock_guard lock(mu_);
  return healthy_ && !closed_;
}

void ClientCore::Close() {
  ConnectionPtr connection;
  decltype(connection->in_flight) in_flight;
  {
    std::lock_guard lock(mu_);
    if (std::exchange(closed_, true)) return;
    Status why(Code::kCancelled, "the channel to " + path_ + " was closed");
    why.Ignore();  // it may have no calls to fail
    connection = std::move(connection_);
    if (connection) {
      connection->broken = true;
      loop_->Cancel(connection->hello_timer);
      in_flight.swap(connection->in_flight);
    }
    for (auto& [id, entry] : in_flight) {
      const CallPtr& call = entry.call;
      if (!call) continue;
      call->connection.reset();
      call->lease.Release();
      FinishLocked(call, why, {});
    }
    FailWaitingLocked(why);
    for (auto& call : parked_.TakeAll()) FinishLocked(call, why, {});
    for (auto& call : collecting_) {
      (void)loop_->Post([self = shared_from_this(), call] { self->Deliver(call); });
    }
  }
  if (connection) connection->End();
}

// ---------------------------------------------------------------- calls

// Finished calls are told where they wait: a thread by its CondVar (unless it is the one that
// reads), a callback on the loop.
void ClientCore::FinishLocked(const CallPtr& call, Status status, Answer answer) {
  call->finished = true;
  call->status = std::move(status);
  call->answer = std::move(answer);
  if (!call->done) {
    if (call->followed) call->followed->NotifyOne();
    return;
  }
  loop_->Cancel(call->timer);
  // The loop stops only after Close, which has failed everything.
  (void)loop_->Post([self = shared_from_this(), call] { self->Deliver(call); });
}

void ClientCore::Submit(const CallPtr& call) {
  ConnectionPtr connection;
  Status refused;
  {
    std::lock_guard lock(mu_);
    if (call->finished) return;
    if (!call->done) ++arriving_;
    if (closed_) {
      refused = Status(Code::kCancelled, "the channel to " + path_ + " was closed");
    } else if (!MayWait(call->traffic, waiting_.size() + parked_.size(),
                        core_->options().waiting_max)) {
      refused = Status(Code::kBusy, "too many calls wait for " + path_);
    } else {
      waiting_.Push(call->traffic, call, Now());
      if (!connection_ && !retry_armed_) ConnectLocked();
      if (connection_ && connection_->ready) connection = connection_;
    }
    if (!refused.ok() && !call->done) {
      call->finished = true;
      call->status = refused;
      return;
    }
  }
  if (!refused.ok()) return Refuse(call, std::move(refused));
  if (connection) Pump(connection);
}

// Sends what waits, as far as the credits go.
void ClientCore::Pump(const ConnectionPtr& connection) {
  bool sent_async = false;
  Status broken;
  {
    std::lock_guard write(connection->stream().write_mutex());
    while (broken.ok()) {
      CallPtr call;
      {
        std::lock_guard lock(mu_);
        if (connection_ != connection) break;
        Nanos now = Now();
        auto traffic =
            waiting_.Next(now, [&](TrafficClass c) { return connection->credits.Free(c); });
        if (!traffic) break;
        call = waiting_.Pop(*traffic, now);
        connection->credits.Take(*traffic);
        call->id = ++connection->next_id;
        call->connection = connection;
        connection->in_flight.emplace(call->id, ClientConnection::InFlight{call, *traffic});
        if (call->done) {
          ++connection->async_in_flight;
          sent_async = true;
        }
      }
      broken = connection->SendRequest(*call);
    }
  }
  if (!broken.ok()) return Break(connection, broken);
  if (!sent_async) return;
  std::lock_guard lock(mu_);
  EnsureReaderLocked(connection);
}

Status ClientCore::Answered(ClientConnection& connection, Status status, Answer answer) {
  CallPtr call;
  {
    std::lock_guard lock(mu_);
    auto it = connection.in_flight.find(answer.id);
    if (it == connection.in_flight.end()) {
      status.Ignore();  // nobody asked, or nobody any more
      if (connection.broken) return Status::Ok();
      return Status(Code::kCorrupt, "an answer to a call that was not made");
    }
    call = std::move(it->second.call);
    TrafficClass traffic = it->second.traffic;
    connection.credits.Give(traffic);
    connection.in_flight.erase(it);
    connection.bytes->CountReceived(traffic, answer.Bytes());
    if (call) {
      if (call->done) --connection.async_in_flight;
      call->connection.reset();
      call->lease.Release();
      FinishLocked(call, std::move(status), std::move(answer));
      return Status::Ok();
    }
  }
  status.Ignore();  // the call's deadline has passed
  Unwanted(&answer);
  return Status::Ok();
}

void ClientCore::Expire(const CallPtr& call) {
  ConnectionPtr connection;
  {
    std::lock_guard lock(mu_);
    if (call->finished) return;
    connection = call->connection;
    if (!connection) {
      if (!waiting_.Erase(call->traffic, call)) parked_.Erase(call->traffic, call);
      call->lease.Release();
      FinishLocked(
          call, Status(Code::kDeadlineExceeded, "no answer from " + path_ + " in time (not sent)"),
          {});
      return;
    }
  }
  // Nobody is writing this call's frame from the caller's memory once this mutex is ours.
  std::lock_guard write(connection->stream().write_mutex());
  std::lock_guard lock(mu_);
  if (call->finished) return;
  auto it = connection->in_flight.find(call->id);
  if (it != connection->in_flight.end()) it->second.call.reset();
  if (call->done) --connection->async_in_flight;
  call->connection.reset();
  call->lease.Release();
  FinishLocked(call, Status(Code::kDeadlineExceeded, "no answer from " + path_ + " in time"), {});
}

void ClientCore::CallAsync(CallPtr call) {
  Status st = Check(*call);
  if (!st.ok()) return Refuse(call, std::move(st));
  core_->CountCallOut();
  bool park = false;
  if (NeedsCopy(call.get())) {
    Piece piece = core_->pool().TryAllocate(call->bulk.size());
    park = !piece;
    if (piece) CopyInto(call.get(), std::move(piece));
  }
  {
    std::lock_guard lock(mu_);
    // The caller's memory is not copied from while this may fire (RetryParked runs on the same
    // loop).
    call->timer =
        loop_->At(call->deadline, [weak = weak_from_this(), weak_call = std::weak_ptr(call)] {
          auto self = weak.lock();
          auto late = weak_call.lock();
          if (self && late) self->Expire(late);
        });
  }
  if (park) return Park(call);
  st = Lend(call.get());
  if (!st.ok()) return Refuse(call, std::move(st));
  Submit(call);
}

Result<Payload> ClientCore::CallAndWait(CallPtr call) {
  PERIGEE_TRY(Check(*call));
  core_->CountCallOut();
  PERIGEE_TRY(StageAndWait(call.get()));
  Submit(call);
  std::unique_lock lock(mu_);
  --arriving_;
  while (!call->finished) {
    Nanos left = call->deadline - Now();
    if (left <= 0) {
      lock.unlock();
      Expire(call);
      lock.lock();
      continue;
    }
    ConnectionPtr connection = connection_;
    if (connection && connection->ready &&
        connection->reader == ClientConnection::Reader::kNobody) {
      connection->reader = ClientConnection::Reader::kCaller;
      lock.unlock();
      Lead(connection, call.get());
      lock.lock();
      connection->reader = ClientConnection::Reader::kNobody;
      continue;
    }
    if (!call->followed) call->followed.emplace();
    auto place = followers_.insert(followers_.end(), call.get());
    call->followed->WaitFor(lock, left);
    followers_.erase(place);
  }
  if (connection_) EnsureReaderLocked(connection_);
  lock.unlock();
  return Collect(call.get());
}

// ---------------------------------------------------------------- reading

void ClientCore::Lead(const ConnectionPtr& connection, ClientCall* call) {
  while (true) {
    Nanos left = call->deadline - Now();
    if (left <= 0) return;
    auto got = connection->stream().Receive(left);
    Status end;
    if (!got.ok()) {
      end = std::move(got).TakeStatus();
    } else if (*got == Stream::Got::kEnd) {
      end = Status(Code::kUnavailable, "the server closed the connection");
    } else if (*got == Stream::Got::kBytes) {
      end = connection->Dispatch();
    }
    if (!end.ok()) return Break(connection, end);
    std::lock_guard lock(mu_);
    if (call->finished || connection->broken) return;
  }
}

void ClientCore::EnsureReaderLocked(const ConnectionPtr& connection) {
  if (connection->broken || !connection->ready ||
      connection->reader != ClientConnection::Reader::kNobody) {
    return;
  }
  if (connection->ended) {
    (void)loop_->Post([connection] { connection->OnReady(EPOLLRDHUP); });
    return;
  }
  if (arriving_ > 0) return;
  if (!followers_.empty()) {
    followers_.front()->followed->NotifyOne();
  } else if (!connection->in_flight.empty()) {
    connection->reader = ClientConnection::Reader::kLoop;
    connection->watch().Add(EPOLLIN);
  }
}

bool ClientCore::LoopMayRead(const ConnectionPtr& connection, bool ended) {
  std::lock_guard lock(mu_);
  if (connection->broken) return false;
  if (connection->reader == ClientConnection::Reader::kLoop) return true;
  if (!ended) return false;
  if (connection->reader == ClientConnection::Reader::kCaller) {
    // It will come to the end by itself, or leave and have us look again. Until then the loop is
    // not to be told.
    connection->ended = true;
    connection->watch().End();
    return false;
  }
  connection->reader = ClientConnection::Reader::kLoop;
  return true;
}

void ClientCore::LoopHasRead(const ConnectionPtr& connection) {
  std::lock_guard lock(mu_);
  if (connection->broken || !connection->ready) return;
  bool wanted = connection->async_in_flight > 0 ||
                (followers_.empty() && arriving_ == 0 && !connection->in_flight.empty());
  if (wanted) return;
  connection->reader = ClientConnection::Reader::kNobody;
  connection->watch().Drop(EPOLLIN);
  EnsureReaderLocked(connection);
}

}  // namespace perigee::rdma::local
