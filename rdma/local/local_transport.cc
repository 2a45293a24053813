// CreateLocalTransport: the `local` provider, from its parts.

#include <memory>
#include <string>
#include <utility>

#include "rdma/local/client_core.h"
#include "rdma/local/listener.h"
#include "rdma/provider_transport.h"

namespace perigee::rdma {

namespace local {
namespace {

constexpr std::string_view kPrefix = "local:";

Result<std::string> PathOf(const std::string& address) {
  if (!address.starts_with(kPrefix) || address.size() == kPrefix.size()) {
    return Status(Code::kInvalidArgument, "\"" + address + "\" is not local:PATH");
  }
  return address.substr(kPrefix.size());
}

class LocalTransport final : public ProviderTransport<Core, ClientCore, Acceptor> {
 public:
  using ProviderTransport::ProviderTransport;

  Result<std::unique_ptr<Listener>> Listen(const std::string& address,
                                           std::shared_ptr<Handler> handler) override {
    PERIGEE_ASSIGN(std::string path, PathOf(address));
    PERIGEE_ASSIGN(auto acceptor, Acceptor::Start(core(), path, std::move(handler)));
    return std::unique_ptr<Listener>(std::make_unique<LocalListener>(Keep(std::move(acceptor))));
  }

  Result<std::shared_ptr<Channel>> Connect(const std::string& address) override {
    PERIGEE_ASSIGN(std::string path, PathOf(address));
    PERIGEE_ASSIGN(auto loop, core()->NextLoop());
    auto channel = std::make_shared<ClientCore>(core(), std::move(loop), path);
    return std::shared_ptr<Channel>(std::make_shared<LocalChannel>(Keep(std::move(channel))));
  }

  std::string name() const override { return "local"; }
  bool passes_fds() const override { return true; }
};

}  // namespace
}  // namespace local

Result<std::unique_ptr<Transport>> CreateLocalTransport(TransportOptions options,
                                                        LocalOptions local) {
  PERIGEE_ASSIGN(auto core, local::Core::Create(std::move(options), local));
  return std::unique_ptr<Transport>(std::make_unique<local::LocalTransport>(std::move(core)));
}

}  // namespace perigee::rdma
