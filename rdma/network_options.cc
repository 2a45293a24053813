#include "rdma/network_options.h"

#include <algorithm>

#include "rdma/rails/address_list.h"

namespace perigee::rdma {

namespace {

Status Bad(const std::string& what) { return Status(Code::kInvalidArgument, what); }

bool HasWildcard(const std::string& addresses) {
  const auto hosts = SplitAddresses(addresses);
  return std::any_of(hosts.begin(), hosts.end(), [](const std::string& host_port) {
    auto parsed = ParseHostPort(host_port);
    return parsed.ok() && (parsed->host == "0.0.0.0" || parsed->host == "::");
  });
}

Status CheckTransport(const NetworkOptions& n) {
  if (n.transport != "auto" && n.transport != "local" && n.transport != "tls" &&
      n.transport != "ucx" && n.transport != "ofi") {
    return Bad("--transport " + n.transport + ": auto, local, tls, ucx or ofi");
  }
  if (n.ca_file.empty() != n.cert_file.empty() || n.ca_file.empty() != n.key_file.empty())
    return Bad("--ca-file, --cert-file, --key-file: give all three (perigee ca makes them)");
  if (n.transport == "tls" && !n.certified())
    return Bad("--transport tls: needs --ca-file, --cert-file and --key-file (perigee ca)");
  return Status::Ok();
}

}  // namespace

void AddNetworkOptions(Options* o, NetworkOptions* n) {
  o->AddString("transport", &n->transport,
               "to other machines: auto (tls with certificates, else ucx on an RDMA or trusted "
               "interface), local (none), tls, ucx, ofi",
               "NAME");
  o->AddString("listen", &n->listen,
               "address for other machines, or one of each interface, with commas (default: none)",
               "HOST[:PORT][,...]");
  o->AddString("advertise", &n->advertise, "where others find --listen, when that is elsewhere",
               "HOST[:PORT][,...]");
  o->AddString("ca-file", &n->ca_file, "tls: the cluster's authority", "FILE");
  o->AddString("cert-file", &n->cert_file, "tls: this node's certificate", "FILE");
  o->AddString("key-file", &n->key_file, "tls: its key", "FILE");
  o->AddStrings("fabric-interface", &n->fabric_interfaces,
                "ucx, ofi: interface on which every peer is trusted with this process's memory",
                "NAME");
  o->AddFlag("fabric-trusted", &n->fabric_trusted, "ucx, ofi: so is every peer on any interface");
  o->AddFlag("poll", &n->poll,
             "ucx, ofi: never sleep: the lowest latency, at the price of whole cores");
}

Result<std::string> WithPort(const std::string& address, uint16_t port) {
  auto whole = ParseHostPort(address);
  if (whole.ok()) return address;
  const std::string completed = address + ":" + std::to_string(port);
  if (ParseHostPort(completed).ok()) {
    whole.status().Ignore();  // it is a host alone
    return completed;
  }
  return std::move(whole).TakeStatus();
}

Result<std::string> WithPorts(const std::string& addresses, uint16_t port) {
  std::vector<std::string> completed;
  for (const std::string& address : SplitAddresses(addresses)) {
    PERIGEE_ASSIGN(std::string one, WithPort(address, port));
    const bool any_port = one.ends_with(":0");
    if (!any_port && std::find(completed.begin(), completed.end(), one) != completed.end())
      return Bad(one + " is given twice");
    completed.push_back(std::move(one));
  }
  return JoinAddresses(completed);
}

Status CheckNetworkOptions(NetworkOptions* n, uint16_t port, bool has_secret) {
  PERIGEE_TRY(CheckTransport(*n));
  if (n->listen.empty()) {
    if (n->transport != "auto" && n->transport != "local")
      return Bad("--transport " + n->transport + ": needs --listen HOST:PORT");
    if (!n->advertise.empty()) return Bad("--advertise: needs --listen HOST:PORT");
    return Status::Ok();
  }
  if (n->transport == "local")
    return Bad("--listen " + n->listen + ": --transport local reaches no other machine");
  auto listen = WithPorts(n->listen, port);
  if (!listen.ok()) return std::move(listen).TakeStatus().With("--listen");
  n->listen = std::move(*listen);
  if (!n->advertise.empty()) {
    auto advertise = WithPorts(n->advertise, port);
    if (!advertise.ok()) return std::move(advertise).TakeStatus().With("--advertise");
    if (HasWildcard(*advertise)) return Bad("--advertise " + n->advertise + ": not one address");
  } else if (HasWildcard(n->listen)) {
    return Bad("--listen " + n->listen + ": others need an address, --advertise HOST");
  }
  if (!has_secret)
    return Bad("--listen " + n->listen + ": needs the cluster secret, --secret-file");
  return Status::Ok();
}

}  // namespace perigee::rdma
