#include "objectd/volume/volume_layout.h"

#include <algorithm>

#include "base/random.h"
#include "base/status.h"

namespace perigee::objectd {

std::vector<std::vector<uint64_t>> PlanVolumes(const std::vector<uint64_t>& drives, uint32_t k,
                                               uint32_t m, uint64_t seed) {
  const size_t width = k + m, n = drives.size();
  std::vector<std::vector<uint64_t>> plans;
  if (n < width || width == 0) return plans;
  for (size_t first = 0; first < n; first++) {
    std::vector<uint64_t> plan;
    for (size_t i = 0; i < width; i++) plan.push_back(drives[(first + i) % n]);
    plans.push_back(std::move(plan));
  }
  Random random(seed);
  for (size_t extra = 0; n > width && extra < n; extra++) {
    std::vector<uint64_t> pool = drives;
    for (size_t i = 0; i < width; i++) std::swap(pool[i], pool[i + random.Below(n - i)]);
    pool.resize(width);
    plans.push_back(std::move(pool));
  }
  return plans;
}

uint32_t WidestData(uint32_t k, uint32_t m, size_t drives) {
  return drives <= m ? 0 : static_cast<uint32_t>(std::min<size_t>(k, drives - m));
}

uint32_t PickVolume(const std::vector<uint32_t>& ids, uint64_t spread) {
  PERIGEE_CHECK(!ids.empty());
  uint32_t best = ids.front();
  uint64_t best_weight = 0;
  for (uint32_t id : ids) {
    uint64_t weight = Random(spread ^ (uint64_t{id} << 32 | id)).Next();
    if (weight < best_weight) continue;
    best = id;
    best_weight = weight;
  }
  return best;
}

}  // namespace perigee::objectd
