// What a drive holds: superblock, segment pages, index rows, and the scan of a segment that a crash
// or a bad drive has left. Checksums are made right, so that what they protect is read as well.

#include <array>

#include "base/checksum.h"
#include "objectd/drive/segment_scan.h"
#include "objectd/drive/shard_index.h"
#include "objectd/drive/superblock.h"
#include "tests/fuzz/input.h"

namespace {

using namespace perigee;
using namespace perigee::objectd;

using Page = std::array<uint8_t, kPageBytes>;
const SegmentHeader kSegment{.drive_id = 1, .segment = 7, .generation = uint64_t{5} << 32};
constexpr size_t kPagesMax = 32;

enum class Repair : uint8_t { kNothing, kMagic, kAll };

// The input at the page's beginning, zeros behind; magic, version and checksum as `repair` says.
Page MakePage(std::string_view bytes, std::string_view magic, size_t crc_at, Repair repair) {
  Page page{};
  bytes.copy(reinterpret_cast<char*>(page.data()), page.size());
  if (repair == Repair::kNothing) return page;
  magic.copy(reinterpret_cast<char*>(page.data()), magic.size());
  PutLe<uint16_t>(page.data() + magic.size(), 1);
  if (repair == Repair::kMagic) return page;
  PutLe<uint32_t>(page.data() + crc_at, 0);
  PutLe<uint32_t>(page.data() + crc_at, Crc32c(page));
  return page;
}

void CheckSuperblock(fuzz::Input input) {
  const auto repair = static_cast<Repair>(input.Number<uint8_t>() % 3);
  const std::string_view bytes = input.Rest();
  (void)DecodeSuperblock(bytes).ok();
  const Page page = MakePage(bytes, "PGEESUPR", 12, repair);
  Result<Superblock> superblock = DecodeSuperblock(AsView(page));
  if (!superblock.ok()) return;
  Result<Superblock> again = DecodeSuperblock(EncodeSuperblock(*superblock));
  PERIGEE_CHECK(again.ok() && *again == *superblock);
}

void CheckRecord(const RecordHeader& record) {
  Page page;
  Status encoded = EncodeRecordHeader(record, page);
  if (!encoded.ok()) return;
  Result<RecordHeader> again = DecodeRecordHeader(page);
  PERIGEE_CHECK(again.ok());
  PERIGEE_CHECK(again->offset == record.offset && again->payload_bytes == record.payload_bytes);
  PERIGEE_CHECK(wire::Encode(again->shard) == wire::Encode(record.shard));
  PERIGEE_CHECK(record.record_bytes() >= kPageBytes + record.payload_bytes);
}

void CheckPages(fuzz::Input input) {
  const auto repair = static_cast<Repair>(input.Number<uint8_t>() % 3);
  const std::string_view bytes = input.Rest();
  if (auto header = DecodeSegmentHeader(MakePage(bytes, "PSEG", 8, repair)); header.ok()) {
    Page page;
    EncodeSegmentHeader(*header, page);
    Result<SegmentHeader> again = DecodeSegmentHeader(page);
    PERIGEE_CHECK(again.ok() && *again == *header);
  }
  (void)DecodeSegmentFooter(MakePage(bytes, "PSGE", 8, repair), kSegment).ok();
  if (auto record = DecodeRecordHeader(MakePage(bytes, "PSHD", 8, repair)); record.ok()) {
    CheckRecord(*record);
    const size_t payload_bytes = std::min<size_t>(record->payload_bytes, kPageBytes);
    (void)CheckPayload(*record, AsBytes(bytes.substr(0, payload_bytes))).ok();
    // As the scan does it: exactly as many bytes as announced.
    if (record->payload_bytes <= kPageBytes)
      (void)CheckPayload(*record, ConstBytes(Page{}).first(record->payload_bytes)).ok();
  }
}

// A segment made of good records, good pages in wrong places, and garbage.
std::string MakeSegment(fuzz::Input& input) {
  Page page;
  EncodeSegmentHeader(kSegment, page);
  std::string bytes(AsView(page));
  while (!input.empty() && bytes.size() < kPagesMax * kPageBytes) {
    const uint8_t kind = input.Number<uint8_t>() % 4;
    std::string payload;
    if (kind == 0) {
      page = MakePage(input.Text(), "", 0, Repair::kNothing);
    } else if (kind == 1) {
      page = MakePage(input.Text(), "PSHD", 8, Repair::kAll);
    } else if (kind == 2) {
      EncodeSegmentFooter(kSegment, input.Number<uint32_t>() % 16 * kPageBytes, page);
    } else {
      payload = input.Text();
      RecordHeader record{.generation = kSegment.generation,
                          .segment = kSegment.segment,
                          .offset = bytes.size(),
                          .record_seq = input.Number<uint8_t>(),
                          .payload_bytes = static_cast<uint32_t>(payload.size()),
                          .has_payload_crc = true,
                          .payload_crc = Crc32c(AsBytes(payload))};
      // Some announce more than there is, or something else.
      if (input.Number<uint8_t>() == 0xff) record.payload_bytes = input.Number<uint32_t>();
      PERIGEE_CHECK(EncodeRecordHeader(record, page).ok());
      payload.resize(RoundUp(payload.size(), kPageBytes));
    }
    bytes.append(AsView(page)).append(payload);
  }
  return bytes;
}

void CheckScan(fuzz::Input input) {
  const uint64_t from = kPageBytes * (1 + input.Number<uint8_t>() % 4);
  const uint16_t cut = input.Number<uint8_t>() == 0xff ? input.Number<uint16_t>() : 0;
  std::string bytes = MakeSegment(input);
  bytes.resize(bytes.size() - std::min<size_t>(cut, bytes.size()));
  auto disk = MemDisk::Create();
  auto file = disk->Open("/segment", OpenMode::kCreate);
  PERIGEE_CHECK(file.ok() && (*file)->WriteAt(0, AsBytes(bytes)).ok());
  uint64_t behind = from, visits = 0;
  auto result = ScanSegment(**file, kSegment, from, [&](const RecordHeader& record) {
    PERIGEE_CHECK(record.offset >= behind && record.offset % kPageBytes == 0);
    behind = record.offset + record.record_bytes();
    PERIGEE_CHECK(behind <= bytes.size());
    ++visits;
    return Status::Ok();
  });
  if (!result.ok()) return;
  PERIGEE_CHECK(result->records == visits && result->end <= bytes.size());
  if (!result->has_footer) PERIGEE_CHECK(visits == 0 || result->end == behind);
}

void CheckIndex(fuzz::Input input) {
  const std::string_view bytes = input.Rest();
  if (auto key = DecodeShardKey(bytes); key.ok()) PERIGEE_CHECK(EncodeShardKey(*key) == bytes);
  if (auto place = DecodeShardPlace(bytes); place.ok())
    PERIGEE_CHECK(EncodeShardPlace(*place) == bytes);
  if (auto mark = DecodeSegmentMark(7, bytes); mark.ok())
    PERIGEE_CHECK(EncodeSegmentMark(*mark) == bytes);
  if (auto segment = ParseSegmentFileName(bytes); segment.ok()) {
    auto again = ParseSegmentFileName(SegmentFileName(*segment));
    PERIGEE_CHECK(again.ok() && *again == *segment);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::Input input(data, size);
  constexpr void (*kChecks[])(fuzz::Input) = {CheckSuperblock, CheckPages, CheckScan, CheckIndex};
  kChecks[input.Number<uint8_t>() % std::size(kChecks)](input);
  return 0;
}
