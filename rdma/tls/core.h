#pragma once
// What the channels and listeners of one `tls` transport share. Thread-safe.

#include <memory>
#include <string>
#include <vector>

#include "base/scheduler.h"
#include "rdma/provider_core.h"
#include "rdma/tls/context.h"

namespace perigee::rdma::tls {

// "tls:HOST:PORT" in parts.
struct Endpoint {
  std::string host;
  uint16_t port = 0;
  std::string text;  // "HOST:PORT"
  static Result<Endpoint> Of(const std::string& address);
};

// A socket address, IPv4 or IPv6.
struct SocketAddress {
  std::string bytes;  // sockaddr_in or sockaddr_in6
  int family() const;
  const void* data() const { return bytes.data(); }
  uint32_t length() const { return static_cast<uint32_t>(bytes.size()); }
  std::string Text() const;  // "10.0.0.7:9003"
};

enum class Lookup { kNumbersOnly, kNames };
// kNames may ask a name server and wait for it. kUnavailable: no such host, or not now.
Result<std::vector<SocketAddress>> Resolve(const Endpoint& endpoint, Lookup lookup);

// For a TCP socket of this provider: small frames leave at once, and what the system queues unsent
// stays small, so that they do not stand behind much.
Status TuneSocket(int fd);

class Core final : public ProviderCore {
 public:
  static Result<std::shared_ptr<Core>> Create(TransportOptions options, TlsOptions tls);
  const TlsOptions& tls() const { return tls_; }
  TlsContext& context() const { return *context_; }
  // For looking up names, which blocks.
  Scheduler& resolver() const { return *resolver_; }
  void StopLoops() {
    resolver_->Stop();
    ProviderCore::StopLoops();
  }

 private:
  Core() = default;
  TlsOptions tls_;
  std::unique_ptr<TlsContext> context_;
  std::unique_ptr<Scheduler> resolver_;
};

}  // namespace perigee::rdma::tls
