#pragma once
// Which shards of volumes go to another drive, and where. Pure functions: decisions of a picture of
// the cluster, without I/O.
//
// Two reasons. A drive is left: its node drains, or it has been away for too long. And shards are
// spread better: over nodes where one has more of a volume than it needs to; then over drives, from
// one that is much fuller than another. A volume moves one shard at a time, and for the second
// reason none before it has been verified.

#include <cstdint>
#include <optional>
#include <vector>

namespace perigee::objectd {

struct PlanDrive {
  uint64_t drive_id = 0;
  uint64_t node = 0;
  bool online = false;
  bool takes = false;  // online, of a node that is in: may get shards
  bool left = false;   // what it has goes elsewhere
  uint64_t total_bytes = 0, free_bytes = 0;
};

struct PlanVolume {
  uint32_t volume = 0;
  std::vector<uint64_t> drives;  // by shard index
  std::vector<uint64_t> barred;  // drives that may still have other shards of it
  bool moves = false;            // a shard is on its way
  bool unverified = false;       // one was not long ago
};

struct PlannedMove {
  uint32_t volume = 0;
  uint32_t index = 0;
  uint64_t to = 0;
  bool spread = false;
  bool operator==(const PlannedMove&) const = default;
};

struct MoveLimits {
  uint64_t spare_bytes = 256 << 20;  // a drive with less free gets none
  uint32_t fuller_percent = 10;      // of its size: a drive is relieved beyond that
};

// The next shard of a drive that is left, if any can go anywhere.
std::optional<PlannedMove> NextLeave(const std::vector<PlanVolume>& volumes,
                                     const std::vector<PlanDrive>& drives,
                                     const MoveLimits& limits);
// The next one that spreads shards better.
std::optional<PlannedMove> NextSpread(const std::vector<PlanVolume>& volumes,
                                      const std::vector<PlanDrive>& drives,
                                      const MoveLimits& limits);

// How many nodes, and how many drives, may be lost from now on, whichever they are, without a
// volume losing more than its m shards.
struct Survived {
  uint32_t nodes = 0, drives = 0;
};
Survived Survives(const std::vector<PlanVolume>& volumes, const std::vector<PlanDrive>& drives,
                  const std::vector<uint32_t>& m_of_volume);

}  // namespace perigee::objectd
