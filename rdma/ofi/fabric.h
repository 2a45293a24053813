#pragma once
// Fabric: what a transport's workers share of libfabric: which provider leads to an address, on
// what terms, and the fabrics that were opened. Thread-safe.

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/status.h"
#include "rdma/rendezvous/address.h"

struct fi_info;
struct fid_fabric;

namespace perigee::rdma::ofi {

struct FreeInfo {
  void operator()(fi_info* info) const;
};
using InfoPtr = std::unique_ptr<fi_info, FreeInfo>;

// What fi_getinfo offers of what we ask for.
struct Terms {
  explicit Terms(const fi_info& info);
  std::string provider;  // "tcp"
  std::string domain;    // "lo", "mlx5_0"
  // Buffers of our own operations must be registered, too (FI_MR_LOCAL).
  bool registers_local = false;
  // A peer names memory by its address here (FI_MR_VIRT_ADDR), not by its offset in what a key is
  // for; and the provider chooses keys (FI_MR_PROV_KEY), otherwise we do.
  bool virtual_addresses = false;
  bool provider_keys = false;
  size_t transmits_max = 0;
  size_t receives_max = 0;
};

class Fabric {
 public:
  struct Options {
    std::vector<std::string> providers = {"verbs", "tcp"};  // the first that leads there is taken
    bool register_as_verbs = false;  // also where the provider could do with less
  };
  enum class Side { kListen, kConnect };

  // The first one of a process loads libfabric's providers: a fifth of a second.
  explicit Fabric(Options options);
  ~Fabric();
  // kUnavailable: no provider leads there; says of each why.
  Result<InfoPtr> Find(const rendezvous::SocketAddress& address, Side side) const;
  // Opened once and kept. What of it is used by others ends before this object does.
  Result<fid_fabric*> Open(const fi_info& info);

 private:
  Result<InfoPtr> Ask(const std::string& provider, const rendezvous::SocketAddress& address,
                      Side side) const;

  const Options options_;
  std::mutex mu_;  // guards what follows
  std::map<std::string, fid_fabric*> fabrics_;
};

// One for each fabric of a provider; all that tcp has are one.
std::string FabricKey(const fi_info& info);

}  // namespace perigee::rdma::ofi
