#include "rdma/class_bytes.h"

#include <utility>

#include "base/bytes.h"

namespace perigee::rdma {

// Counters appear with their first byte: most peers use few classes.
void PeerBytes::Count(size_t direction, TrafficClass traffic, size_t bytes) {
  if (registry_ == nullptr) return;
  auto& slot = counters_[direction][IndexOf(traffic)];
  metrics::Counter* counter = slot.load(std::memory_order_acquire);
  if (counter == nullptr) {
    counter = registry_->GetCounter("perigee_rdma_call_bytes_total",
                                    "Bytes of calls and their bulk, by traffic class and peer.",
                                    {{"provider", provider_},
                                     {"class", std::string(NameOf(traffic))},
                                     {"peer", peer_},
                                     {"direction", direction == 0 ? "out" : "in"}});
    slot.store(counter, std::memory_order_release);
  }
  counter->Add(static_cast<double>(bytes));
}

ClassBytes::ClassBytes(metrics::Registry* registry, std::string provider)
    : registry_(registry),
      provider_(std::move(provider)),
      users_(registry_, provider_, "user"),
      others_(registry_, provider_, "other") {}

PeerBytes* ClassBytes::With(Role role, uint64_t node_id) {
  if (role != Role::kNode) return &users_;
  std::lock_guard lock(mu_);
  auto it = nodes_.find(node_id);
  if (it != nodes_.end()) return it->second.get();
  if (nodes_.size() >= kPeersCounted) return &others_;
  auto peer = std::make_unique<PeerBytes>(registry_, provider_, HexEncode64(node_id));
  return nodes_.emplace(node_id, std::move(peer)).first->second.get();
}

}  // namespace perigee::rdma
