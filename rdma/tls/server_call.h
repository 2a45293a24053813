#pragma once
// TlsServerCall: one request of a ServerConnection, until it is answered.

#include "base/failpoint.h"
#include "rdma/connection_call.h"
#include "rdma/tls/server_connection.h"

namespace perigee::rdma::tls {

inline void SendReply(ServerConnection* connection, CallTicket ticket, const Status& status,
                      Payload payload) {
  PERIGEE_FAILPOINT(rdma_tls_before_reply);
  connection->Reply(ticket, status, std::move(payload));
  PERIGEE_FAILPOINT(rdma_tls_after_reply);
}

class TlsServerCall final : public ConnectionCall<ServerConnection, SendReply> {
 public:
  using ConnectionCall::ConnectionCall;
};

}  // namespace perigee::rdma::tls
