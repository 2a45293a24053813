#pragma once
// ClientCore: a channel's calls, and the connection they go by.
//
// Calls leave by their traffic class, then in the order they came, while the connection has
// credits. A connection that cannot be made fails what waits, and the next attempt comes after a
// pause that doubles. Bulk outside the pool is copied into it; when the pool is full the call waits
// for that (parked). Thread rule: Call, Close, Healthy and Describe are thread-safe, everything
// else is the loop's.

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_set>

#include "rdma/rendezvous/client_connection.h"

namespace perigee::rdma::rendezvous {

class ClientCore : public std::enable_shared_from_this<ClientCore> {
 public:
  ClientCore(std::shared_ptr<Core> core, std::shared_ptr<Loop> loop, SocketAddress address)
      : core_(std::move(core)),
        loop_(std::move(loop)),
        address_(address),
        name_(core_->provider() + ":" + address.ToString()),
        waiting_(core_->options().class_age),
        parked_(core_->options().class_age) {}

  void Call(std::shared_ptr<ClientCall> call);
  void Close();
  bool Healthy() const { return healthy_ && !closed_; }
  std::string Describe() const;
  Core& core() const { return *core_; }

  // ---- for ClientConnection ----
  using CallPtr = std::shared_ptr<ClientCall>;
  using ConnectionPtr = std::shared_ptr<ClientConnection>;
  void Ready(const ConnectionPtr& connection);
  void Broken(const ConnectionPtr& connection, const Status& why);
  void Pump();
  // The first outcome counts.
  void Finish(const CallPtr& call, Result<Payload> outcome);
  // The server has fetched the call's bulk, or does not want it.
  void LetGo(const CallPtr& call);

 private:
  void Start(const CallPtr& call);
  void EnsureConnected();
  void ConnectNow();
  void FailWaiting(const Status& why);
  void Expire(const CallPtr& call);
  bool Stage(const CallPtr& call);
  void Unpark();
  void Tell(const CallPtr& call);
  void HoldsOn(const CallPtr& call, const ConnectionPtr& connection);
  void CloseOnLoop();

  const std::shared_ptr<Core> core_;
  const std::shared_ptr<Loop> loop_;
  const SocketAddress address_;
  const std::string name_;
  std::atomic<bool> closed_{false};
  std::atomic<bool> healthy_{true};
  mutable std::mutex path_mu_;  // guards path_
  std::string path_;            // what the last connection runs over

  // Loop only.
  bool ended_ = false;
  ConnectionPtr connection_;
  std::unordered_set<CallPtr> calls_;  // not finished
  ClassQueue<CallPtr> waiting_;        // for the connection or a credit
  ClassQueue<CallPtr> parked_;         // for a buffer to copy their bulk into
  bool watching_pool_ = false;
  Nanos pause_ = 0;
  Nanos next_attempt_ = 0;
  Loop::TimerId retry_timer_ = 0;
};

class RendezvousChannel final : public Channel {
 public:
  explicit RendezvousChannel(std::shared_ptr<ClientCore> core) : core_(std::move(core)) {}
  ~RendezvousChannel() override;
  void Call(wire::Method method, std::string header, ConstBytes bulk, CallOptions options,
            Done done) override;
  bool Healthy() const override { return core_->Healthy(); }
  std::string Describe() const override { return core_->Describe(); }
  void Close() override { core_->Close(); }

 private:
  const std::shared_ptr<ClientCore> core_;
};

}  // namespace perigee::rdma::rendezvous
