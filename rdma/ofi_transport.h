#pragma once
// The `ofi` provider: calls over libfabric's connected endpoints (FI_EP_MSG), that is over verbs
// (InfiniBand, RoCE, iWARP) where there is a device, TCP otherwise. Addresses are "ofi:HOST:PORT";
// a name is looked up when it is given to Listen or Connect. Descriptors do not travel. Processes
// of one machine have `local`; libfabric's shm has no connections, and is not used.
//
// Bulk over 16 KiB is moved by the server alone: it reads a request's and writes a reply's, once
// the receiver has a buffer. A client's memory can be reached only while it is offered, by its
// server, under a key for exactly those bytes; a server's memory never. Every payload carries a
// crc32c. A peer that is silent for three seconds is given up, and so is one that keeps a call's
// memory after its deadline: its caller may therefore hear a moment late.
//
// Trust: libfabric's tcp provider neither encrypts nor bounds how many strangers connect and wait;
// each that stops in the middle of its request holds up a loop for ten milliseconds. So addresses on interfaces
// that are not listed in `devices` are refused, unless the whole fabric is trusted. The loopback
// interface is always allowed.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "rdma/transport.h"

namespace perigee::rdma {

struct OfiOptions {
  uint32_t loops = 2;  // threads that serve and receive; the first listener or channel starts them
  // Loops never sleep: the lowest latency, at the price of a core each.
  bool poll = false;
  // Network interfaces that may be used: "eth1", "ib0".
  std::vector<std::string> devices;
  // Any interface may be used, listed or not.
  bool fabric_trusted = false;
  // Announced bulk on its way to this process at once, per loop; what is over it waits at its
  // sender.
  uint64_t pull_bytes_max = 64 << 20;
  // libfabric's provider: "verbs", "tcp". Empty: verbs where the address has it, else tcp. Both
  // ends of a connection need the same.
  std::string provider;
  // Memory is registered as verbs needs it, on tcp too. For tests.
  bool register_as_verbs = false;
};

// kInvalidArgument: a node without a secret, or another provider. libfabric itself starts with the
// first listener or channel, so a process may fork between.
Result<std::unique_ptr<Transport>> CreateOfiTransport(TransportOptions options,
                                                      OfiOptions ofi = {});

}  // namespace perigee::rdma
