#pragma once
// ClientCore: a `tls` channel's waiting calls and its connection. Calls leave by their traffic
// class, then in the order they came, while the connection has credits.
//
// A connection that was lost after hello is made anew at once; one that could not be made is tried
// again by the next call, after a pause that doubles from 10 ms to 1 s. Calls wait for a short
// pause and fail at once during a long one. Thread rule: the first part thread-safe, the rest
// loop-bound.

#include <atomic>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "base/random.h"
#include "rdma/tls/client_call.h"
#include "rdma/tls/client_connection.h"
#include "rdma/tls/core.h"

namespace perigee::rdma::tls {

class ClientCore : public std::enable_shared_from_this<ClientCore> {
 public:
  ClientCore(std::shared_ptr<Core> core, std::shared_ptr<EventLoop> loop, Endpoint endpoint);

  void Submit(std::shared_ptr<ClientCall> call);
  bool Healthy() const { return healthy_ && !closed_; }
  void Close();
  const Endpoint& endpoint() const { return endpoint_; }
  Core& core() const { return *core_; }

  // ---- for ClientConnection; the loop ----
  void Ready();
  void Ended(const std::shared_ptr<ClientConnection>& connection, const Status& why);
  void Finish(const std::shared_ptr<ClientCall>& call, Result<Payload> result);
  void Pump();

 private:
  using CallPtr = std::shared_ptr<ClientCall>;
  void Enqueue(const CallPtr& call);
  void Expire(const CallPtr& call);
  void Connect();
  void Resolved(Result<std::vector<SocketAddress>> addresses);
  void OpenNext();
  void GiveUpConnecting(const Status& why);
  void FailWaiting(const Status& why);
  void CloseNow();

  const std::shared_ptr<Core> core_;
  const std::shared_ptr<EventLoop> loop_;
  const Endpoint endpoint_;
  std::atomic<bool> closed_{false};
  std::atomic<bool> healthy_{true};

  // Loop only.
  ClassQueue<CallPtr> waiting_;  // for the connection or a credit
  std::shared_ptr<ClientConnection> connection_;
  bool connecting_ = false;  // until hello is done, or failed
  std::deque<SocketAddress> candidates_;
  EventLoop::TimerId connect_timer_ = 0;
  EventLoop::TimerId retry_timer_ = 0;
  Nanos pause_ = 0;
  Nanos next_attempt_ = 0;
  std::string last_failure_;
  Random random_;
};

class TlsChannel final : public Channel {
 public:
  explicit TlsChannel(std::shared_ptr<ClientCore> core) : core_(std::move(core)) {}
  ~TlsChannel() override;
  void Call(wire::Method method, std::string header, ConstBytes bulk, CallOptions options,
            Done done) override;
  bool Healthy() const override { return core_->Healthy(); }
  std::string Describe() const override { return "tls " + core_->endpoint().text; }
  void Close() override { core_->Close(); }

 private:
  const std::shared_ptr<ClientCore> core_;
};

}  // namespace perigee::rdma::tls
