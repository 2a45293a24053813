#pragma once
// CheckShard: reads a shard back from its drive and holds every chunk against its crc32c: what
// scrub and repair mean by "good". Thread-safe; blocks.

#include <cstdint>

#include "objectd/drive/drive.h"
#include "objectd/volume/volume_records.h"

namespace perigee::objectd {

// The bytes read. kNotFound: the drive has no such shard. kCorrupt: it has, and it is bad, or its
// record is gone or unreadable. kUnavailable: the drive is away; nothing is known.
Result<uint64_t> CheckShard(Drive& drive, const VolumeRecord& volume, const wire::BlobId& blob,
                            uint32_t index);

// The shard itself, once, by the same measure. A bad one: kCorrupt, or what the drive said of it.
Result<client::ShardData> ReadCheckedShard(Drive& drive, const VolumeRecord& volume,
                                           const wire::BlobId& blob, uint32_t index);

}  // namespace perigee::objectd
