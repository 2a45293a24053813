#pragma once
// ClientCore: a `local` channel's queue of calls, its connection, and who reads it.
//
// Calls leave by their traffic class, then in the order they came, while the connection has
// credits. A thread that waits for its answer reads the socket itself when nobody does (the
// leader), hands out what it reads to the other waiting threads (followers), and passes the role on
// when it leaves: a call then costs no thread switch on the client. The loop reads during hello,
// while asynchronous calls are in flight and nobody waits, and to learn of the connection's end.
//
// Invariant: while a connection has calls in flight, someone holds the reader's role or is about to
// take it: a caller on its way into Wait, a follower that was woken, or the loop. Locks: the
// connection's write mutex, then mu_; the loop's own last.

#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "rdma/local/client_call.h"
#include "rdma/local/client_connection.h"
#include "rdma/local/core.h"

namespace perigee::rdma::local {

class ClientCore : public std::enable_shared_from_this<ClientCore> {
 public:
  ClientCore(std::shared_ptr<Core> core, std::shared_ptr<EventLoop> loop, std::string path)
      : core_(std::move(core)),
        loop_(std::move(loop)),
        path_(std::move(path)),
        waiting_(core_->options().class_age),
        parked_(core_->options().class_age) {}

  void CallAsync(std::shared_ptr<ClientCall> call);
  Result<Payload> CallAndWait(std::shared_ptr<ClientCall> call);
  bool Healthy() const;
  void Close();
  const std::string& path() const { return path_; }
  Core& core() const { return *core_; }

  // ---- for ClientConnection ----
  void Ready(const std::shared_ptr<ClientConnection>& connection, const HelloPeer& server);
  Status Answered(ClientConnection& connection, Status status, Answer answer);
  void Pump(const std::shared_ptr<ClientConnection>& connection);
  void Break(const std::shared_ptr<ClientConnection>& connection, const Status& why);
  // Whether the loop reads now. `ended`: the connection is at its end, so look in any case unless a
  // caller reads.
  bool LoopMayRead(const std::shared_ptr<ClientConnection>& connection, bool ended);
  void LoopHasRead(const std::shared_ptr<ClientConnection>& connection);

 private:
  using CallPtr = std::shared_ptr<ClientCall>;
  using ConnectionPtr = std::shared_ptr<ClientConnection>;

  // Staging: the bulk inline, where it lies in the pool, or copied there. client_staging.cc.
  Status Check(const ClientCall& call) const;
  bool NeedsCopy(ClientCall* call) const;
  static void CopyInto(ClientCall* call, Piece piece);
  Status Lend(ClientCall* call) const;
  Status StageAndWait(ClientCall* call) const;
  void Park(const CallPtr& call);
  void RetryParked();
  void WatchPool();
  void Refuse(const CallPtr& call, Status why);

  // Collecting: the answer's bulk into a buffer of ours. client_staging.cc.
  Result<Payload> Collect(ClientCall* call);
  Status Pull(Answer* answer, Piece* piece);
  Piece Borrow(Answer* answer);
  static void Unwanted(Answer* answer);
  void Deliver(const CallPtr& call);
  Piece CollectingPiece(const CallPtr& call, size_t bytes);

  void Submit(const CallPtr& call);
  void ConnectLocked();
  void FailWaitingLocked(const Status& why);
  void FinishLocked(const CallPtr& call, Status status, Answer answer);
  void EnsureReaderLocked(const ConnectionPtr& connection);
  void Lead(const ConnectionPtr& connection, ClientCall* call);
  void Expire(const CallPtr& call);

  const std::shared_ptr<Core> core_;
  const std::shared_ptr<EventLoop> loop_;
  const std::string path_;

  mutable std::mutex mu_;  // guards what follows, and the marked members of calls and connections
  bool closed_ = false;
  bool healthy_ = true;
  bool retry_armed_ = false;
  ConnectionPtr connection_;
  ClassQueue<CallPtr> waiting_;  // for the connection or a credit
  ClassQueue<CallPtr> parked_;   // asynchronous, for a buffer to copy their bulk into
  bool watching_pool_ = false;
  std::list<ClientCall*> followers_;
  size_t arriving_ = 0;            // callers that have submitted and are about to look who reads
  std::list<CallPtr> collecting_;  // asynchronous, answered, for a buffer to pull the bulk into
};

class LocalChannel final : public Channel {
 public:
  explicit LocalChannel(std::shared_ptr<ClientCore> core) : core_(std::move(core)) {}
  ~LocalChannel() override;
  void Call(wire::Method method, std::string header, ConstBytes bulk, CallOptions options,
            Done done) override;
  Result<Payload> CallAndWait(wire::Method method, std::string header, ConstBytes bulk,
                              CallOptions options) override;
  bool Healthy() const override { return core_->Healthy(); }
  std::string Describe() const override { return "local " + core_->path(); }
  void Close() override { core_->Close(); }

 private:
  const std::shared_ptr<ClientCore> core_;
};

}  // namespace perigee::rdma::local
