#pragma once
// Which drives a volume is on. Pure functions with golden vectors: what they give for equal
// arguments never changes.
//
// A volume's shards are spread over nodes as evenly as its width allows, so that the loss of a node
// costs as few of them as possible.
//
// As many volumes as drives, so that every drive holds every shard index equally often; when there
// are more drives than the profile needs, as many again of drives drawn by the seed, so that a lost
// drive is rebuilt from and onto many.

#include <cstddef>
#include <cstdint>
#include <vector>

namespace perigee::objectd {

struct PlacedDrive {
  uint64_t drive_id = 0;
  uint64_t node = 0;
};

// Sets of k + m of the drives, in order of shard index. Empty when there are fewer drives.
std::vector<std::vector<uint64_t>> PlanVolumes(const std::vector<PlacedDrive>& drives, uint32_t k,
                                               uint32_t m, uint64_t seed);

// The most shards of a volume that one node has, when its drives are on these nodes.
uint32_t MostOnOneNode(const std::vector<uint64_t>& nodes);

// The widest K' <= k for which K' + m drives are there; 0 when not even 1 + m are.
uint32_t WidestData(uint32_t k, uint32_t m, size_t drives);

// Of `ids`, the one that `spread` picks: equal spreads pick alike, and most keep their pick when
// others come or go (rendezvous hashing, Thaler and Ravishankar 1998). `ids` is not empty.
uint32_t PickVolume(const std::vector<uint32_t>& ids, uint64_t spread);

}  // namespace perigee::objectd
