#pragma once
// ClientConnection: the client's end of one connection: hello, then requests out and answers in. It
// knows calls by id while they are in flight; queues and reconnecting belong to ClientCore.
// Loop-bound.

#include <memory>
#include <optional>
#include <unordered_map>

#include "rdma/credits.h"
#include "rdma/hello.h"
#include "rdma/rendezvous/client_call.h"
#include "rdma/rendezvous/link.h"

namespace perigee::rdma::rendezvous {

class ClientCore;

class ClientConnection final : public LinkUser,
                               public std::enable_shared_from_this<ClientConnection> {
 public:
  ClientConnection(std::shared_ptr<Core> core, std::shared_ptr<Loop> loop,
                   std::shared_ptr<ClientCore> owner);
  Status Open(const SocketAddress& address);
  void SendRequest(const std::shared_ptr<ClientCall>& call);
  Link& link() { return *link_; }
  void Close(bool politely);

  Status OnIncoming(Incoming incoming) override;
  void OnEnd(const Status& why) override;

  bool ready = false;
  Credits credits;  // none before hello is done
  // `call` is null when its caller has given up: it holds its credit until the server answers.
  struct InFlight {
    std::shared_ptr<ClientCall> call;
    TrafficClass traffic = TrafficClass::kForeground;
  };
  std::unordered_map<uint64_t, InFlight> in_flight;

 private:
  Status HandleHello(const Incoming& incoming);
  Status HandleResponse(Incoming incoming);

  const std::shared_ptr<Core> core_;
  const std::shared_ptr<Loop> loop_;
  const uint64_t number_;
  std::shared_ptr<ClientCore> owner_;  // until the end
  std::shared_ptr<Link> link_;
  std::optional<HelloClient> hello_;
  Loop::TimerId hello_timer_ = 0;
  uint64_t next_id_ = 0;
};

}  // namespace perigee::rdma::rendezvous
