#pragma once
// `tls` for tests: an authority and a node's certificate of its own, and ports that nobody else
// takes.

#include <doctest/doctest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <fstream>
#include <map>
#include <memory>
#include <string>

#include "base/certificates.h"
#include "tests/rdma/local_world.h"

namespace perigee::rdma {

inline void WriteText(const std::string& path, const std::string& text) {
  // As renewal does it: never half a file under this name.
  std::ofstream(path + ".new") << text;
  std::filesystem::rename(path + ".new", path);
}

class TlsWorld final : public TransportWorld {
 public:
  explicit TlsWorld(uint32_t loops = 2)
      : scheduler_(CreateThreadPool({"callers", 8, 4096})), authority_(NewAuthority()) {
    files_.loops = loops;
    // A machine that is busy with other things is not dead.
    files_.dead_after = files_.handshake_timeout = 30 * kSecond;
    files_.ca_file = dir_.path() + "/ca.crt";
    WriteText(files_.ca_file, authority_.certificate);
    WriteNode("node", Issue());
    files_.cert_file = dir_.path() + "/node.crt";
    files_.key_file = dir_.path() + "/node.key";
  }
  ~TlsWorld() override { scheduler_->Stop(); }

  std::unique_ptr<Transport> NewTransport(const std::string&, TransportOptions options) override {
    auto transport = CreateTlsTransport(std::move(options), files_);
    REQUIRE_MESSAGE(transport.ok(), transport.status().ToString());
    return std::move(*transport);
  }
  std::string Address(const std::string& name) override {
    return "tls:127.0.0.1:" + std::to_string(Port(name));
  }
  Scheduler& scheduler() override { return *scheduler_; }

  // A port for this name. It stays bound, so that no other process gets it; SO_REUSEADDR lets a
  // listener have it all the same.
  uint16_t Port(const std::string& name) {
    auto it = ports_.find(name);
    if (it == ports_.end()) it = ports_.emplace(name, Reserve()).first;
    return it->second.port;
  }
  TlsOptions& files() { return files_; }
  const std::string& dir() const { return dir_.path(); }

  static CertifiedKey NewAuthority() {
    auto made = MakeAuthority("test authority", {Now() - 3600, Now() + 3600});
    REQUIRE(made.ok());
    return std::move(*made);
  }
  CertifiedKey Issue(Validity validity = {Now() - 60, Now() + 600},
                     std::vector<std::string> names = {"127.0.0.1", "localhost"}) const {
    return IssueBy(authority_, validity, std::move(names));
  }
  static CertifiedKey IssueBy(const CertifiedKey& authority,
                              Validity validity = {Now() - 60, Now() + 600},
                              std::vector<std::string> names = {"127.0.0.1"}) {
    auto issued = IssueCertificate(authority, {"node", std::move(names), validity, ""});
    REQUIRE_MESSAGE(issued.ok(), issued.status().ToString());
    return std::move(*issued);
  }
  // NAME.crt and NAME.key in dir().
  void WriteNode(const std::string& name, const CertifiedKey& node) const {
    WriteText(dir_.path() + "/" + name + ".key", node.key);
    WriteText(dir_.path() + "/" + name + ".crt", node.certificate);
  }
  static int64_t Now() { return RealClock::Get().Wall() / kSecond; }

 private:
  struct Reserved {
    OwnedFd fd;
    uint16_t port;
  };
  static Reserved Reserve() {
    OwnedFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    int on = 1;
    REQUIRE(setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    REQUIRE(bind(fd.get(), reinterpret_cast<sockaddr*>(&address), length) == 0);
    REQUIRE(getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &length) == 0);
    return {std::move(fd), ntohs(address.sin_port)};
  }

  TempDir dir_;
  std::unique_ptr<Scheduler> scheduler_;
  CertifiedKey authority_;
  TlsOptions files_;
  std::map<std::string, Reserved> ports_;
};

}  // namespace perigee::rdma
