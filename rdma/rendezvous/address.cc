#include "rdma/rendezvous/address.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>

#include "rdma/transport.h"

namespace perigee::rdma::rendezvous {

namespace {

bool SameHost(const sockaddr* a, const sockaddr* b) {
  if (a->sa_family != b->sa_family) return false;
  if (a->sa_family == AF_INET) {
    return std::memcmp(&reinterpret_cast<const sockaddr_in*>(a)->sin_addr,
                       &reinterpret_cast<const sockaddr_in*>(b)->sin_addr, sizeof(in_addr)) == 0;
  }
  return std::memcmp(&reinterpret_cast<const sockaddr_in6*>(a)->sin6_addr,
                     &reinterpret_cast<const sockaddr_in6*>(b)->sin6_addr, sizeof(in6_addr)) == 0;
}

bool OnLoopbackNet(const sockaddr* a) {
  return a->sa_family == AF_INET &&
         (ntohl(reinterpret_cast<const sockaddr_in*>(a)->sin_addr.s_addr) >> 24) == 127;
}

}  // namespace

std::string SocketAddress::ToString() const {
  char text[INET6_ADDRSTRLEN] = "";
  if (storage.ss_family == AF_INET) {
    const auto* in = reinterpret_cast<const sockaddr_in*>(&storage);
    inet_ntop(AF_INET, &in->sin_addr, text, sizeof text);
    return std::string(text) + ":" + std::to_string(ntohs(in->sin_port));
  }
  const auto* in6 = reinterpret_cast<const sockaddr_in6*>(&storage);
  inet_ntop(AF_INET6, &in6->sin6_addr, text, sizeof text);
  return "[" + std::string(text) + "]:" + std::to_string(ntohs(in6->sin6_port));
}

Result<SocketAddress> ParseAddress(const std::string& text) {
  Status bad(Code::kInvalidArgument, "\"" + text + "\" is not HOST:PORT");
  bad.Ignore();
  size_t colon = text.rfind(':');
  if (colon == std::string::npos || colon == 0) return bad;
  std::string host = text.substr(0, colon), port = text.substr(colon + 1);
  if (port.empty() || port.size() > 5 ||
      !std::all_of(port.begin(), port.end(), [](char c) { return c >= '0' && c <= '9'; }) ||
      std::stoul(port) > 65535) {
    return bad;
  }
  if (host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  } else if (host.find(':') != std::string::npos) {
    return bad;
  }
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV;
  addrinfo* found = nullptr;
  int rc = getaddrinfo(host.c_str(), port.c_str(), &hints, &found);
  if (rc != 0) return Status(Code::kUnavailable, host + ": " + gai_strerror(rc));
  SocketAddress out;
  std::memcpy(&out.storage, found->ai_addr, found->ai_addrlen);
  out.length = found->ai_addrlen;
  freeaddrinfo(found);
  return out;
}

Result<Interface> InterfaceOf(const SocketAddress& local) {
  ifaddrs* list = nullptr;
  if (getifaddrs(&list) != 0) return Status::FromErrno(errno, "getifaddrs");
  std::unique_ptr<ifaddrs, decltype(&freeifaddrs)> owner(list, freeifaddrs);
  for (const ifaddrs* at = list; at != nullptr; at = at->ifa_next) {
    if (at->ifa_addr == nullptr) continue;
    bool loopback = (at->ifa_flags & IFF_LOOPBACK) != 0;
    int family = at->ifa_addr->sa_family;
    if (family != AF_INET && family != AF_INET6) continue;
    if (SameHost(at->ifa_addr, local.get()) || (loopback && OnLoopbackNet(local.get()))) {
      return Interface{at->ifa_name, loopback};
    }
  }
  return Status(Code::kNotFound,
                "no interface of this machine has the address of " + local.ToString());
}

Result<Interface> InterfaceToward(const SocketAddress& remote) {
  OwnedFd probe(socket(remote.storage.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (probe.get() < 0) return Status::FromErrno(errno, "socket");
  // Sends nothing: asks the kernel's routes.
  if (connect(probe.get(), remote.get(), remote.length) != 0) {
    return Status(Code::kUnavailable,
                  Status::FromErrno(errno, "route to " + remote.ToString()).message());
  }
  SocketAddress local;
  local.length = sizeof local.storage;
  if (getsockname(probe.get(), reinterpret_cast<sockaddr*>(&local.storage), &local.length) != 0) {
    return Status::FromErrno(errno, "getsockname");
  }
  return InterfaceOf(local);
}

}  // namespace perigee::rdma::rendezvous
