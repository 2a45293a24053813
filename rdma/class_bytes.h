#pragma once
// ClassBytes: how many bytes of calls, their messages and bulk, one transport has carried, by
// traffic class, peer and direction: perigee_rdma_call_bytes_total. Thread-safe.

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "base/metrics.h"
#include "rdma/traffic_class.h"
#include "rdma/transport.h"

namespace perigee::rdma {

inline constexpr size_t kPeersCounted = 128;  // of one transport; further ones are "other"

// Of one peer. Lives as long as the ClassBytes.
class PeerBytes {
 public:
  // `registry` null: nobody counts.
  PeerBytes(metrics::Registry* registry, std::string provider, std::string peer)
      : registry_(registry), provider_(std::move(provider)), peer_(std::move(peer)) {}
  void CountSent(TrafficClass traffic, size_t bytes) { Count(0, traffic, bytes); }
  void CountReceived(TrafficClass traffic, size_t bytes) { Count(1, traffic, bytes); }

 private:
  void Count(size_t direction, TrafficClass traffic, size_t bytes);

  metrics::Registry* const registry_;
  const std::string provider_, peer_;
  std::array<std::array<std::atomic<metrics::Counter*>, kTrafficClasses>, 2> counters_{};
};

class ClassBytes {
 public:
  ClassBytes(metrics::Registry* registry, std::string provider);
  // As hello has shown the peer: a node by its id; users are one peer together.
  PeerBytes* With(Role role, uint64_t node_id);

 private:
  metrics::Registry* const registry_;
  const std::string provider_;
  PeerBytes users_, others_;
  std::mutex mu_;  // guards what follows
  std::map<uint64_t, std::unique_ptr<PeerBytes>> nodes_;
};

}  // namespace perigee::rdma
