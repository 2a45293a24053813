#pragma once
// What the channels and listeners of one transport share, whatever library is below. Thread-safe.

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "rdma/log_limit.h"
#include "rdma/provider_base.h"
#include "rdma/rendezvous/address.h"
#include "rdma/rendezvous/loop.h"

namespace perigee::rdma::rendezvous {

// What these providers' own options have in common; see rdma/ucx_transport.h.
struct FabricOptions {
  uint32_t loops = 2;
  bool poll = false;
  std::vector<std::string> devices;
  bool fabric_trusted = false;
  uint64_t pull_bytes_max = 64 << 20;
};

class Core : public ProviderBase, public std::enable_shared_from_this<Core> {
 public:
  const std::string& provider() const { return provider_; }
  // kPermissionDenied: that interface is not one of this transport's.
  Status CheckInterface(const Interface& interface) const;
  // The loop for a new channel or connection: one after the other, each started when first asked
  // for.
  Result<std::shared_ptr<Loop>> NextLoop();
  // Returns when every loop has run what was posted to it so far. Not from a loop.
  void WaitForLoops();
  void StopLoops();
  // Says in the log, once, what the transport's connections run over.
  void NotePath(const std::string& peer, const std::string& transports);
  // Of lines about peers that were not served.
  LogLimit& unserved() { return unserved_; }

 protected:
  // `risk`: what peers on a fabric that is not trusted could do.
  Core(std::string provider, std::string risk, FabricOptions fabric)
      : provider_(std::move(provider)), risk_(std::move(risk)), fabric_(std::move(fabric)) {}
  Status Init(TransportOptions options);
  // Starts the library; once, for the first loop.
  virtual Result<Loop::MakeWorker> StartLibrary() = 0;

 private:
  void ArmTrimLocked();

  const std::string provider_;
  const std::string risk_;
  const FabricOptions fabric_;
  std::atomic<bool> path_told_{false};
  LogLimit unserved_{1 * kSecond};
  std::mutex mu_;  // guards what follows
  Loop::MakeWorker make_worker_;
  std::vector<std::shared_ptr<Loop>> loops_;
  size_t next_loop_ = 0;
  bool stopped_ = false;
};

}  // namespace perigee::rdma::rendezvous
