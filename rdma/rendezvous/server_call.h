#pragma once
// RendezvousServerCall: one request of a ServerConnection, until it is answered.

#include "base/failpoint.h"
#include "rdma/connection_call.h"
#include "rdma/rendezvous/server_connection.h"

namespace perigee::rdma::rendezvous {

inline void SendReply(ServerConnection* connection, CallTicket ticket, const Status& status,
                      Payload payload) {
  PERIGEE_FAILPOINT(rdma_rendezvous_before_reply);
  connection->SendReply(ticket, status, std::move(payload));
  PERIGEE_FAILPOINT(rdma_rendezvous_after_reply);
}

class RendezvousServerCall final : public ConnectionCall<ServerConnection, SendReply> {
 public:
  using ConnectionCall::ConnectionCall;
};

}  // namespace perigee::rdma::rendezvous
