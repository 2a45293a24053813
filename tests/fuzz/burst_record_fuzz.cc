// The burst buffer's journal: records and checksums as stored, and the burst file that a start
// makes of a record. The checksum is made right, so that what it protects is read as well.

#include "base/checksum.h"
#include "bufferd/burst_file.h"
#include "bufferd/burst_record.h"
#include "bufferd/name_op.h"
#include "tests/fuzz/input.h"

namespace {

using namespace perigee;
using namespace perigee::bufferd;

std::string Framed(std::string_view magic, std::string_view body) {
  std::string out(magic);
  const uint32_t crc = Crc32c(AsBytes(body));
  out.append(reinterpret_cast<const char*>(&crc), sizeof crc);
  return out.append(body);
}

void CheckFile(const BurstRecord& record) {
  BurstFile file(record, std::make_shared<std::atomic<uint64_t>>(0));
  std::lock_guard lock(file.mu);
  (void)file.Whole();
  (void)file.Settled();
  (void)file.Flushable();
  std::string why;
  PERIGEE_CHECK(file.Evictable(&why) || !why.empty());
  (void)file.Describe();
  uint64_t behind = 0;
  for (const ByteRange& range : file.residency.Find({0, UINT64_MAX}, RangeState::kResident)) {
    PERIGEE_CHECK(range.begin < range.end && range.begin >= behind);
    PERIGEE_CHECK(file.residency.Readable(range));
    behind = range.end;
  }
  auto stored = DecodeRecord(EncodeRecord(file.ToStore()));
  PERIGEE_CHECK(stored.ok());
  for (uint64_t at : stored->resident) PERIGEE_CHECK(at <= record.size);
}

void CheckRecord(std::string_view stored) {
  auto record = DecodeRecord(stored);
  if (!record.ok()) return;
  const std::string encoded = EncodeRecord(*record);
  auto again = DecodeRecord(encoded);
  PERIGEE_CHECK(again.ok() && EncodeRecord(*again) == encoded);
  CheckFile(*record);
}

void CheckCrcs(std::string_view stored) {
  auto crcs = DecodeCrcs(stored);
  if (!crcs.ok()) return;
  // Readers look checksums up by offset, for any offset inside the file.
  PERIGEE_CHECK(crcs->size == 0 || (crcs->size - 1) / kCrcBlockBytes < crcs->crcs.size());
  PERIGEE_CHECK(DecodeCrcs(EncodeCrcs(*crcs)).ok());
}

void CheckOp(std::string_view stored) {
  auto op = DecodeOp(stored);
  if (!op.ok()) return;
  const std::string encoded = EncodeOp(*op);
  auto again = DecodeOp(encoded);
  PERIGEE_CHECK(again.ok() && EncodeOp(*again) == encoded);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::Input input(data, size);
  const uint8_t kind = input.Number<uint8_t>() % 4;
  const std::string_view bytes = input.Rest();
  if (kind == 0) {
    CheckRecord(bytes);
    CheckCrcs(bytes);
    CheckOp(bytes);
  } else if (kind == 1) {
    CheckRecord(Framed("PBR1", bytes));
  } else if (kind == 2) {
    CheckCrcs(Framed("PBC1", bytes));
  } else {
    CheckOp(Framed("PBN1", bytes));
  }
  return 0;
}
