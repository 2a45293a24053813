#pragma once
// One record in, one record out: the I/O of a shard, in one batch each.
//
// Payloads of 64 KiB and more in page-aligned memory go past the page cache, both ways, but for
// reads that are to be kept there. Nothing here syncs, and payloads are not checked: the blob's
// reader does that. Thread-safe; blocks.

#include <functional>

#include "base/disk.h"
#include "client/blob/shard_io.h"
#include "objectd/drive/background_turns.h"
#include "objectd/drive/segment_file.h"
#include "objectd/drive/shard_index.h"

namespace perigee::objectd {

// Header page and payload at record.offset, which is the caller's own room. `turns`: for I/O that
// makes way for others; null: all at once.
Status WriteRecord(Disk& disk, SegmentFile& segment, const RecordHeader& record, ConstBytes bytes,
                   BackgroundTurns* turns);

// Gives memory for the asked range, which is inside the shard: that many bytes, or as many as were
// asked for, whose read then goes by the page cache.
using RecordRoom = std::function<Result<MutableBytes>(size_t bytes)>;

// The header, and the asked range in that memory. kInvalidArgument: not inside the shard.
// kNotFound: the record at `place` is gone or another's. kCorrupt: its header fails its check, or
// the file is cut off. kIo: the device failed. kBuffered: by the page cache.
Result<wire::ShardHeader> ReadRecord(Disk& disk, SegmentFile& segment, const ShardPlace& place,
                                     const wire::ShardReadRequest& request, Caching caching,
                                     BackgroundTurns* turns, const RecordRoom& room);

}  // namespace perigee::objectd
