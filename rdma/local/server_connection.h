#pragma once
// ServerConnection: one accepted peer of a `local` listener.
//
// Requests are read, checked and handed to the handler on the connection's loop; replies are
// written by whoever answers. A request whose bulk finds no buffer in the pool stops the reading of
// its connection until one comes free or its deadline passes: that is the back-pressure. Whatever
// breaks the rules ends this connection and no other. Thread rule: loop-bound, but for SendReply
// and PostClose.

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "rdma/connection_call.h"
#include "rdma/hello.h"
#include "rdma/local/core.h"

namespace perigee::rdma::local {

class LocalServerCall;

class ServerConnection : public Watcher, public std::enable_shared_from_this<ServerConnection> {
 public:
  // `on_closed` runs on the loop, last.
  ServerConnection(std::shared_ptr<Core> core, std::shared_ptr<EventLoop> loop, OwnedFd fd,
                   Peer peer, std::shared_ptr<Handler> handler,
                   std::function<void(ServerConnection*)> on_closed);
  ~ServerConnection() override;

  void PostOpen();
  // `done` runs after the connection has closed and its last callback returned.
  void PostClose(std::function<void()> done);
  void OnReady(uint32_t events) override;

  const Peer& peer() const { return peer_; }
  // At most once for each request. Thread-safe; a reply to a closed connection goes nowhere.
  void SendReply(CallTicket ticket, const Status& status, Payload payload);

 private:
  enum class Phase { kStart, kAnswer, kServing, kClosed };
  struct Held {  // the bulk of a reply until the client has pulled it
    Piece piece;
    Lease lease;  // withdrawn before the piece goes
    Nanos until = 0;
  };
  struct Stalled {  // a request that waits for a buffer
    std::unique_ptr<LocalServerCall> call;
    std::optional<BulkSource> source;
    std::string inline_bulk;
  };

  void Open();
  void Close();
  void ReadOnce();
  void HandleBuffered();
  Status Handle(Frame& frame);
  Status HandleHello(Frame& frame);
  Status HandleRequest(Frame& frame);
  Status HandlePulled(uint64_t id);
  Status Accept(std::string_view answer);
  Status Refuse(const Status& why);
  Status SendControl(FrameKind kind, std::string_view message);
  Status FillBulk(Stalled& request, Piece piece);
  void Deliver(std::unique_ptr<LocalServerCall> call);
  Piece AllocateOrWatch(size_t bytes);
  void RetryStalled();
  void SweepHeld();
  void ArmSweep(Nanos at);
  FrameLimits Limits() const;
  bool MayReadSlabs() const;

  const std::shared_ptr<Core> core_;
  const std::shared_ptr<EventLoop> loop_;
  Peer peer_;
  const std::shared_ptr<Handler> handler_;
  std::function<void(ServerConnection*)> on_closed_;

  // Loop only.
  Watch watch_;
  Phase phase_ = Phase::kStart;
  std::optional<HelloServer> hello_;
  RemoteSlabs slabs_;
  uint64_t last_id_ = 0;
  std::optional<Stalled> stalled_;
  bool watching_pool_ = false;
  EventLoop::TimerId stalled_timer_ = 0;
  EventLoop::TimerId hello_timer_ = 0;
  EventLoop::TimerId sweep_timer_ = 0;

  PeerBytes* bytes_ = nullptr;  // set before the first call
  std::atomic<uint32_t> in_flight_{0};
  std::atomic<bool> trusted_{false};  // set before the first call
  Stream stream_;
  // Guarded by stream_.write_mutex().
  bool closed_ = false;
  std::map<uint64_t, Held> held_;
};

}  // namespace perigee::rdma::local
