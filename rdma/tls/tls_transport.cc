// CreateTlsTransport: the `tls` provider, from its parts.

#include <memory>
#include <string>
#include <utility>

#include "rdma/provider_transport.h"
#include "rdma/tls/client_core.h"
#include "rdma/tls/listener.h"

namespace perigee::rdma {

namespace tls {
namespace {

class TlsTransport final : public ProviderTransport<Core, ClientCore, Acceptor> {
 public:
  using ProviderTransport::ProviderTransport;

  Result<std::unique_ptr<Listener>> Listen(const std::string& address,
                                           std::shared_ptr<Handler> handler) override {
    PERIGEE_ASSIGN(Endpoint endpoint, Endpoint::Of(address));
    PERIGEE_ASSIGN(auto acceptor, Acceptor::Start(core(), endpoint, std::move(handler)));
    return std::unique_ptr<Listener>(std::make_unique<TlsListener>(Keep(std::move(acceptor))));
  }

  Result<std::shared_ptr<Channel>> Connect(const std::string& address) override {
    PERIGEE_ASSIGN(Endpoint endpoint, Endpoint::Of(address));
    PERIGEE_ASSIGN(auto loop, core()->NextLoop());
    auto channel = std::make_shared<ClientCore>(core(), std::move(loop), std::move(endpoint));
    return std::shared_ptr<Channel>(std::make_shared<TlsChannel>(Keep(std::move(channel))));
  }

  std::string name() const override { return "tls"; }
  bool passes_fds() const override { return false; }
};

}  // namespace
}  // namespace tls

Result<std::unique_ptr<Transport>> CreateTlsTransport(TransportOptions options, TlsOptions tls) {
  PERIGEE_ASSIGN(auto core, tls::Core::Create(std::move(options), std::move(tls)));
  return std::unique_ptr<Transport>(std::make_unique<tls::TlsTransport>(std::move(core)));
}

}  // namespace perigee::rdma
