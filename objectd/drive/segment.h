#pragma once
// Segment files: the codec of their pages. Format: docs/formats/segment.md.
//
// A segment is a header page, then records, each a header page and its payload, padded to 4 KiB; at
// its end, once nothing more will be appended, a footer page. Every page names the segment's
// generation, which is new each time the file is used afresh, and records name their own place: a
// page of an earlier use, or copied from elsewhere, is not taken for a record. Pure functions;
// input from disk gives kCorrupt or kNotFound, never undefined behaviour.

#include <cstdint>
#include <string>

#include "base/bytes.h"
#include "base/status.h"
#include "rdma/wire/shard.h"

namespace perigee::objectd {

struct SegmentHeader {
  uint64_t drive_id = 0;
  uint32_t segment = 0;
  uint64_t generation = 0;  // count of uses << 32 | 32 random bits
  bool operator==(const SegmentHeader&) const = default;
};

struct RecordHeader {
  uint64_t generation = 0;
  uint32_t segment = 0;
  uint64_t offset = 0;  // of this page in the segment
  uint64_t record_seq =
      0;  // grows with each record of the drive: of two records of one shard the higher one holds
  uint32_t payload_bytes = 0;
  bool has_payload_crc = false;  // set where the shard's chunk crcs do not cover the payload
  uint32_t payload_crc = 0;
  wire::ShardHeader shard;
  uint64_t record_bytes() const { return kPageBytes + RoundUp(payload_bytes, kPageBytes); }
};

// `page` is kPageBytes in all of these.
void EncodeSegmentHeader(const SegmentHeader& header, MutableBytes page);
Result<SegmentHeader> DecodeSegmentHeader(
    ConstBytes page);  // kCorrupt; kUnimplemented: newer format

// kInvalidArgument when the shard's header does not fit into the page.
Status EncodeRecordHeader(const RecordHeader& header, MutableBytes page);
Result<RecordHeader> DecodeRecordHeader(
    ConstBytes page);  // kNotFound: zeros (deleted, or never written). kCorrupt

// Marks the segment complete: every record before it was wholly written.
void EncodeSegmentFooter(const SegmentHeader& header, uint64_t end, MutableBytes page);
Result<uint64_t> DecodeSegmentFooter(ConstBytes page,
                                     const SegmentHeader& header);  // the end; kCorrupt

// True when chunk_crcs say something about every byte of the payload.
bool ChunksCover(const wire::ShardHeader& shard, uint64_t payload_bytes);
// kCorrupt when the payload is not what the header says.
Status CheckPayload(const RecordHeader& header, ConstBytes payload);

std::string SegmentFileName(uint32_t segment);  // "0000002a.seg"
Result<uint32_t> ParseSegmentFileName(std::string_view name);

}  // namespace perigee::objectd
