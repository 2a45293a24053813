#include "objectd/drive/segment_scan.h"

#include <algorithm>

#include "client/blob/geometry.h"

namespace perigee::objectd {
namespace {

constexpr uint64_t kWindowBytes = 1 << 20;

}  // namespace

Result<uint64_t> ReadSegmentEnd(File& file, const SegmentHeader& header) {
  PERIGEE_ASSIGN(uint64_t size, file.Size());
  if (size < 2 * kPageBytes || size % kPageBytes != 0) return uint64_t{0};
  AlignedBuffer page(kPageBytes);
  PERIGEE_ASSIGN(size_t got, file.ReadAt(size - kPageBytes, page.span()));
  if (got < kPageBytes) return uint64_t{0};
  auto end = DecodeSegmentFooter(page.span(), header);
  if (!end.ok() || *end != size - kPageBytes) return uint64_t{0};
  return *end;
}

Result<ScanResult> ScanSegment(File& file, const SegmentHeader& header, uint64_t from,
                               const std::function<Status(const RecordHeader&)>& visit) {
  ScanResult result;
  PERIGEE_ASSIGN(uint64_t footer, ReadSegmentEnd(file, header));
  PERIGEE_ASSIGN(uint64_t size, file.Size());
  result.has_footer = footer != 0;
  const uint64_t limit = result.has_footer ? footer : size / kPageBytes * kPageBytes;
  result.end = result.has_footer ? footer : std::min(from, limit);

  AlignedBuffer window(kWindowBytes), payload;
  uint64_t window_at = 0, window_bytes = 0;
  uint64_t at = from;
  while (at < limit) {
    if (at < window_at || at + kPageBytes > window_at + window_bytes) {
      PERIGEE_ASSIGN(size_t got,
                     file.ReadAt(at, window.span().subspan(0, std::min(kWindowBytes, limit - at))));
      window_at = at;
      window_bytes = got;
      if (got < kPageBytes) break;
    }
    auto record = DecodeRecordHeader(window.span().subspan(at - window_at, kPageBytes));
    if (record.code() == Code::kUnimplemented) return std::move(record).TakeStatus();
    const bool ours = record.ok() && record->generation == header.generation &&
                      record->segment == header.segment && record->offset == at &&
                      record->payload_bytes <= client::kShardBytesMax &&
                      at + record->record_bytes() <= limit;
    if (!ours) {
      at += kPageBytes;
      continue;
    }
    bool whole = true;
    if (!result.has_footer) {
      if (payload.size() == 0) payload = AlignedBuffer(client::kShardBytesMax);
      MutableBytes into = payload.span().subspan(0, record->payload_bytes);
      PERIGEE_ASSIGN(size_t got, file.ReadAt(at + kPageBytes, into));
      whole = CheckPayload(*record, into.subspan(0, got)).ok();
    }
    if (whole) {
      PERIGEE_TRY(visit(*record));
      result.records++;
      if (!result.has_footer) result.end = at + record->record_bytes();
    } else {
      result.torn++;
    }
    at += record->record_bytes();
  }
  return result;
}

}  // namespace perigee::objectd
