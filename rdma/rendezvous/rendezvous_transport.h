#pragma once
// RendezvousTransport: a Transport over a Core, with addresses "PROVIDER:HOST:PORT". Thread-safe.

#include <memory>
#include <string>

#include "rdma/provider_transport.h"
#include "rdma/rendezvous/acceptor.h"
#include "rdma/rendezvous/client_core.h"
#include "rdma/rendezvous/core.h"

namespace perigee::rdma::rendezvous {

class RendezvousTransport final : public ProviderTransport<Core, ClientCore, Acceptor> {
 public:
  using ProviderTransport::ProviderTransport;
  Result<std::unique_ptr<Listener>> Listen(const std::string& address,
                                           std::shared_ptr<Handler> handler) override;
  Result<std::shared_ptr<Channel>> Connect(const std::string& address) override;
  std::string name() const override { return core()->provider(); }
  bool passes_fds() const override { return false; }

 private:
  Result<SocketAddress> AddressOf(const std::string& address) const;
};

}  // namespace perigee::rdma::rendezvous
