#pragma once
// SimNetwork: the `sim` provider. Hosts of one process exchange calls over a network whose delays
// and faults are drawn from a seed, on a Scheduler. Under a ManualScheduler the same seed gives the
// same run.
//
// What it may do to a message (a request or an answer): delay it, so that calls of one connection
// overtake each other; lose it, so that the caller meets its deadline (the call may have been
// executed); deliver a request twice, so that it is executed twice and the first answer counts; or
// break the connection under it, which fails that connection's calls with kUnavailable and tells
// the server's handler OnDisconnect. A partition loses everything between two hosts, both ways,
// connecting included. Bulk is copied between the two pools, and waits for buffers as on a real
// transport. Descriptors do not travel: passes_fds() is false, and those in a reply are closed.
//
// Callbacks run as tasks of the scheduler. Addresses are "sim:NAME", each with at most one
// listener. Thread rule: thread-safe. The scheduler must outlive the network and its transports.

#include <cstdint>
#include <memory>
#include <string>

#include "base/clock.h"
#include "base/scheduler.h"
#include "rdma/transport.h"

namespace perigee::rdma {

struct SimFaults {
  Nanos delay_min = 20 * kMicrosecond;  // of one message; uniform up to delay_max
  Nanos delay_max = 200 * kMicrosecond;
  uint32_t lose_per_million = 0;
  uint32_t duplicate_per_million = 0;
  uint32_t reset_per_million = 0;
};

// What the simulated kernel says of a host's process.
struct SimIdentity {
  uint32_t uid = 0, gid = 0;
  int32_t pid = 1;
};

struct SimCounts {
  uint64_t messages = 0, lost = 0, duplicated = 0, resets = 0;
};

class SimNetwork {
 public:
  static std::shared_ptr<SimNetwork> Create(uint64_t seed, Scheduler* scheduler);
  virtual ~SimNetwork() = default;

  // `host` is what partitions and faults name; several transports may share one.
  virtual Result<std::unique_ptr<Transport>> CreateTransport(const std::string& host,
                                                             TransportOptions options,
                                                             SimIdentity identity = {}) = 0;
  virtual void SetFaults(SimFaults faults) = 0;  // of every pair without faults of its own
  virtual void SetFaultsBetween(const std::string& a, const std::string& b, SimFaults faults) = 0;
  virtual void Partition(const std::string& a, const std::string& b) = 0;
  virtual void Heal(const std::string& a, const std::string& b) = 0;
  virtual void HealAll() = 0;
  // Breaks every connection from or to the host, as its restart does.
  virtual void ResetHost(const std::string& host) = 0;
  virtual SimCounts counts() const = 0;
};

}  // namespace perigee::rdma
