#pragma once
// Which clean burst files go when the buffer is full: pure functions.
//
// Above the high watermark of the byte budget, the files used longest ago are taken until the low
// one is reached. Only candidates that the caller declares evictable are considered (clean, no
// opens, not pinned).

#include <cstdint>
#include <vector>

#include "base/clock.h"

namespace perigee::tiers {

struct EvictCandidate {
  uint64_t key = 0;
  uint64_t bytes = 0;  // what the file system gets back
  Nanos accessed = 0;  // wall
};

struct Watermarks {
  uint64_t high_bytes = 0;  // eviction starts above
  uint64_t low_bytes = 0;   // and ends at or below
};
// 95 % and 85 % of the budget.
Watermarks WatermarksOf(uint64_t budget_bytes);

// How much must go now: 0 below the high watermark, unless `short_bytes` (free space missing on the
// file system) asks.
uint64_t BytesToEvict(uint64_t used_bytes, const Watermarks& marks, uint64_t short_bytes);

// Keys in the order of eviction, at least `bytes` of them when that many exist.
std::vector<uint64_t> PickEvictions(std::vector<EvictCandidate> candidates, uint64_t bytes);

}  // namespace perigee::tiers
