#pragma once
// GivenUpLeases: leases of this node that no commit will name, or name again. They ride on its next
// lease request, or go back by themselves (ReturnGivenUp): until they expire they hold the space of
// writes that failed, and what waits for a volume's last writers. Memory only: a node that dies
// ends its leases by registering anew. Thread-safe.

#include <algorithm>
#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>
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

// Leases of a finished object: given up when this ends, which is when its commit is over, whatever
// that came to.
class HeldLeases {
 public:
  HeldLeases(std::shared_ptr<GivenUpLeases> given_up, std::vector<uint64_t> intents)
      : given_up_(std::move(given_up)), intents_(std::move(intents)) {}
  ~HeldLeases() {
    if (given_up_) given_up_->Add(intents_);
  }
  HeldLeases(const HeldLeases&) = delete;

 private:
  const std::shared_ptr<GivenUpLeases> given_up_;
  const std::vector<uint64_t> intents_;
};

}  // namespace perigee::client
