#include "objectd/volume/move_plan.h"

#include <algorithm>
#include <map>
#include <set>
#include <tuple>

namespace perigee::objectd {
namespace {

using DriveMap = std::map<uint64_t, const PlanDrive*>;

DriveMap ById(const std::vector<PlanDrive>& drives) {
  DriveMap by_id;
  for (const PlanDrive& drive : drives) by_id[drive.drive_id] = &drive;
  return by_id;
}

bool Has(const std::vector<uint64_t>& ids, uint64_t id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

// Of a thousand.
uint64_t Fullness(const PlanDrive& drive) {
  if (drive.total_bytes == 0) return 0;
  const uint64_t used = drive.total_bytes - std::min(drive.free_bytes, drive.total_bytes);
  return static_cast<uint64_t>(static_cast<double>(used) * 1000 /
                               static_cast<double>(drive.total_bytes));
}

// Shards of the volume on that node, not counting the one with that index.
uint32_t OthersOnNode(const PlanVolume& volume, uint32_t index, uint64_t node,
                      const DriveMap& by_id) {
  uint32_t count = 0;
  for (uint32_t i = 0; i < volume.drives.size(); i++) {
    auto drive = by_id.find(volume.drives[i]);
    count += i != index && drive != by_id.end() && drive->second->node == node;
  }
  return count;
}

std::map<uint64_t, uint32_t> Memberships(const std::vector<PlanVolume>& volumes) {
  std::map<uint64_t, uint32_t> count;
  for (const PlanVolume& volume : volumes)
    for (uint64_t id : volume.drives) count[id]++;
  return count;
}

bool CanTake(const PlanVolume& volume, const PlanDrive& drive, const MoveLimits& limits) {
  return drive.takes && !drive.left && !Has(volume.drives, drive.drive_id) &&
         !Has(volume.barred, drive.drive_id) &&
         (drive.total_bytes == 0 || drive.free_bytes >= limits.spare_bytes);
}

// The best drive for that shard: of the node with the fewest others of the volume, the emptiest,
// the one in the fewest volumes.
const PlanDrive* BestTarget(const PlanVolume& volume, uint32_t index,
                            const std::vector<PlanDrive>& drives, const DriveMap& by_id,
                            std::map<uint64_t, uint32_t>& memberships, const MoveLimits& limits) {
  const PlanDrive* best = nullptr;
  std::tuple<uint32_t, uint64_t, uint32_t, uint64_t> best_rank;
  for (const PlanDrive& drive : drives) {
    if (!CanTake(volume, drive, limits)) continue;
    std::tuple rank(OthersOnNode(volume, index, drive.node, by_id), Fullness(drive) / 50,
                    memberships[drive.drive_id], drive.drive_id);
    if (best != nullptr && rank >= best_rank) continue;
    best = &drive;
    best_rank = rank;
  }
  return best;
}

// The fewest shards that the node with the most of them can have.
uint32_t BestSpread(size_t width, const std::vector<PlanDrive>& drives) {
  std::map<uint64_t, size_t> of_node;
  for (const PlanDrive& drive : drives)
    if (drive.takes && !drive.left) of_node[drive.node]++;
  for (uint32_t most = 1; most <= width; most++) {
    size_t room = 0;
    for (const auto& [node, count] : of_node) room += std::min<size_t>(count, most);
    if (room >= width) return most;
  }
  return static_cast<uint32_t>(width);
}

}  // namespace

std::optional<PlannedMove> NextLeave(const std::vector<PlanVolume>& volumes,
                                     const std::vector<PlanDrive>& drives,
                                     const MoveLimits& limits) {
  const DriveMap by_id = ById(drives);
  auto memberships = Memberships(volumes);
  for (const PlanVolume& volume : volumes) {
    if (volume.moves) continue;
    for (uint32_t i = 0; i < volume.drives.size(); i++) {
      auto drive = by_id.find(volume.drives[i]);
      if (drive == by_id.end() || !drive->second->left) continue;
      const PlanDrive* target = BestTarget(volume, i, drives, by_id, memberships, limits);
      if (target != nullptr) return PlannedMove{volume.volume, i, target->drive_id, false};
    }
  }
  return std::nullopt;
}

std::optional<PlannedMove> NextSpread(const std::vector<PlanVolume>& volumes,
                                      const std::vector<PlanDrive>& drives,
                                      const MoveLimits& limits) {
  const DriveMap by_id = ById(drives);
  auto memberships = Memberships(volumes);
  for (const PlanVolume& volume : volumes) {
    if (volume.moves || volume.unverified) continue;
    const uint32_t best_spread = BestSpread(volume.drives.size(), drives);
    for (uint32_t i = 0; i < volume.drives.size(); i++) {
      auto drive = by_id.find(volume.drives[i]);
      if (drive == by_id.end() || !drive->second->takes) continue;
      const uint32_t here = OthersOnNode(volume, i, drive->second->node, by_id) + 1;
      if (here <= best_spread) continue;
      const PlanDrive* target = BestTarget(volume, i, drives, by_id, memberships, limits);
      if (target != nullptr && OthersOnNode(volume, i, target->node, by_id) + 1 < here)
        return PlannedMove{volume.volume, i, target->drive_id, true};
    }
  }
  // From the fullest drive to one that is emptier by the limit, if that spreads no worse.
  std::vector<const PlanDrive*> fullest;
  for (const PlanDrive& drive : drives)
    if (drive.takes && !drive.left && drive.total_bytes != 0) fullest.push_back(&drive);
  std::sort(fullest.begin(), fullest.end(), [](const PlanDrive* a, const PlanDrive* b) {
    return std::tuple(Fullness(*a), a->drive_id) > std::tuple(Fullness(*b), b->drive_id);
  });
  for (const PlanDrive* from : fullest) {
    for (const PlanVolume& volume : volumes) {
      if (volume.moves || volume.unverified) continue;
      auto at = std::find(volume.drives.begin(), volume.drives.end(), from->drive_id);
      if (at == volume.drives.end()) continue;
      const auto index = static_cast<uint32_t>(at - volume.drives.begin());
      const uint32_t here = OthersOnNode(volume, index, from->node, by_id);
      for (auto to = fullest.rbegin(); to != fullest.rend(); ++to) {
        if (Fullness(**to) + limits.fuller_percent * 10 > Fullness(*from)) break;
        if (!CanTake(volume, **to, limits)) continue;
        if (OthersOnNode(volume, index, (*to)->node, by_id) > here) continue;
        return PlannedMove{volume.volume, index, (*to)->drive_id, true};
      }
    }
  }
  return std::nullopt;
}

Survived Survives(const std::vector<PlanVolume>& volumes, const std::vector<PlanDrive>& drives,
                  const std::vector<uint32_t>& m_of_volume) {
  const DriveMap by_id = ById(drives);
  Survived survived{.nodes = ~0u, .drives = ~0u};
  for (size_t v = 0; v < volumes.size(); v++) {
    uint32_t gone = 0;
    std::map<uint64_t, uint32_t> of_node;
    for (uint64_t id : volumes[v].drives) {
      auto drive = by_id.find(id);
      if (drive == by_id.end() || !drive->second->online) {
        gone++;
      } else {
        of_node[drive->second->node]++;
      }
    }
    const uint32_t spare = m_of_volume[v] - std::min(gone, m_of_volume[v]);
    survived.drives = std::min(survived.drives, spare);
    // The nodes with the most shards are the worst to lose.
    std::vector<uint32_t> counts;
    for (const auto& [node, count] : of_node) counts.push_back(count);
    std::sort(counts.rbegin(), counts.rend());
    uint32_t nodes = 0, lost = 0;
    while (nodes < counts.size() && lost + counts[nodes] <= spare) lost += counts[nodes++];
    survived.nodes = std::min(survived.nodes, nodes);
  }
  if (volumes.empty()) return {};
  return survived;
}

}  // namespace perigee::objectd
