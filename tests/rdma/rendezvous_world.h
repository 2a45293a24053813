#pragma once
// Providers over rdma/rendezvous for tests: the loopback interface, ports of the kernel's choice.

#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "rdma/rendezvous/core.h"
#include "tests/rdma/transport_conformance.h"

namespace perigee::rdma::rendezvous {

// Keeps a port of this machine from everyone but who listens on it: bound, never listening.
class ReservedPort {
 public:
  ReservedPort() : socket_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    int on = 1;
    REQUIRE(setsockopt(socket_.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0);
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof at;
    REQUIRE(bind(socket_.get(), reinterpret_cast<sockaddr*>(&at), length) == 0);
    REQUIRE(getsockname(socket_.get(), reinterpret_cast<sockaddr*>(&at), &length) == 0);
    address_ = "127.0.0.1:" + std::to_string(ntohs(at.sin_port));
  }
  const std::string& address() const { return address_; }

 private:
  OwnedFd socket_;
  std::string address_;
};

// One provider: how its transports are made, and its bare workers, for tests that speak messages.
struct ProviderUnderTest {
  std::string name;
  std::string path;  // what connections on the loopback interface run over
  std::function<Result<std::unique_ptr<Transport>>(TransportOptions, FabricOptions)> transport;
  std::function<Result<std::unique_ptr<Worker>>()> worker;
};

class RendezvousWorld final : public TransportWorld {
 public:
  explicit RendezvousWorld(const ProviderUnderTest& provider, uint32_t loops = 2,
                           uint64_t pull_bytes_max = FabricOptions().pull_bytes_max)
      : provider_(provider),
        loops_(loops),
        pull_bytes_max_(pull_bytes_max),
        scheduler_(CreateThreadPool({"callers", 8, 4096})) {}
  ~RendezvousWorld() override { scheduler_->Stop(); }
  std::unique_ptr<Transport> NewTransport(const std::string&, TransportOptions options) override {
    FabricOptions fabric;
    fabric.loops = loops_;
    fabric.pull_bytes_max = pull_bytes_max_;
    auto transport = provider_.transport(std::move(options), std::move(fabric));
    REQUIRE(transport.ok());
    return std::move(*transport);
  }
  std::string Address(const std::string& name) override {
    return provider_.name + ":" + ports_[name].address();
  }
  Scheduler& scheduler() override { return *scheduler_; }
  const ProviderUnderTest& provider() const { return provider_; }

 private:
  const ProviderUnderTest& provider_;
  const uint32_t loops_;
  const uint64_t pull_bytes_max_;
  std::map<std::string, ReservedPort> ports_;
  std::unique_ptr<Scheduler> scheduler_;
};

// rendezvous_behaviour.cc: what these providers have that the conformance suite does not ask of
// every provider.
void CheckInterfaces(const ProviderUnderTest& provider);
void CheckAddresses(const ProviderUnderTest& provider);
void CheckLargeMessages(const ProviderUnderTest& provider);
void CheckMemoryAtDeadline(const ProviderUnderTest& provider);
void CheckFailpoints(const ProviderUnderTest& provider);
void CheckSlowBulk(const ProviderUnderTest& provider);

// rendezvous_hostile.cc: peers that speak messages, through the library, and break the rules: each
// loses its connection, and nobody else notices.
void CheckBadMessages(const ProviderUnderTest& provider);
void CheckHelloIsNeeded(const ProviderUnderTest& provider);
void CheckChecksums(const ProviderUnderTest& provider);
void CheckCredits(const ProviderUnderTest& provider);
void CheckPeersThatGo(const ProviderUnderTest& provider);
void CheckSilentPeers(const ProviderUnderTest& provider);
void CheckLyingServer(const ProviderUnderTest& provider);

}  // namespace perigee::rdma::rendezvous
