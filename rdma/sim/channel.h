#pragma once
// The calling side of `sim`. Thread-safe; completions run as tasks, with no lock held.

#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "rdma/credits.h"
#include "rdma/sim/server.h"
#include "rdma/transport.h"

namespace perigee::rdma::sim {

class ClientCore : public std::enable_shared_from_this<ClientCore> {
 public:
  ClientCore(std::shared_ptr<Host> host, std::string name)
      : host_(std::move(host)), name_(std::move(name)), waiting_(host_->options.class_age) {}

  void Call(wire::Method method, std::string header, ConstBytes bulk, CallOptions options,
            Channel::Done done);
  bool Healthy() const;
  void Close();
  const std::string& name() const { return name_; }

  // ---- for Link ----
  void Answered(const std::shared_ptr<Link>& link, const std::shared_ptr<const Response>& response);
  void Broken(const std::shared_ptr<Link>& link, const std::string& why);

 private:
  struct Pending {
    std::shared_ptr<const Request> request;
    Channel::Done done;
    Scheduler::TimerId timer = 0;
    bool sent = false;
    bool answered = false;  // its bulk waits for a buffer
  };

  void Connect();
  void Connecting(uint64_t attempt);
  void Connected(uint64_t attempt, std::shared_ptr<Link> link, const HelloPeer& server);
  void ConnectFailed(uint64_t attempt, const Status& why);
  void Pump();
  void Send(const std::shared_ptr<Link>& link, const std::shared_ptr<const Request>& request);
  void Finish(uint64_t id, Result<Payload> result);
  void Run(Channel::Done done, Result<Payload> result);
  Channel::Done TakeLocked(std::map<uint64_t, Pending>::iterator it);

  const std::shared_ptr<Host> host_;
  const std::string name_;
  mutable std::mutex mu_;  // guards what follows
  bool closed_ = false;
  bool healthy_ = true;
  bool connecting_ = false;
  uint64_t attempt_ = 0;
  Scheduler::TimerId connect_timer_ = 0;
  std::shared_ptr<Link> link_;
  Credits credits_;
  PeerBytes* bytes_ = nullptr;  // of link_
  uint64_t next_id_ = 0;
  std::map<uint64_t, Pending> calls_;
  ClassQueue<uint64_t> waiting_;
};

class SimChannel final : public Channel {
 public:
  explicit SimChannel(std::shared_ptr<ClientCore> core) : core_(std::move(core)) {}
  ~SimChannel() override { core_->Close(); }
  void Call(wire::Method method, std::string header, ConstBytes bulk, CallOptions options,
            Done done) override {
    core_->Call(method, std::move(header), bulk, options, std::move(done));
  }
  bool Healthy() const override { return core_->Healthy(); }
  std::string Describe() const override { return "sim " + core_->name(); }
  void Close() override { core_->Close(); }

 private:
  const std::shared_ptr<ClientCore> core_;
};

}  // namespace perigee::rdma::sim
