#pragma once
// The listening side of `tls`: one TCP socket, its acceptor and its connections.
//
// Strangers cannot keep others out: a connection takes one of connections_max only once hello is
// done, and of those before it the oldest goes when there are more than kStrangersMax.

#include <deque>
#include <memory>
#include <mutex>
#include <set>
#include <string>

#include "rdma/tls/core.h"
#include "rdma/tls/server_connection.h"

namespace perigee::rdma::tls {

inline constexpr size_t kStrangersMax = 128;

class Acceptor : public Watcher, public std::enable_shared_from_this<Acceptor> {
 public:
  // kAlreadyExists: somebody listens there.
  static Result<std::shared_ptr<Acceptor>> Start(std::shared_ptr<Core> core,
                                                 const Endpoint& endpoint,
                                                 std::shared_ptr<Handler> handler);
  // From no thread of the transport. Returns when no callback runs any more.
  void Stop();
  void OnReady(uint32_t events) override;
  const std::string& address() const { return address_; }

 private:
  Acceptor(std::shared_ptr<Core> core, std::shared_ptr<Handler> handler)
      : core_(std::move(core)), handler_(std::move(handler)) {}
  Status Bind(const Endpoint& endpoint);
  void AcceptOne(OwnedFd fd, std::string from);
  void DropOldestStranger();
  void Closed(ServerConnection* connection);

  const std::shared_ptr<Core> core_;
  const std::shared_ptr<Handler> handler_;
  std::string address_;
  std::shared_ptr<EventLoop> loop_;
  OwnedFd socket_;
  Watch watch_;
  std::deque<std::weak_ptr<ServerConnection>> strangers_;  // loop only; some meanwhile served
  std::mutex mu_;                                          // guards what follows
  bool stopped_ = false;
  std::set<std::shared_ptr<ServerConnection>> connections_;
};

class TlsListener final : public Listener {
 public:
  explicit TlsListener(std::shared_ptr<Acceptor> acceptor) : acceptor_(std::move(acceptor)) {}
  ~TlsListener() override { Stop(); }
  std::string address() const override { return acceptor_->address(); }
  void Stop() override { acceptor_->Stop(); }

 private:
  const std::shared_ptr<Acceptor> acceptor_;
};

}  // namespace perigee::rdma::tls
