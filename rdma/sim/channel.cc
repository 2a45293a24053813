#include "rdma/sim/channel.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace perigee::rdma::sim {

namespace {
constexpr Nanos kConnectTimeout = 1 * kSecond;
}

// A result is handed over in a task of its own; after the scheduler's end, here and now.
void ClientCore::Run(Channel::Done done, Result<Payload> result) {
  result.status().Ignore();  // the scheduler may drop the task
  auto shared = std::make_shared<std::pair<Channel::Done, Result<Payload>>>(std::move(done),
                                                                            std::move(result));
  shared->second.status().Ignore();
  auto run = [shared] {
    if (auto fn = std::exchange(shared->first, nullptr)) fn(std::move(shared->second));
  };
  if (!host_->fabric->After(0, run)) run();
}

void ClientCore::Call(wire::Method method, std::string header, ConstBytes bulk, CallOptions options,
                      Channel::Done done) {
  if (header.size() > kHeaderBytesMax || bulk.size() > kPieceBytesMax) {
    return Run(std::move(done),
               Status(Code::kTooLarge, "a message or bulk payload larger than a call carries"));
  }
  if (host_->calls_out != nullptr) host_->calls_out->Add();
  if (host_->bytes_out != nullptr) host_->bytes_out->Add(static_cast<double>(bulk.size()));
  auto request = std::make_shared<Request>();
  request->method = method;
  request->traffic = options.traffic;
  request->header = std::move(header);
  if (!bulk.empty()) request->bulk = std::make_shared<const std::string>(AsView(bulk));
  Nanos timeout = std::clamp<Nanos>(options.timeout, 0, 24 * 3600 * kSecond);
  request->deadline = host_->fabric->Now() + timeout;
  Status refused;
  {
    std::lock_guard lock(mu_);
    bool sends_now = link_ && waiting_.empty() && credits_.Free(request->traffic);
    if (closed_) {
      refused = Status(Code::kCancelled, "the channel to sim:" + name_ + " was closed");
    } else if (!sends_now &&
               !MayWait(request->traffic, waiting_.size(), host_->options.waiting_max)) {
      refused = Status(Code::kBusy, "too many calls wait for sim:" + name_);
    } else {
      uint64_t id = ++next_id_;
      request->id = id;
      Pending& pending = calls_[id];
      pending.request = request;
      pending.done = std::move(done);
      pending.timer = host_->fabric->scheduler().PostAfter(timeout, [weak = weak_from_this(), id] {
        if (auto self = weak.lock()) {
          self->Finish(id, Status(Code::kDeadlineExceeded,
                                  "no answer from sim:" + self->name_ + " in time"));
        }
      });
      if (pending.timer == 0) {
        refused = Status(Code::kCancelled, "the scheduler has stopped");
        done = std::move(pending.done);
        calls_.erase(id);
      } else {
        waiting_.Push(request->traffic, id, host_->fabric->Now());
      }
    }
  }
  if (!refused.ok()) return Run(std::move(done), std::move(refused));
  Pump();
}

// ---------------------------------------------------------------- connecting

// Hello is one exchange here: a message there, one back; either may be lost.
void ClientCore::Connect() {
  uint64_t attempt;
  {
    std::lock_guard lock(mu_);
    if (closed_ || connecting_ || link_) return;
    connecting_ = true;
    attempt = ++attempt_;
    connect_timer_ =
        host_->fabric->scheduler().PostAfter(kConnectTimeout, [weak = weak_from_this(), attempt] {
          if (auto self = weak.lock()) {
            self->ConnectFailed(
                attempt, Status(Code::kUnavailable, "no answer to hello from sim:" + self->name_));
          }
        });
  }
  auto server = host_->fabric->FindServer(name_);
  // Where nobody listens the refusal still takes its time.
  Fate fate = host_->fabric->Draw(host_->name, server ? server->host().name : host_->name);
  if (fate.lost) return;
  (void)host_->fabric->After(fate.delay, [weak = weak_from_this(), attempt, reset = fate.reset] {
    auto self = weak.lock();
    if (!self) return;
    if (reset)
      return self->ConnectFailed(attempt,
                                 Status(Code::kUnavailable, "connection reset during hello"));
    self->Connecting(attempt);
  });
}

