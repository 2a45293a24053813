#pragma once
// Remote reads: what the S3 door and other nodes get of a burst file. Exactly the asked generation,
// checked against the file's checksums once it has them, or an error: kStale when the file does not
// hold exactly that generation any more (it is being rewritten), kUnavailable when this node does
// not have it. Thread-safe.

#include "bufferd/core.h"

namespace perigee::bufferd {

// Fills `out` with [q.offset, q.offset + q.length); kInvalidArgument when the range is not inside
// the content.
Status ReadBurst(Core& core, const wire::BurstReadRequest& q, MutableBytes out);

}  // namespace perigee::bufferd
