#pragma once
// GivenUpLeases: leases of this node whose blobs no commit will name. They ride on its next lease
// request, so that the space of a write that failed is not held until they expire. Memory only: a
// node that dies ends its leases by registering anew. Thread-safe.

#include <algorithm>
#include <cstdint>
#include <mutex>
#include <vector>

namespace perigee::client {

class GivenUpLeases {
 public:
  void Add(const std::vector<uint64_t>& intents) {
    std::lock_guard lock(mu_);
    // More are not worth their memory: they expire.
    for (size_t i = 0; i < intents.size() && intents_.size() < kKeptMax; ++i)
      intents_.push_back(intents[i]);
  }
  // At most `most` of them, which are here no longer: Add them again when the request fails.
  std::vector<uint64_t> Take(size_t most) {
    std::lock_guard lock(mu_);
    const size_t from = intents_.size() - std::min(most, intents_.size());
    std::vector<uint64_t> taken(intents_.begin() + static_cast<ptrdiff_t>(from), intents_.end());
    intents_.resize(from);
    return taken;
  }

 private:
  static constexpr size_t kKeptMax = 65'536;
  std::mutex mu_;
  std::vector<uint64_t> intents_;
};

}  // namespace perigee::client
