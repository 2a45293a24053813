#pragma once
// Volume and drive records in the store. Format: docs/formats/volumes.md. Keys are big-endian.
//
//   V <volume u32>  -> VolumeRecord        V alone -> the map's epoch (u64 le)      V <volume> s:
//   see reference_keys.h v <drive u64>   -> DriveRecord
//   o <node u64>    -> StorageNodeRow
// Pure functions.

#include <cstdint>
#include <string>
#include <vector>

#include "objectd/kv/store.h"
#include "rdma/wire/node.h"

namespace perigee::objectd {

// A shard index on its way to another drive. The volume gets no new blobs meanwhile, where others
// can take them.
struct ShardMove {
  uint32_t index = 0;
  uint64_t to = 0;      // drive id
  bool spread = false;  // to spread shards better; else because its drive is left
  int64_t since = 0;    // wall ns
  wire::Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.index);
    v(2, s.to);
    v(3, s.spread);
    v(4, s.since);
    v.Rest(s.unknown);
  }
};

struct VolumeRecord {
  uint32_t volume = 0;
  uint32_t k = 0, m = 0;
  std::vector<uint64_t> drives;  // k + m, by shard index
  uint64_t epoch = 0;            // of the map when the drives last changed
  int64_t verify_after =
      0;  // wall ns; from then on its shards are checked for gaps. 0: no need known
  std::vector<ShardMove> moves;
  std::vector<uint64_t> left;  // drives that may still have shards of it, to be removed
  wire::Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.volume);
    v(2, s.k);
    v(3, s.m);
    v(4, s.drives);
    v(5, s.epoch);
    v(6, s.verify_after);
    v(7, s.moves);
    v(8, s.left);
    v.Rest(s.unknown);
  }
};

struct DriveRecord {
  uint64_t drive_id = 0;
  uint32_t slot = 0;
  std::string dir;
  wire::DriveState state = wire::DriveState::kOnline;
  std::string reason;     // why not online
  int64_t since = 0;      // wall ns of the last change of state
  wire::NodeId node = 0;  // 0: the namespace node
  wire::Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.drive_id);
    v(2, s.slot);
    v(3, s.dir);
    v(4, s.state);
    v(5, s.reason);
    v(6, s.since);
    v(7, s.node);
    v.Rest(s.unknown);
  }
};

struct StorageNodeDrive {
  uint64_t drive_id = 0;
  uint32_t slot = 0;  // no other drive of the cluster has it
  std::string dir;
  wire::Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.drive_id);
    v(2, s.slot);
    v(3, s.dir);
    v.Rest(s.unknown);
  }
};

struct StorageNodeRow {
  wire::NodeId node = 0;
  std::string name;
  std::string address;  // on its own machine
  wire::NodeDoors doors;
  wire::StorageNodeState state = wire::StorageNodeState::kIn;
  int64_t joined = 0;  // wall ns
  std::vector<StorageNodeDrive> drives;
  bool repair_now = false;  // what it has is rebuilt on others without further delay
  wire::Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.node);
    v(2, s.name);
    v(3, s.address);
    v(4, s.doors);
    v(5, s.state);
    v(6, s.joined);
    v(7, s.drives);
    v(8, s.repair_now);
    v.Rest(s.unknown);
  }
};

// Drives that may have that shard of the volume's blobs: its own first, then one that it moves to,
// and those that are left.
std::vector<uint64_t> PlacesOf(const VolumeRecord& volume, uint32_t index);

std::string VolumeKey(uint32_t volume);
std::string DriveKey(uint64_t drive_id);
std::string MapEpochKey();
kv::Range VolumeRange();  // records and sequence counters: IsVolumeKey tells them apart
bool IsVolumeKey(std::string_view key);
kv::Range DriveRange();
std::string StorageNodeKey(wire::NodeId node);
kv::Range StorageNodeRange();
std::string EncodeEpoch(uint64_t epoch);
Result<uint64_t> DecodeEpoch(std::string_view value);

}  // namespace perigee::objectd
