#include "rdma/tls/core.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cerrno>
#include <utility>

#include "base/options.h"
#include "rdma/tls/frame.h"

namespace perigee::rdma::tls {

namespace {
constexpr std::string_view kPrefix = "tls:";
}

Result<Endpoint> Endpoint::Of(const std::string& address) {
  Endpoint endpoint;
  if (address.starts_with(kPrefix)) {
    endpoint.text = address.substr(kPrefix.size());
    auto parsed = ParseHostPort(endpoint.text);
    parsed.status().Ignore();  // the message below says what is wanted
    if (parsed.ok() && !parsed->host.empty()) {
      endpoint.host = parsed->host;
      endpoint.port = parsed->port;
      return endpoint;
    }
  }
  return Status(Code::kInvalidArgument, "\"" + address + "\" is not tls:HOST:PORT");
}

int SocketAddress::family() const {
  return reinterpret_cast<const sockaddr*>(bytes.data())->sa_family;
}

std::string SocketAddress::Text() const {
  char host[NI_MAXHOST] = "?", port[NI_MAXSERV] = "?";
  (void)getnameinfo(reinterpret_cast<const sockaddr*>(bytes.data()), length(), host, sizeof host,
                    port, sizeof port, NI_NUMERICHOST | NI_NUMERICSERV);
  std::string name(host);
  if (family() == AF_INET6) name = "[" + name + "]";
  return name + ":" + port;
}

Result<std::vector<SocketAddress>> Resolve(const Endpoint& endpoint, Lookup lookup) {
  addrinfo wanted{};
  wanted.ai_family = AF_UNSPEC;
  wanted.ai_socktype = SOCK_STREAM;
  wanted.ai_flags = AI_NUMERICSERV | (lookup == Lookup::kNumbersOnly ? AI_NUMERICHOST : 0);
  addrinfo* found = nullptr;
  int error =
      getaddrinfo(endpoint.host.c_str(), std::to_string(endpoint.port).c_str(), &wanted, &found);
  if (error != 0) {
    return Status(Code::kUnavailable, "looking up " + endpoint.host + ": " + gai_strerror(error));
  }
  std::vector<SocketAddress> out;
  for (addrinfo* at = found; at != nullptr; at = at->ai_next) {
    if (at->ai_family != AF_INET && at->ai_family != AF_INET6) continue;
    out.push_back({std::string(reinterpret_cast<const char*>(at->ai_addr), at->ai_addrlen)});
  }
  freeaddrinfo(found);
  if (out.empty()) return Status(Code::kUnavailable, endpoint.host + " has no address");
  return out;
}

Status TuneSocket(int fd) {
  int on = 1;
  int unsent = static_cast<int>(kPieceMax);
  if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0 ||
      setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof unsent) != 0) {
    return Status::FromErrno(errno, "setsockopt");
  }
  return Status::Ok();
}

Result<std::shared_ptr<Core>> Core::Create(TransportOptions options, TlsOptions tls) {
  if (options.credits == 0) options.credits = 1;
  std::shared_ptr<Core> core(new Core());
  uint32_t loops = tls.loops;
  PERIGEE_TRY(core->Init(std::move(options), "tls", loops));
  PERIGEE_ASSIGN(core->context_, TlsContext::Create(tls));
  core->tls_ = std::move(tls);
  core->resolver_ = CreateThreadPool({"rdma-names", 1, 1024});
  return core;
}

}  // namespace perigee::rdma::tls
