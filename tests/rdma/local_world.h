#pragma once
// `local` for tests: sockets in a directory of their own.

#include <doctest/doctest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>

#include "tests/rdma/transport_conformance.h"

namespace perigee::rdma {

class TempDir {
 public:
  TempDir() {
    const char* base = std::getenv("TMPDIR");
    path_ = std::string(base != nullptr ? base : "/tmp") + "/perigee-rdma-XXXXXX";
    REQUIRE(mkdtemp(path_.data()) != nullptr);
  }
  ~TempDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

class LocalWorld final : public TransportWorld {
 public:
  explicit LocalWorld(uint32_t loops = 2)
      : loops_(loops), scheduler_(CreateThreadPool({"callers", 8, 4096})) {}
  ~LocalWorld() override { scheduler_->Stop(); }
  std::unique_ptr<Transport> NewTransport(const std::string&, TransportOptions options) override {
    LocalOptions local;
    local.loops = loops_;
    auto transport = CreateLocalTransport(std::move(options), local);
    REQUIRE(transport.ok());
    return std::move(*transport);
  }
  std::string Path(const std::string& name) const { return dir_.path() + "/" + name + ".sock"; }
  std::string Address(const std::string& name) override { return "local:" + Path(name); }
  Scheduler& scheduler() override { return *scheduler_; }

 private:
  TempDir dir_;
  uint32_t loops_;
  std::unique_ptr<Scheduler> scheduler_;
};

}  // namespace perigee::rdma
