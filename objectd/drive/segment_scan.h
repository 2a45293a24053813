#pragma once
// Reads a segment's records back: what the index does not know after a crash, or at all.
//
// Every page is a possible beginning of a record, because writers append in parallel and deletes
// leave holes. Where the segment has no footer, a record counts only if its payload passes its
// checksums: it may be the torn tail of a crash. Blocks; no state.

#include <cstdint>
#include <functional>

#include "base/disk.h"
#include "objectd/drive/segment.h"

namespace perigee::objectd {

struct ScanResult {
  uint64_t end = 0;  // behind the last whole record, or of the footer
  bool has_footer = false;
  uint64_t records = 0;  // visited
  uint64_t torn = 0;     // header good, payload not
};

// The footer's end, or 0 when the segment has none.
Result<uint64_t> ReadSegmentEnd(File& file, const SegmentHeader& header);
// Visits the records that begin at `from` (page-aligned, at least one page) or later, in order of
// offset.
Result<ScanResult> ScanSegment(File& file, const SegmentHeader& header, uint64_t from,
                               const std::function<Status(const RecordHeader&)>& visit);

}  // namespace perigee::objectd