void ClientCore::Connecting(uint64_t attempt) {
  auto server = host_->fabric->FindServer(name_);
  if (!server) {
    return ConnectFailed(attempt, Status(Code::kUnavailable, "nobody listens on sim:" + name_));
  }
  HelloPeer seen;
  auto accepted = server->Accept(*host_, weak_from_this(), &seen);
  if (!accepted.ok()) return ConnectFailed(attempt, accepted.status());
  std::shared_ptr<Link> link = *accepted;
  Fate fate = host_->fabric->Draw(server->host().name, host_->name);
  if (fate.lost || fate.reset) {
    // The client gives up at its timeout; the server then sees the end of a connection without
    // calls.
    (void)host_->fabric->After(fate.reset ? fate.delay : kConnectTimeout,
                               [link] { link->Break("connection lost during hello"); });
    return;
  }
  bool posted = host_->fabric->After(fate.delay, [weak = weak_from_this(), attempt, link, seen] {
    if (auto self = weak.lock()) {
      self->Connected(attempt, link, seen);
    } else {
      link->Break("the channel is gone");
    }
  });
  if (!posted) link->Break("the scheduler has stopped");
}

void ClientCore::Connected(uint64_t attempt, std::shared_ptr<Link> link, const HelloPeer& server) {
  bool late = false;
  {
    std::lock_guard lock(mu_);
    late = closed_ || !connecting_ || attempt != attempt_;
    if (!late) {
      connecting_ = false;
      (void)host_->fabric->scheduler().Cancel(std::exchange(connect_timer_, 0));
      healthy_ = true;
      link_ = link;
      credits_ = Credits(std::max<uint32_t>(1, std::min(server.credits, host_->options.credits)));
      bytes_ = host_->BytesWith(server.role, server.node_id);
    }
  }
  if (late) return link->Break("the client gave up");
  // Its end was told while it was nobody's yet.
  if (!link->Alive()) return Broken(link, "the connection broke during hello");
  Pump();
}

void ClientCore::ConnectFailed(uint64_t attempt, const Status& why) {
  why.Ignore();  // often the attempt is over
  std::vector<Channel::Done> failed;
  {
    std::lock_guard lock(mu_);
    if (!connecting_ || attempt != attempt_) return;
    connecting_ = false;
    healthy_ = false;
    (void)host_->fabric->scheduler().Cancel(std::exchange(connect_timer_, 0));
    for (uint64_t id : waiting_.TakeAll()) failed.push_back(TakeLocked(calls_.find(id)));
  }
  for (auto& done : failed) Run(std::move(done), why);
}

// ---------------------------------------------------------------- calls

void ClientCore::Pump() {
  while (true) {
    std::shared_ptr<Link> link;
    std::shared_ptr<const Request> request;
    {
      std::lock_guard lock(mu_);
      if (waiting_.empty() || closed_) return;
      link = link_;
      if (link) {
        Nanos now = host_->fabric->Now();
        auto traffic = waiting_.Next(now, [this](TrafficClass c) { return credits_.Free(c); });
        if (!traffic) return;
        Pending& pending = calls_.at(waiting_.Pop(*traffic, now));
        pending.sent = true;
        credits_.Take(*traffic);
        request = pending.request;
        bytes_->CountSent(*traffic, request->Bytes());
      }
    }
    if (!link) return Connect();
    Send(link, request);
  }
}

void ClientCore::Send(const std::shared_ptr<Link>& link,
                      const std::shared_ptr<const Request>& request) {
  Fate fate = host_->fabric->Draw(host_->name, link->server_host());
  if (fate.reset) return link->Break("the simulated network reset the connection");
  if (fate.lost) return;
  (void)host_->fabric->After(fate.delay, [link, request] { link->Arrive(request); });
  if (fate.duplicated) {
    (void)host_->fabric->After(fate.second_delay, [link, request] { link->Arrive(request); });
  }
}

