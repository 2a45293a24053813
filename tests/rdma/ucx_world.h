#pragma once
// `ucx` for tests: TCP on the loopback interface, ports of the kernel's choice.

#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <map>
#include <memory>
#include <string>

#include "rdma/ucx_transport.h"
#include "tests/rdma/transport_conformance.h"

namespace perigee::rdma {

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
    address_ = "ucx:127.0.0.1:" + std::to_string(ntohs(at.sin_port));
  }
  const std::string& address() const { return address_; }

 private:
  OwnedFd socket_;
  std::string address_;
};

class UcxWorld final : public TransportWorld {
 public:
  explicit UcxWorld(UcxOptions options = Tcp(2))
      : options_(std::move(options)), scheduler_(CreateThreadPool({"callers", 8, 4096})) {}
  ~UcxWorld() override { scheduler_->Stop(); }
  static UcxOptions Tcp(uint32_t loops) {
    UcxOptions options;
    options.loops = loops;
    options.shared_memory = false;
    return options;
  }
  std::unique_ptr<Transport> NewTransport(const std::string&, TransportOptions options) override {
    auto transport = CreateUcxTransport(std::move(options), options_);
    REQUIRE(transport.ok());
    return std::move(*transport);
  }
  std::string Address(const std::string& name) override { return ports_[name].address(); }
  Scheduler& scheduler() override { return *scheduler_; }

 private:
  const UcxOptions options_;
  std::map<std::string, ReservedPort> ports_;
  std::unique_ptr<Scheduler> scheduler_;
};

}  // namespace perigee::rdma
