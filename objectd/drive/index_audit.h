#pragma once
// A drive's index held against its segments, while both are in use. Functions; thread-safe; block.

#include <utility>
#include <vector>

#include "objectd/drive/segment_set.h"
#include "objectd/drive/shard_index.h"

namespace perigee::objectd {

struct SegmentAudit {
  uint32_t segment = 0;  // that was read; 0: there is none behind `after`
  uint64_t records = 0;
  // Records that the index does not have, or has an older one of. A shard that is just being
  // written or deleted may be among them.
  std::vector<ShardKey> unindexed;
};
// Reads the headers of the first segment behind `after`.
Result<SegmentAudit> AuditSegment(SegmentSet& segments, ShardIndex& index, uint32_t after);

// The newest whole record of the shard, found by reading every segment.
Result<std::optional<ShardPlace>> FindInSegments(SegmentSet& segments, const ShardKey& key);

}  // namespace perigee::objectd
