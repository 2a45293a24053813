#pragma once
// ServerConnection: one accepted peer of a `tls` listener: hello, requests and their answers.
// Whatever breaks the rules ends this connection and no other, with one log line. Thread rule:
// loop-bound, but for Reply, PostOpen, PostClose, served and peer (constant once served).

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "rdma/connection_call.h"
#include "rdma/hello.h"
#include "rdma/tls/core.h"
#include "rdma/tls/link.h"

namespace perigee::rdma::tls {

class TlsServerCall;

class ServerConnection final : public Link {
 public:
  // `on_closed` runs on the loop, last.
  ServerConnection(std::shared_ptr<Core> core, std::shared_ptr<EventLoop> loop, OwnedFd fd,
                   std::string from, std::shared_ptr<Handler> handler,
                   std::function<void(ServerConnection*)> on_closed);
  ~ServerConnection() override;

  void PostOpen();
  // `done` runs after the connection has closed and its last callback returned.
  void PostClose(std::function<void()> done);
  const Peer& peer() const { return peer_; }
  bool served() const { return served_; }  // hello is done
  // At most once for each request. A reply to a closed connection goes nowhere.
  void Reply(CallTicket ticket, Status status, Payload payload);

 private:
  struct Arriving {  // a request whose bulk is on its way
    std::unique_ptr<TlsServerCall> call;
    EventLoop::TimerId timer = 0;
  };
  void Open();
  void Close();
  void OnOpen() override {}
  FrameLimits Limits() const override;
  Status OnFrame(const Frame& frame) override;
  void OnBulk(uint64_t id, Result<Piece> piece) override;
  void OnEnd(const Status& why) override;
  Status HandleHello(const Frame& frame);
  Status Accept(std::string_view answer);
  Status Refuse(const Status& why);
  Status HandleRequest(const Frame& frame);
  void Late(uint64_t id);
  void Answer(CallTicket ticket, const Status& status, Payload payload);

  const std::shared_ptr<Handler> handler_;
  const std::string from_;  // the peer's address, for the log
  OwnedFd fd_;              // until Open
  std::function<void(ServerConnection*)> on_closed_;
  Peer peer_;
  std::atomic<bool> served_{false};
  std::optional<HelloServer> hello_;
  bool challenged_ = false;
  bool closing_ = false;
  EventLoop::TimerId hello_timer_ = 0;
  uint64_t last_id_ = 0;
  uint32_t in_flight_ = 0;
  std::map<uint64_t, Arriving> arriving_;
};

}  // namespace perigee::rdma::tls
