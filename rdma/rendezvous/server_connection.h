#pragma once
// ServerConnection: one accepted peer of a listener.
//
// Requests are checked and handed to the handler on the connection's loop, once their bulk has been
// pulled; replies may come from any thread. Whatever breaks the rules ends this connection and no
// other. Thread rule: loop-bound, but for SendReply and PostClose.

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <unordered_set>

#include "rdma/connection_call.h"
#include "rdma/hello.h"
#include "rdma/rendezvous/link.h"

namespace perigee::rdma::rendezvous {

class RendezvousServerCall;

class ServerConnection final : public LinkUser,
                               public std::enable_shared_from_this<ServerConnection> {
 public:
  // `on_closed` runs on the loop, last.
  ServerConnection(std::shared_ptr<Core> core, std::shared_ptr<Loop> loop,
                   std::shared_ptr<Handler> handler,
                   std::function<void(ServerConnection*)> on_closed);

  void Open(std::shared_ptr<ConnectionRequest> request);
  // `done` runs after the connection has closed and its last callback returned.
  void PostClose(std::function<void()> done);
  const Peer& peer() const { return peer_; }
  // At most once for each request. Thread-safe; a reply to a closed connection goes nowhere.
  void SendReply(CallTicket ticket, const Status& status, Payload payload);

  Status OnIncoming(Incoming incoming) override;
  void OnEnd(const Status& why) override;

 private:
  enum class Phase { kStart, kAnswer, kServing, kClosed };
  Status HandleHello(const Incoming& incoming);
  Status HandleRequest(Incoming incoming);
  void Refuse(const Status& why);
  void Unserved(const char* event, const std::string& why);
  void Close();
  void Reply(Outgoing out);

  const std::shared_ptr<Core> core_;
  const std::shared_ptr<Loop> loop_;
  Peer peer_;
  const std::shared_ptr<Handler> handler_;
  std::function<void(ServerConnection*)> on_closed_;
  const std::shared_ptr<Link> link_;
  Phase phase_ = Phase::kStart;
  std::optional<HelloServer> hello_;
  std::unordered_set<uint64_t> in_flight_;
  Loop::TimerId hello_timer_ = 0;
};

}  // namespace perigee::rdma::rendezvous
