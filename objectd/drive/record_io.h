#pragma once
// One record in, one record out: the I/O of a shard, in one batch each.
//
// Payloads of 64 KiB and more in page-aligned memory go past the page cache, both ways. Nothing
// here syncs, and payloads are not checked: the blob's reader does that. Thread-safe; blocks.

#include <functional>

#include "base/disk.h"
#include "client/blob/shard_io.h"
#include "objectd/drive/segment_file.h"
#include "objectd/drive/shard_index.h"

namespace perigee::objectd {

// Header page and payload at record.offset, which is the caller's own room.
Status WriteRecord(Disk& disk, SegmentFile& segment, const RecordHeader& record, ConstBytes bytes);

// Gives memory for the asked range, which is inside the shard: that many bytes, or as many as were
// asked for, whose read then goes by the page cache.
using RecordRoom = std::function<Result<MutableBytes>(size_t bytes)>;

// The header, and the asked range in that memory. kInvalidArgument: not inside the shard.
// kNotFound: the record at `place` is gone or another's. kCorrupt: its header fails its check, or
// the file is cut off. kIo: the device failed.
Result<wire::ShardHeader> ReadRecord(Disk& disk, SegmentFile& segment, const ShardPlace& place,
                                     const wire::ShardReadRequest& request, const RecordRoom& room);

}  // namespace perigee::objectd
