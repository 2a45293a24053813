#pragma once
// A TCP relay between a client and a server of a test, for a network that is slow, silent or cut.

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#include "rdma/transport.h"

namespace perigee::rdma {

class TcpProxy {
 public:
  explicit TcpProxy(uint16_t target);  // on 127.0.0.1
  ~TcpProxy();
  uint16_t port() const { return port_; }

  // All connections are reset once `bytes` more have passed, both ways together; then it relays as
  // before.
  void CutAfter(int64_t bytes) { until_cut_ = bytes; }
  // After `bytes` more, both ways together, one bit is changed.
  void SpoilAfter(int64_t bytes) { until_spoiled_ = bytes; }
  // Nothing passes, and nobody is told.
  void Silence(bool silent) { silent_ = silent; }
  // Bytes a second and direction; 0: as fast as it goes. For connections made afterwards what the
  // relay itself holds is small, too.
  void Limit(uint64_t rate) { rate_ = rate; }

 private:
  struct Relay {
    OwnedFd ends[2];
    std::vector<uint8_t> held[2];  // from end i, for the other
    Nanos ready[2] = {0, 0};       // when it may pass on again
    bool over = false;
  };
  void Run();
  void Accept();
  void Move(Relay& relay, int from);
  void Spoil(std::vector<uint8_t>& bytes);

  const uint16_t target_;
  uint16_t port_ = 0;
  OwnedFd listener_;
  std::atomic<int64_t> until_cut_{INT64_MAX};
  std::atomic<int64_t> until_spoiled_{INT64_MAX};
  std::atomic<bool> silent_{false};
  std::atomic<uint64_t> rate_{0};
  std::atomic<bool> stop_{false};
  std::vector<std::unique_ptr<Relay>> relays_;  // Run only
  std::thread thread_;
};

}  // namespace perigee::rdma
