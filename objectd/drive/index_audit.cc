#include "objectd/drive/index_audit.h"

#include "base/log.h"
#include "objectd/drive/segment_scan.h"

namespace perigee::objectd {
namespace {

ShardKey KeyOf(const RecordHeader& record) {
  return {record.shard.blob.volume, record.shard.blob.seq, record.shard.index};
}

ShardPlace PlaceOf(const RecordHeader& record) {
  return {record.segment, record.generation, record.offset, record.record_seq,
          record.payload_bytes};
}

Result<bool> IsWhole(File& file, const RecordHeader& record) {
  AlignedBuffer payload(RoundUp(std::max<uint64_t>(1, record.payload_bytes), kPageBytes));
  MutableBytes bytes = payload.span().first(record.payload_bytes);
  PERIGEE_ASSIGN(size_t got, file.ReadAt(record.offset + kPageBytes, bytes));
  return CheckPayload(record, bytes.first(got)).ok();
}

}  // namespace

Result<SegmentAudit> AuditSegment(SegmentSet& segments, ShardIndex& index, uint32_t after) {
  SegmentAudit audit;
  std::shared_ptr<SegmentFile> segment;
  for (const auto& file : segments.All()) {
    const uint32_t number = file->header().segment;
    if (number > after && (!segment || number < segment->header().segment)) segment = file;
  }
  if (!segment) return audit;
  audit.segment = segment->header().segment;
  PERIGEE_ASSIGN(File * file, segment->Buffered());
  PERIGEE_ASSIGN(
      ScanResult result,
      ScanSegment(*file, segment->header(), kPageBytes, [&](const RecordHeader& record) -> Status {
        PERIGEE_ASSIGN(auto place, index.Find(KeyOf(record)));
        if (!place || place->record_seq < record.record_seq)
          audit.unindexed.push_back(KeyOf(record));
        return Status::Ok();
      }));
  audit.records = result.records;
  return audit;
}

Result<std::optional<ShardPlace>> FindInSegments(SegmentSet& segments, const ShardKey& key) {
  std::optional<ShardPlace> newest;
  for (const auto& segment : segments.All()) {
    PERIGEE_ASSIGN(File * file, segment->Buffered());
    auto scanned = ScanSegment(
        *file, segment->header(), kPageBytes, [&](const RecordHeader& record) -> Status {
          if (KeyOf(record) != key || (newest && newest->record_seq > record.record_seq))
            return Status::Ok();
          PERIGEE_ASSIGN(bool whole, IsWhole(*file, record));
          if (whole) newest = PlaceOf(record);
          return Status::Ok();
        });
    // Others may still have it.
    if (!scanned.ok())
      log::Warn("segment_unreadable", {{"path", segment->path()}, {"cause", scanned.status()}});
  }
  return newest;
}

}  // namespace perigee::objectd
