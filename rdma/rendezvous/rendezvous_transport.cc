#include "rdma/rendezvous/rendezvous_transport.h"

#include <utility>

namespace perigee::rdma::rendezvous {

Result<SocketAddress> RendezvousTransport::AddressOf(const std::string& address) const {
  std::string prefix = name() + ":";
  if (!address.starts_with(prefix)) {
    return Status(Code::kInvalidArgument, "\"" + address + "\" is not " + prefix + "HOST:PORT");
  }
  return ParseAddress(address.substr(prefix.size()));
}

Result<std::unique_ptr<Listener>> RendezvousTransport::Listen(const std::string& address,
                                                              std::shared_ptr<Handler> handler) {
  PERIGEE_ASSIGN(SocketAddress parsed, AddressOf(address));
  PERIGEE_ASSIGN(Interface interface, InterfaceOf(parsed));
  PERIGEE_TRY(core()->CheckInterface(interface));
  PERIGEE_ASSIGN(auto acceptor, Acceptor::Start(core(), parsed, std::move(handler)));
  return std::unique_ptr<Listener>(std::make_unique<RendezvousListener>(Keep(std::move(acceptor))));
}

Result<std::shared_ptr<Channel>> RendezvousTransport::Connect(const std::string& address) {
  PERIGEE_ASSIGN(SocketAddress parsed, AddressOf(address));
  PERIGEE_ASSIGN(Interface interface, InterfaceToward(parsed));
  PERIGEE_TRY(core()->CheckInterface(interface));
  PERIGEE_ASSIGN(auto loop, core()->NextLoop());
  auto channel = std::make_shared<ClientCore>(core(), std::move(loop), parsed);
  return std::shared_ptr<Channel>(std::make_shared<RendezvousChannel>(Keep(std::move(channel))));
}

}  // namespace perigee::rdma::rendezvous
