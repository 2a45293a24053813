#pragma once
// Which shards of a blob are not where they should be: what scrub and fsck look for beside bad
// ones. Thread-safe; blocks.

#include <vector>

#include "objectd/kv/store.h"
#include "objectd/volume/volume_table.h"

namespace perigee::objectd {

// Indices, of drives that are online, by their own lists. None when nothing refers to the blob (it
// may just have been deleted).
Result<std::vector<uint32_t>> MissingShards(kv::Store& store, DriveCatalog& drives,
                                            VolumeTable& table, const VolumeRecord& volume,
                                            uint64_t seq);

}  // namespace perigee::objectd
