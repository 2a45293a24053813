#include "rdma/network/network.h"

#include <utility>

#include "base/log.h"
#include "rdma/network/provider_choice.h"
#include "rdma/nodes_only.h"
#include "rdma/ofi_transport.h"
#include "rdma/ucx_transport.h"

namespace perigee::rdma {

namespace {

TlsOptions ForTls(const NetworkOptions& o) {
  TlsOptions tls;
  tls.ca_file = o.ca_file;
  tls.cert_file = o.cert_file;
  tls.key_file = o.key_file;
  return tls;
}

UcxOptions ForUcx(const NetworkOptions& o, const Fabric& fabric) {
  UcxOptions ucx;
  ucx.poll = o.poll;
  ucx.fabric_trusted = o.fabric_trusted;
  ucx.devices = o.fabric_interfaces;
  if (!fabric.rdma_device.empty()) {
    ucx.devices.push_back(fabric.rdma_device);
    ucx.rdma_interfaces.push_back(fabric.interface);
  }
  // A trusted fabric without names is the one listened on; UCX would try every interface there is.
  if (ucx.devices.empty()) ucx.devices.push_back(fabric.interface);
  return ucx;
}

OfiOptions ForOfi(const NetworkOptions& o, const Fabric& fabric) {
  OfiOptions ofi;
  ofi.poll = o.poll;
  ofi.fabric_trusted = o.fabric_trusted;
  ofi.devices = o.fabric_interfaces;
  if (!fabric.rdma_device.empty()) ofi.devices.push_back(fabric.interface);
  return ofi;
}

Result<std::unique_ptr<Transport>> Make(const std::string& provider, const NetworkOptions& o,
                                        const Fabric& fabric, TransportOptions transport) {
  if (provider == "tls") return CreateTlsTransport(std::move(transport), ForTls(o));
  if (provider == "ofi") return CreateOfiTransport(std::move(transport), ForOfi(o, fabric));
  return CreateUcxTransport(std::move(transport), ForUcx(o, fabric));
}

// `advertise`, with the port of what was bound where it has none.
std::string Advertised(const std::string& advertise, const std::string& bound) {
  const size_t prefix = bound.find(':') + 1;
  if (advertise.empty()) return bound;
  if (ParseHostPort(advertise).ok()) return bound.substr(0, prefix) + advertise;
  return bound.substr(0, prefix) + advertise + bound.substr(bound.rfind(':'));
}

}  // namespace

Result<std::unique_ptr<Network>> Network::Create(const NetworkOptions& options,
                                                 TransportOptions transport, LocalOptions local) {
  std::unique_ptr<Network> network(new Network(options));
  PERIGEE_ASSIGN(auto sockets, CreateLocalTransport(transport, local));
  network->transports_.Add(std::move(sockets));
  if (!options.listen.empty()) PERIGEE_TRY(network->AddProvider(std::move(transport)));
  return network;
}

Status Network::AddProvider(TransportOptions transport) {
  Fabric fabric;
  const bool asked_for_tls =
      options_.transport == "tls" || (options_.transport == "auto" && options_.certified());
  if (!asked_for_tls) {  // which may listen on all interfaces
    auto found = FabricOf(options_.listen);
    if (!found.ok())
      return Status(Code::kInvalidArgument,
                    "--listen " + options_.listen + ": " + found.status().message());
    fabric = std::move(*found);
  }
  PERIGEE_ASSIGN(ProviderChoice choice, ChooseProvider(options_, fabric));
  if (choice.provider == "ucx" && !fabric.carrier)
    return Status(Code::kUnavailable, "--listen " + options_.listen + ": " + fabric.interface +
                                          " is down, and UCX would not see it come up");
  info_.provider = choice.provider;
  info_.why = choice.why;
  auto provider = Make(choice.provider, options_, fabric, std::move(transport));
  if (!provider.ok()) return std::move(provider).TakeStatus();
  transports_.Add(std::move(*provider));
  info_.addresses = {Advertised(options_.advertise, choice.provider + ":" + options_.listen)};
  return Status::Ok();
}

Status Network::Listen(const std::string& socket, std::shared_ptr<Handler> handler) {
  PERIGEE_ASSIGN(local_, transports_.Listen(socket, handler));
  socket_ = local_->address();
  if (info_.provider.empty()) return Status::Ok();
  PERIGEE_ASSIGN(elsewhere_, transports_.Listen(info_.provider + ":" + options_.listen,
                                                std::make_shared<NodesOnly>(std::move(handler))));
  info_.listen = elsewhere_->address();
  info_.addresses = {Advertised(options_.advertise, info_.listen)};
  log::Info("network", {{"provider", info_.provider},
                        {"why", info_.why},
                        {"listen", info_.listen},
                        {"address", info_.addresses.front()}});
  return Status::Ok();
}

void Network::Stop() {
  for (auto* listener : {&local_, &elsewhere_})
    if (*listener) (*listener)->Stop();
}

}  // namespace perigee::rdma
