#pragma once
// LocalServerCall: one request of a ServerConnection, until it is answered.

#include "base/failpoint.h"
#include "rdma/connection_call.h"
#include "rdma/local/server_connection.h"

namespace perigee::rdma::local {

inline void SendReply(ServerConnection* connection, CallTicket ticket, const Status& status,
                      Payload payload) {
  PERIGEE_FAILPOINT(rdma_local_before_reply);
  connection->SendReply(ticket, status, std::move(payload));
  PERIGEE_FAILPOINT(rdma_local_after_reply);
}

class LocalServerCall final : public ConnectionCall<ServerConnection, SendReply> {
 public:
  using ConnectionCall::ConnectionCall;
};

}  // namespace perigee::rdma::local
