#include "rdma/network/network.h"

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "rdma/network/provider_choice.h"
#include "rdma/nodes_only.h"
#include "rdma/ofi_transport.h"
#include "rdma/rails/address_list.h"
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

UcxOptions ForUcx(const NetworkOptions& o, const std::vector<Fabric>& fabrics) {
  UcxOptions ucx;
  ucx.poll = o.poll;
  ucx.fabric_trusted = o.fabric_trusted;
  ucx.devices = o.fabric_interfaces;
  for (const Fabric& fabric : fabrics) {
    if (fabric.rdma_device.empty()) continue;
    ucx.devices.push_back(fabric.rdma_device);
    ucx.rdma_interfaces.push_back(fabric.interface);
  }
  // A trusted fabric without names is the one listened on; UCX would try every interface there is.
  if (ucx.devices.empty())
    for (const Fabric& fabric : fabrics) ucx.devices.push_back(fabric.interface);
  return ucx;
}

OfiOptions ForOfi(const NetworkOptions& o, const std::vector<Fabric>& fabrics) {
  OfiOptions ofi;
  ofi.poll = o.poll;
  ofi.fabric_trusted = o.fabric_trusted;
  ofi.devices = o.fabric_interfaces;
  for (const Fabric& fabric : fabrics)
    if (!fabric.rdma_device.empty()) ofi.devices.push_back(fabric.interface);
  return ofi;
}

Result<std::unique_ptr<Transport>> Make(const std::string& provider, const NetworkOptions& o,
                                        const std::vector<Fabric>& fabrics,
                                        TransportOptions transport) {
  if (provider == "tls") return CreateTlsTransport(std::move(transport), ForTls(o));
  if (provider == "ofi") return CreateOfiTransport(std::move(transport), ForOfi(o, fabrics));
  return CreateUcxTransport(std::move(transport), ForUcx(o, fabrics));
}

// `advertise`, with the port of what was bound where it has none.
std::string Advertised(const std::string& advertise, const std::string& bound) {
  const size_t prefix = bound.find(':') + 1;
  if (ParseHostPort(advertise).ok()) return bound.substr(0, prefix) + advertise;
  return bound.substr(0, prefix) + advertise + bound.substr(bound.rfind(':'));
}

}  // namespace

Result<std::unique_ptr<Network>> Network::Create(const NetworkOptions& options,
                                                 TransportOptions transport, LocalOptions local) {
  std::unique_ptr<Network> network(new Network(options, transport.metrics));
  PERIGEE_ASSIGN(auto sockets, CreateLocalTransport(transport, local));
  network->transports_.Add(std::move(sockets));
  if (!options.listen.empty()) PERIGEE_TRY(network->AddProvider(std::move(transport)));
  return network;
}

Status Network::AddProvider(TransportOptions transport) {
  const std::vector<std::string> listen = SplitAddresses(options_.listen);
  std::vector<Fabric> fabrics;
  const bool asked_for_tls =
      options_.transport == "tls" || (options_.transport == "auto" && options_.certified());
  for (const std::string& address : listen) {
    if (asked_for_tls) break;  // which may listen on all interfaces
    auto found = FabricOf(address);
    if (!found.ok())
      return Status(Code::kInvalidArgument,
                    "--listen " + address + ": " + found.status().message());
    fabrics.push_back(std::move(*found));
  }
  PERIGEE_TRY(ChooseOn(fabrics));
  auto provider = Make(info_.provider, options_, fabrics, std::move(transport));
  if (!provider.ok()) return std::move(provider).TakeStatus();
  transports_.Add(std::move(*provider));
  std::vector<std::string> bound;
  for (const std::string& address : listen) bound.push_back(info_.provider + ":" + address);
  info_.addresses = Addresses(bound);
  return Status::Ok();
}

// One provider for all interfaces: the first one's.
Status Network::ChooseOn(const std::vector<Fabric>& fabrics) {
  PERIGEE_ASSIGN(ProviderChoice choice,
                 ChooseProvider(options_, fabrics.empty() ? Fabric() : fabrics.front()));
  for (const Fabric& fabric : fabrics) {
    PERIGEE_ASSIGN(ProviderChoice here, ChooseProvider(options_, fabric));
    if (here.provider == "ucx" && !fabric.carrier)
      return Status(Code::kUnavailable, "--listen " + options_.listen + ": " + fabric.interface +
                                            " is down, and UCX would not see it come up");
  }
  info_.provider = choice.provider;
  info_.why = choice.why;
  return Status::Ok();
}

std::vector<std::string> Network::Addresses(const std::vector<std::string>& bound) const {
  if (options_.advertise.empty()) return bound;
  const std::vector<std::string> given = SplitAddresses(options_.advertise);
  std::vector<std::string> told;
  for (size_t i = 0; i < given.size(); ++i)
    told.push_back(Advertised(given[i], bound[std::min(i, bound.size() - 1)]));
  return told;
}

Status Network::Listen(const std::string& socket, std::shared_ptr<Handler> handler) {
  PERIGEE_ASSIGN(local_, transports_.Listen(socket, handler));
  socket_ = local_->address();
  if (info_.provider.empty()) return Status::Ok();
  auto nodes_only = std::make_shared<NodesOnly>(std::move(handler));
  std::vector<std::string> bound;
  for (const std::string& address : SplitAddresses(options_.listen)) {
    PERIGEE_ASSIGN(auto listener, transports_.Listen(info_.provider + ":" + address, nodes_only));
    bound.push_back(listener->address());
    elsewhere_.push_back(std::move(listener));
  }
  info_.listen = JoinAddresses(bound);
  info_.addresses = Addresses(bound);
  log::Info("network", {{"provider", info_.provider},
                        {"why", info_.why},
                        {"listen", info_.listen},
                        {"address", JoinAddresses(info_.addresses)}});
  return Status::Ok();
}

void Network::Stop() {
  if (local_) local_->Stop();
  for (auto& listener : elsewhere_) listener->Stop();
}

}  // namespace perigee::rdma
