#pragma once
// The `ucx` provider: calls over UCX, that is over InfiniBand or RoCE where there is one, shared
// memory between processes of one machine, TCP otherwise. Addresses are "ucx:HOST:PORT"; a name is
// looked up when it is given to Listen or Connect. Descriptors do not travel.
//
// Bulk over 16 KiB is announced and pulled by the receiver when its pool has a buffer; every
// payload carries a crc32c. A peer that is silent for three seconds is given up. A call's own
// memory is never read after its `done`: at a deadline the caller may therefore hear a moment late,
// and a peer that holds on to it loses the connection.
//
// Trust: with UCX over TCP a peer that has a connection can read and write this process's memory,
// before any HELLO. So addresses on interfaces that are not listed in `devices` are refused, unless
// the whole fabric is trusted. The loopback interface is always allowed.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "rdma/transport.h"

namespace perigee::rdma {

struct UcxOptions {
  uint32_t loops = 2;  // threads that serve and receive; the first listener or channel starts them
  // Loops never sleep: the lowest latency, at the price of a core each.
  bool poll = false;
  // Interfaces and RDMA devices by UCX's names: "eth1", "mlx5_0:1".
  std::vector<std::string> devices;
  // Interfaces whose RDMA devices are among `devices`: allowed without TCP on them.
  std::vector<std::string> rdma_interfaces;
  // Any interface may be used, listed or not.
  bool fabric_trusted = false;
  // Between processes of one machine. Falls back (one log line) where /dev/shm is too small.
  bool shared_memory = true;
  // Announced bulk on its way to this process at once, per loop; what is over it waits at its
  // sender.
  uint64_t pull_bytes_max = 64 << 20;
};

// kInvalidArgument: a node without a secret. UCX itself starts with the first listener or channel,
// so a process may fork between.
Result<std::unique_ptr<Transport>> CreateUcxTransport(TransportOptions options,
                                                      UcxOptions ucx = {});

}  // namespace perigee::rdma
