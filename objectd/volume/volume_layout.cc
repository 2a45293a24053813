#include "objectd/volume/volume_layout.h"

#include <algorithm>
#include <map>
#include <tuple>

#include "base/random.h"
#include "base/status.h"

namespace perigee::objectd {

namespace {

// One machine: neighbours in the list, and sets drawn by the seed.
std::vector<std::vector<uint64_t>> PlanOnOneNode(const std::vector<PlacedDrive>& drives,
                                                 size_t width, uint64_t seed) {
  const size_t n = drives.size();
  std::vector<std::vector<uint64_t>> plans;
  for (size_t first = 0; first < n; first++) {
    std::vector<uint64_t> plan;
    for (size_t i = 0; i < width; i++) plan.push_back(drives[(first + i) % n].drive_id);
    plans.push_back(std::move(plan));
  }
  Random random(seed);
  for (size_t extra = 0; n > width && extra < n; extra++) {
    std::vector<uint64_t> pool;
    for (const PlacedDrive& drive : drives) pool.push_back(drive.drive_id);
    for (size_t i = 0; i < width; i++) std::swap(pool[i], pool[i + random.Below(n - i)]);
    pool.resize(width);
    plans.push_back(std::move(pool));
  }
  return plans;
}

}  // namespace

// Over several nodes each drive is the first of as many volumes as another; the rest of a volume is
// taken one by one from the node that has the fewest of it, there from the drive that the plans so
// far use least, and among equals as the seed draws.
std::vector<std::vector<uint64_t>> PlanVolumes(const std::vector<PlacedDrive>& drives, uint32_t k,
                                               uint32_t m, uint64_t seed) {
  const size_t width = k + m, n = drives.size();
  if (n < width || width == 0) return {};
  const bool one_node = std::all_of(drives.begin(), drives.end(), [&](const PlacedDrive& drive) {
    return drive.node == drives.front().node;
  });
  if (one_node) return PlanOnOneNode(drives, width, seed);
  std::map<uint64_t, size_t> used;  // drive -> plans
  std::vector<std::vector<uint64_t>> plans;
  for (size_t number = 0; number < (n > width ? 2 * n : n); number++) {
    std::map<uint64_t, size_t> of_node;
    std::vector<uint64_t> plan;
    auto take = [&](const PlacedDrive& drive) {
      plan.push_back(drive.drive_id);
      of_node[drive.node]++;
      used[drive.drive_id]++;
    };
    take(drives[number % n]);
    while (plan.size() < width) {
      const PlacedDrive* best = nullptr;
      std::tuple<size_t, size_t, uint64_t> best_rank;
      for (const PlacedDrive& drive : drives) {
        if (std::find(plan.begin(), plan.end(), drive.drive_id) != plan.end()) continue;
        const uint64_t drawn = Random(seed ^ (number << 32) ^ drive.drive_id).Next();
        std::tuple rank(of_node[drive.node], used[drive.drive_id], drawn);
        if (best != nullptr && rank >= best_rank) continue;
        best = &drive;
        best_rank = rank;
      }
      take(*best);
    }
    plans.push_back(std::move(plan));
  }
  return plans;
}

uint32_t MostOnOneNode(const std::vector<uint64_t>& nodes) {
  std::map<uint64_t, uint32_t> count;
  uint32_t most = 0;
  for (uint64_t node : nodes) most = std::max(most, ++count[node]);
  return most;
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
