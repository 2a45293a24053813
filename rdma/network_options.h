#pragma once
// NetworkOptions: how a daemon speaks to other machines. The same options in objectd, bufferd and
// `perigee up`. Values.

#include <cstdint>
#include <string>
#include <vector>

#include "base/options.h"

namespace perigee::rdma {

struct NetworkOptions {
  std::string transport = "auto";  // auto, local, tls, ucx, ofi
  // "HOST:PORT", or several by commas; empty: nobody reaches this node from elsewhere.
  std::string listen;
  std::string advertise;  // "HOST" or "HOST:PORT", or several, where others find `listen`
  std::string ca_file, cert_file, key_file;
  std::vector<std::string> fabric_interfaces;  // where peers may write this process's memory
  bool fabric_trusted = false;                 // that is: everywhere
  bool poll = false;                           // ucx, ofi: loops never sleep

  bool certified() const { return !ca_file.empty(); }
  bool operator==(const NetworkOptions&) const = default;
};

void AddNetworkOptions(Options* options, NetworkOptions* network);
// "10.0.0.7" -> "10.0.0.7:9002"; what has a port keeps it. kInvalidArgument: neither form.
Result<std::string> WithPort(const std::string& address, uint16_t port);
// The same for each of several, by commas.
Result<std::string> WithPorts(const std::string& addresses, uint16_t port);
// Whether the options fit together; `listen` gets `port` where it has none. kInvalidArgument names
// the option.
Status CheckNetworkOptions(NetworkOptions* network, uint16_t port, bool has_secret);

inline constexpr uint16_t kObjectdPort = 9002, kBufferdPort = 9012;

}  // namespace perigee::rdma
