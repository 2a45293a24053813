#include "tiers/flush/evict_policy.h"

#include <algorithm>

namespace perigee::tiers {

Watermarks WatermarksOf(uint64_t budget_bytes) {
  uint64_t percent = budget_bytes / 100;
  return {budget_bytes - 5 * percent, budget_bytes - 15 * percent};
}

uint64_t BytesToEvict(uint64_t used_bytes, const Watermarks& marks, uint64_t short_bytes) {
  uint64_t over = used_bytes > marks.high_bytes ? used_bytes - marks.low_bytes : 0;
  return std::max(over, std::min(short_bytes, used_bytes));
}

std::vector<uint64_t> PickEvictions(std::vector<EvictCandidate> candidates, uint64_t bytes) {
  std::sort(candidates.begin(), candidates.end(),
            [](const EvictCandidate& a, const EvictCandidate& b) {
              return a.accessed != b.accessed ? a.accessed < b.accessed : a.key < b.key;
            });
  std::vector<uint64_t> picked;
  uint64_t got = 0;
  for (const EvictCandidate& c : candidates) {
    if (got >= bytes) break;
    picked.push_back(c.key);
    got += c.bytes;
  }
  return picked;
}

}  // namespace perigee::tiers
