#pragma once
// Place: a directory with what providers need: sockets' names, certificates of 127.0.0.1. It goes
// with the object.

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "base/certificates.h"
#include "base/clock.h"
#include "base/status.h"
#include "rdma/transport.h"

namespace perigee::bench {

class Place {
 public:
  Place() {
    char text[] = "/tmp/perigee-bench-XXXXXX";
    path_ = mkdtemp(text);
    int64_t now = RealClock::Get().Wall() / kSecond;
    auto authority = MakeAuthority("bench", {now - 60, now + 3600});
    PERIGEE_CHECK(authority.ok());
    auto node = IssueCertificate(*authority, {"bench", {"127.0.0.1"}, {now - 60, now + 3600}, ""});
    PERIGEE_CHECK(node.ok());
    Write("ca.crt", authority->certificate);
    Write("node.crt", node->certificate);
    Write("node.key", node->key);
  }
  ~Place() { std::filesystem::remove_all(path_); }
  Place(const Place&) = delete;

  std::string File(const std::string& name) const { return path_ + "/" + name; }
  rdma::TlsOptions Tls() const {
    rdma::TlsOptions files;
    files.ca_file = File("ca.crt");
    files.cert_file = File("node.crt");
    files.key_file = File("node.key");
    return files;
  }

 private:
  void Write(const std::string& name, const std::string& text) const {
    std::ofstream(File(name)) << text;
  }
  std::string path_;
};

}  // namespace perigee::bench
