#pragma once
// MirrorKeeper: keeps the namespace on min(N, M + 1) healthy drives. A mirror whose drive is gone
// is ejected; where one is missing, a drive without one gets it at once, replaced drive or not.
// Thread-safe; RunOnce blocks as long as a copy takes.

#include <string>

#include "objectd/kv/rocks_store.h"
#include "objectd/volume/drive_set.h"
#include "objectd/volume/volume_table.h"

namespace perigee::objectd {

class MirrorKeeper {
 public:
  // `store` null: nothing to keep (a store without mirrors).
  MirrorKeeper(kv::RocksStore* store, DriveSet* drives, VolumeTable* table)
      : store_(store), drives_(drives), table_(table) {}

  // One step; ok when nothing was to be done.
  Status RunOnce();
  // Whether a mirror is missing that some drive could hold. Until it is there, the namespace does
  // not survive what the volumes do.
  bool Missing() const;
  std::string Describe() const;  // "3 of 3 in sync: /d1 /d2 /d3"

 private:
  // Where the next mirror goes; none when there are enough, or no drive for it.
  std::shared_ptr<Drive> NextPlace(const std::vector<uint64_t>& in_sync) const;

  kv::RocksStore* const store_;
  DriveSet* const drives_;
  VolumeTable* const table_;
};

}  // namespace perigee::objectd