void ClientCore::Answered(const std::shared_ptr<Link>& link,
                          const std::shared_ptr<const Response>& response) {
  Nanos deadline;
  {
    std::lock_guard lock(mu_);
    auto it = calls_.find(response->id);
    if (link_ != link || it == calls_.end() || it->second.answered)
      return;  // late, or the second of two
    it->second.answered = true;
    deadline = it->second.request->deadline;
    bytes_->CountReceived(it->second.request->traffic, response->Bytes());
  }
  if (response->code != Code::kOk)
    return Finish(response->id, Status(response->code, response->text));
  if (!response->bulk) {
    Payload payload;
    payload.header = response->text;
    return Finish(response->id, std::move(payload));
  }
  if (host_->bytes_in != nullptr) host_->bytes_in->Add(static_cast<double>(response->bulk->size()));
  host_->fabric->FillPiece(host_->options.pool, response->bulk, deadline,
                           [weak = weak_from_this(), response](Piece piece) {
                             auto self = weak.lock();
                             if (!self) return;
                             if (!piece) return;  // the deadline's timer tells
                             Payload payload;
                             payload.header = response->text;
                             payload.bulk = std::move(piece);
                             self->Finish(response->id, std::move(payload));
                           });
}

void ClientCore::Finish(uint64_t id, Result<Payload> result) {
  result.status().Ignore();  // the call may be over
  Channel::Done done;
  {
    std::lock_guard lock(mu_);
    auto it = calls_.find(id);
    if (it == calls_.end()) return;
    if (!it->second.sent) waiting_.Erase(it->second.request->traffic, id);
    done = TakeLocked(it);
  }
  done(std::move(result));
  Pump();
}

Channel::Done ClientCore::TakeLocked(std::map<uint64_t, Pending>::iterator it) {
  if (it->second.sent) credits_.Give(it->second.request->traffic);
  (void)host_->fabric->scheduler().Cancel(it->second.timer);
  Channel::Done done = std::move(it->second.done);
  calls_.erase(it);
  return done;
}

void ClientCore::Broken(const std::shared_ptr<Link>& link, const std::string& why) {
  Status lost(Code::kUnavailable, "lost the connection to sim:" + name_ + ": " + why);
  lost.Ignore();  // there may be no calls to fail
  std::vector<Channel::Done> failed;
  bool again = false;
  {
    std::lock_guard lock(mu_);
    if (link_ != link) return;
    link_.reset();
    healthy_ = false;
    for (auto it = calls_.begin(); it != calls_.end();) {
      auto next = std::next(it);
      if (it->second.sent) failed.push_back(TakeLocked(it));
      it = next;
    }
    again = !waiting_.empty() && !closed_;
  }
  for (auto& done : failed) Run(std::move(done), lost);
  if (again) Connect();
}

bool ClientCore::Healthy() const {
  std::lock_guard lock(mu_);
  return healthy_ && !closed_;
}

void ClientCore::Close() {
  Status why(Code::kCancelled, "the channel to sim:" + name_ + " was closed");
  why.Ignore();  // there may be no calls to fail
  std::vector<Channel::Done> failed;
  std::shared_ptr<Link> link;
  {
    std::lock_guard lock(mu_);
    if (std::exchange(closed_, true)) return;
    link = std::move(link_);
    link_.reset();
    connecting_ = false;
    waiting_.Clear();
    (void)host_->fabric->scheduler().Cancel(std::exchange(connect_timer_, 0));
    while (!calls_.empty()) failed.push_back(TakeLocked(calls_.begin()));
  }
  for (auto& done : failed) Run(std::move(done), why);
  if (link) link->Break("the client closed the connection");
}

}  // namespace perigee::rdma::sim
