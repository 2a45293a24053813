#pragma once
// "HOST:PORT" as a socket address, and the network interface it is reached through. Thread rule:
// values.

#include <sys/socket.h>

#include <string>

#include "base/status.h"

namespace perigee::rdma::rendezvous {

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t length = 0;

  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
  std::string ToString() const;  // "10.0.0.1:9002", "[fe80::1]:9002"
};

// HOST is an address (an IPv6 one in brackets) or a name, which is looked up here and now.
// kInvalidArgument: not of this form. kUnavailable: the name is not known.
Result<SocketAddress> ParseAddress(const std::string& text);

struct Interface {
  std::string name;
  bool loopback = false;
};
// The interface that has this address; kNotFound when none of this machine does.
Result<Interface> InterfaceOf(const SocketAddress& local);
// The interface that packets to this address leave by.
Result<Interface> InterfaceToward(const SocketAddress& remote);

}  // namespace perigee::rdma::rendezvous
