#pragma once
// The listening side of `ucx`: one address, its acceptor and its connections, which are spread over
// the transport's loops.

#include <memory>
#include <mutex>
#include <set>
#include <string>

#include "rdma/ucx/core.h"
#include "rdma/ucx/listen_socket.h"
#include "rdma/ucx/server_connection.h"

namespace perigee::rdma::ucx {

class Acceptor : public std::enable_shared_from_this<Acceptor> {
 public:
  static Result<std::shared_ptr<Acceptor>> Start(std::shared_ptr<Core> core,
                                                 const SocketAddress& address,
                                                 std::shared_ptr<Handler> handler);
  // From no thread of the transport. Returns when no callback runs any more.
  void Stop();
  std::string address() const { return address_; }
  bool OwnProcess() const { return core_->OwnProcess(); }

 private:
  Acceptor(std::shared_ptr<Core> core, std::shared_ptr<Handler> handler)
      : core_(std::move(core)), handler_(std::move(handler)) {}
  Status Bind(const SocketAddress& address);
  void OnRequest(ucp_conn_request* request);
  void Closed(ServerConnection* connection);

  const std::shared_ptr<Core> core_;
  const std::shared_ptr<Handler> handler_;
  std::shared_ptr<Loop> loop_;
  std::string address_;
  std::unique_ptr<ListenSocket> socket_;  // loop_ only
  std::mutex mu_;                         // guards what follows
  bool stopped_ = false;
  std::set<std::shared_ptr<ServerConnection>> connections_;
};

class UcxListener final : public Listener {
 public:
  explicit UcxListener(std::shared_ptr<Acceptor> acceptor) : acceptor_(std::move(acceptor)) {}
  ~UcxListener() override { Stop(); }
  std::string address() const override { return "ucx:" + acceptor_->address(); }
  void Stop() override { acceptor_->Stop(); }

 private:
  const std::shared_ptr<Acceptor> acceptor_;
};

}  // namespace perigee::rdma::ucx
