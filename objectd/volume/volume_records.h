#pragma once
// Volume and drive records in the store. Format: docs/formats/volumes.md. Keys are big-endian.
//
//   V <volume u32>  -> VolumeRecord        V alone -> the map's epoch (u64 le)      V <volume> s:
//   see reference_keys.h v <drive u64>   -> DriveRecord
// Pure functions.

#include <cstdint>
#include <string>
#include <vector>

#include "objectd/kv/store.h"
#include "rdma/wire/shard.h"

namespace perigee::objectd {

struct VolumeRecord {
  uint32_t volume = 0;
  uint32_t k = 0, m = 0;
  std::vector<uint64_t> drives;  // k + m, by shard index
  uint64_t epoch = 0;            // of the map when the drives last changed
  int64_t verify_after =
      0;  // wall ns; from then on its shards are checked for gaps. 0: no need known
  wire::Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.volume);
    v(2, s.k);
    v(3, s.m);
    v(4, s.drives);
    v(5, s.epoch);
    v(6, s.verify_after);
    v.Rest(s.unknown);
  }
};

struct DriveRecord {
  uint64_t drive_id = 0;
  uint32_t slot = 0;
  std::string dir;
  wire::DriveState state = wire::DriveState::kOnline;
  std::string reason;  // why not online
  int64_t since = 0;   // wall ns of the last change of state
  wire::Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.drive_id);
    v(2, s.slot);
    v(3, s.dir);
    v(4, s.state);
    v(5, s.reason);
    v(6, s.since);
    v.Rest(s.unknown);
  }
};

std::string VolumeKey(uint32_t volume);
std::string DriveKey(uint64_t drive_id);
std::string MapEpochKey();
kv::Range VolumeRange();  // records and sequence counters: IsVolumeKey tells them apart
bool IsVolumeKey(std::string_view key);
kv::Range DriveRange();
std::string EncodeEpoch(uint64_t epoch);
Result<uint64_t> DecodeEpoch(std::string_view value);

}  // namespace perigee::objectd
