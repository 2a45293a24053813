#pragma once
// ListenSocket: a ucp_listener, and the connection requests that come to it. Thread rule: that of
// its Worker, but for ConnectionRequest, which may be handed to another worker's thread.

#include <functional>
#include <memory>
#include <string>

#include "rdma/ucx/address.h"
#include "rdma/ucx/worker.h"

struct ucp_listener;
struct ucp_conn_request;

namespace perigee::rdma::ucx {

class ListenSocket {
 public:
  // `on_request` is to Accept (Endpoint::Accept) or Reject each request.
  // kAlreadyExists: the address is in use.
  static Result<std::unique_ptr<ListenSocket>> Create(
      Worker* worker, const SocketAddress& address,
      std::function<void(ucp_conn_request*)> on_request);
  // Requests that were not told yet are rejected.
  ~ListenSocket();
  void Reject(ucp_conn_request* request);
  const SocketAddress& address() const { return address_; }

 private:
  struct Shared;  // with what is deferred
  ListenSocket() = default;
  std::shared_ptr<Shared> shared_;
  SocketAddress address_;
};

}  // namespace perigee::rdma::ucx
