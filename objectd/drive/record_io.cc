#include "objectd/drive/record_io.h"

#include <vector>

#include "base/failpoint.h"

namespace perigee::objectd {
namespace {

constexpr uint64_t kDirectBytesMin = 64 << 10;

bool PageAligned(const uint8_t* p) { return reinterpret_cast<uintptr_t>(p) % kPageBytes == 0; }

void Run(Disk& disk, std::span<IoOp> ops, BackgroundTurns* turns) {
  if (turns != nullptr)
    turns->Run(disk, ops);
  else
    disk.Run(ops);
}

}  // namespace

Status WriteRecord(Disk& disk, SegmentFile& segment, const RecordHeader& record, ConstBytes bytes,
                   BackgroundTurns* turns) {
  AlignedBuffer edge(2 * kPageBytes);  // the header page, and the payload's last, partial page
  PERIGEE_TRY(EncodeRecordHeader(record, edge.span().subspan(0, kPageBytes)));
  File* direct = nullptr;
  if (bytes.size() >= kDirectBytesMin && PageAligned(bytes.data())) {
    PERIGEE_ASSIGN(direct, segment.Direct());
  }
  PERIGEE_ASSIGN(File * buffered, segment.Buffered());
  File* file = direct != nullptr ? direct : buffered;
  const uint64_t payload_at = record.offset + kPageBytes;

  std::vector<IoOp> ops;
  ops.push_back({IoOp::Kind::kWrite, file, record.offset, edge.data(), kPageBytes});
  uint64_t whole = direct != nullptr ? bytes.size() / kPageBytes * kPageBytes : bytes.size();
  // IoOp has one pointer for both directions; a write only reads from it.
  auto* data = const_cast<uint8_t*>(bytes.data());
  if (whole > 0) ops.push_back({IoOp::Kind::kWrite, file, payload_at, data, whole});
  if (whole < bytes.size()) {
    uint8_t* tail = edge.data() + kPageBytes;
    std::memset(tail, 0, kPageBytes);
    std::memcpy(tail, data + whole, bytes.size() - whole);
    ops.push_back({IoOp::Kind::kWrite, file, payload_at + whole, tail, kPageBytes});
  }
  PERIGEE_FAILPOINT_STATUS(shard_before_write);
  Run(disk, ops, turns);
  PERIGEE_FAILPOINT(shard_after_write);
  Status outcome;
  for (IoOp& op : ops)
    if (!op.status.ok() && (outcome.ok() || outcome.Is(Code::kNoSpace))) outcome = op.status;
  return outcome;
}

Result<wire::ShardHeader> ReadRecord(Disk& disk, SegmentFile& segment, const ShardPlace& place,
                                     const wire::ShardReadRequest& request, Caching caching,
                                     BackgroundTurns* turns, const RecordRoom& room) {
  if (request.length > 0 && (request.offset > place.payload_bytes ||
                             request.length > place.payload_bytes - request.offset)) {
    return Status(Code::kInvalidArgument, "bytes " + std::to_string(request.offset) + "+" +
                                              std::to_string(request.length) + " of a shard of " +
                                              std::to_string(place.payload_bytes));
  }
  File* direct = nullptr;
  if (caching == Caching::kDirect && request.length >= kDirectBytesMin &&
      request.offset % kPageBytes == 0) {
    PERIGEE_ASSIGN(direct, segment.Direct());
  }
  MutableBytes to;
  if (request.length > 0) {
    uint64_t whole = direct != nullptr ? RoundUp(request.length, kPageBytes) : request.length;
    PERIGEE_ASSIGN(to, room(whole));
    if (!PageAligned(to.data()) || to.size() < whole) direct = nullptr;
  }
  PERIGEE_ASSIGN(File * buffered, segment.Buffered());
  File* file = direct != nullptr ? direct : buffered;

  AlignedBuffer page(kPageBytes);
  IoOp ops[2] = {{IoOp::Kind::kRead, file, place.offset, page.data(), kPageBytes},
                 {IoOp::Kind::kRead, file, place.offset + kPageBytes + request.offset, to.data(),
                  direct != nullptr ? RoundUp(request.length, kPageBytes) : request.length}};
  Run(disk, std::span(ops, request.length > 0 ? 2 : 1), turns);
  for (IoOp& op : std::span(ops, request.length > 0 ? 2 : 1)) {
    if (op.status.ok()) continue;
    ops[1].status.Ignore();
    return op.status.With(segment.path());
  }
  if (ops[0].done < kPageBytes || (request.length > 0 && ops[1].done < request.length))
    return Status(Code::kCorrupt, segment.path() + " is cut off");
  auto record = DecodeRecordHeader(page.span());
  if (!record.ok()) return record.status().With(segment.path());
  if (record->generation != place.generation || record->offset != place.offset ||
      record->shard.blob != request.blob || record->shard.index != request.index)
    return Status(Code::kNotFound, "the record is another shard's");
  return std::move(record->shard);
}

}  // namespace perigee::objectd
