#pragma once
// The listening side: one address, its acceptor and its connections, which are spread over
// the transport's loops.

#include <memory>
#include <mutex>
#include <set>
#include <string>

#include "rdma/rendezvous/core.h"
#include "rdma/rendezvous/server_connection.h"
#include "rdma/rendezvous/worker.h"

namespace perigee::rdma::rendezvous {

class Acceptor : public std::enable_shared_from_this<Acceptor> {
 public:
  static Result<std::shared_ptr<Acceptor>> Start(std::shared_ptr<Core> core,
                                                 const SocketAddress& address,
                                                 std::shared_ptr<Handler> handler);
  // From no thread of the transport. Returns when no callback runs any more.
  void Stop();
  const std::string& address() const { return address_; }  // "ucx:10.0.0.1:9002"
  bool OwnProcess() const { return core_->OwnProcess(); }

 private:
  Acceptor(std::shared_ptr<Core> core, std::shared_ptr<Handler> handler)
      : core_(std::move(core)), handler_(std::move(handler)) {}
  Status Bind(const SocketAddress& address);
  void OnRequest(std::shared_ptr<ConnectionRequest> request);
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

class RendezvousListener final : public Listener {
 public:
  explicit RendezvousListener(std::shared_ptr<Acceptor> acceptor)
      : acceptor_(std::move(acceptor)) {}
  ~RendezvousListener() override { Stop(); }
  std::string address() const override { return acceptor_->address(); }
  void Stop() override { acceptor_->Stop(); }

 private:
  const std::shared_ptr<Acceptor> acceptor_;
};

}  // namespace perigee::rdma::rendezvous
