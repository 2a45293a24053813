#include "objectd/drive/segment.h"

#include <algorithm>
#include <charconv>

#include "base/checksum.h"

// Pages, little-endian; crc32c covers the page with the crc field zero:
//   all      0 magic 4 bytes   4 version u16 = 1   6 flags u16   8 crc32c u32   12 message_bytes
//   u32   16 generation u64 header  "PSEG": 24 segment u32   28 zero u32   32 drive_id u64 footer
//   "PSGE": 24 segment u32   28 zero u32   32 end u64 (of the records, which is where the footer
//   lies) record  "PSHD": 24 segment u32   28 payload_bytes u32   32 offset u64   40 record_seq u64
//   48 payload_crc u32
//                   52 zero u32      56 message: wire::ShardHeader
//           flags bit 0: payload_crc is set

namespace perigee::objectd {
namespace {

constexpr uint16_t kVersion = 1;
constexpr uint16_t kFlagPayloadCrc = 1;
constexpr size_t kMessageAt = 56;

void Begin(MutableBytes page, const char* magic, uint64_t generation, uint32_t segment) {
  PERIGEE_CHECK(page.size() == kPageBytes);
  std::memset(page.data(), 0, kPageBytes);
  std::memcpy(page.data(), magic, 4);
  PutLe<uint16_t>(page.data() + 4, kVersion);
  PutLe<uint64_t>(page.data() + 16, generation);
  PutLe<uint32_t>(page.data() + 24, segment);
}

void Seal(MutableBytes page) { PutLe<uint32_t>(page.data() + 8, Crc32c(page)); }

uint32_t PageCrc(ConstBytes page) {
  static constexpr uint8_t kZeros[4] = {};
  uint32_t crc = Crc32c(page.subspan(0, 8));
  crc = Crc32cExtend(crc, kZeros);
  return Crc32cExtend(crc, page.subspan(12));
}

Status CheckPage(ConstBytes page, const char* magic, const char* what) {
  PERIGEE_CHECK(page.size() == kPageBytes);
  if (std::memcmp(page.data(), magic, 4) != 0)
    return Status(Code::kCorrupt, std::string("not a ") + what);
  if (GetLe<uint32_t>(page.data() + 8) != PageCrc(page))
    return Status(Code::kCorrupt, std::string("the ") + what + " fails its checksum");
  if (uint16_t version = GetLe<uint16_t>(page.data() + 4); version != kVersion) {
    return Status(Code::kUnimplemented, std::string(what) + " format " + std::to_string(version) +
                                            "; this build knows " + std::to_string(kVersion));
  }
  return Status::Ok();
}

bool AllZero(ConstBytes page) {
  return std::all_of(page.begin(), page.end(), [](uint8_t b) { return b == 0; });
}

}  // namespace

void EncodeSegmentHeader(const SegmentHeader& header, MutableBytes page) {
  Begin(page, "PSEG", header.generation, header.segment);
  PutLe<uint64_t>(page.data() + 32, header.drive_id);
  Seal(page);
}

Result<SegmentHeader> DecodeSegmentHeader(ConstBytes page) {
  PERIGEE_TRY(CheckPage(page, "PSEG", "segment header"));
  SegmentHeader header;
  header.generation = GetLe<uint64_t>(page.data() + 16);
  header.segment = GetLe<uint32_t>(page.data() + 24);
  header.drive_id = GetLe<uint64_t>(page.data() + 32);
  return header;
}

Status EncodeRecordHeader(const RecordHeader& header, MutableBytes page) {
  std::string message = wire::Encode(header.shard);
  if (message.size() > kPageBytes - kMessageAt)
    return Status(Code::kInvalidArgument, "the shard's header has too many chunks: " +
                                              std::to_string(message.size()) + " bytes");
  Begin(page, "PSHD", header.generation, header.segment);
  uint8_t* p = page.data();
  PutLe<uint16_t>(p + 6, header.has_payload_crc ? kFlagPayloadCrc : 0);
  PutLe<uint32_t>(p + 12, static_cast<uint32_t>(message.size()));
  PutLe<uint32_t>(p + 28, header.payload_bytes);
  PutLe<uint64_t>(p + 32, header.offset);
  PutLe<uint64_t>(p + 40, header.record_seq);
  PutLe<uint32_t>(p + 48, header.payload_crc);
  std::memcpy(p + kMessageAt, message.data(), message.size());
  Seal(page);
  return Status::Ok();
}

Result<RecordHeader> DecodeRecordHeader(ConstBytes page) {
  if (GetLe<uint32_t>(page.data()) == 0 && AllZero(page))
    return Status(Code::kNotFound, "no record here");
  PERIGEE_TRY(CheckPage(page, "PSHD", "record header"));
  const uint8_t* p = page.data();
  uint32_t message_bytes = GetLe<uint32_t>(p + 12);
  if (message_bytes > kPageBytes - kMessageAt)
    return Status(Code::kCorrupt, "the record header is too long");
  RecordHeader header;
  header.has_payload_crc = (GetLe<uint16_t>(p + 6) & kFlagPayloadCrc) != 0;
  header.generation = GetLe<uint64_t>(p + 16);
  header.segment = GetLe<uint32_t>(p + 24);
  header.payload_bytes = GetLe<uint32_t>(p + 28);
  header.offset = GetLe<uint64_t>(p + 32);
  header.record_seq = GetLe<uint64_t>(p + 40);
  header.payload_crc = GetLe<uint32_t>(p + 48);
  PERIGEE_ASSIGN(header.shard,
                 wire::Decode<wire::ShardHeader>(AsView(page.subspan(kMessageAt, message_bytes))));
  return header;
}

void EncodeSegmentFooter(const SegmentHeader& header, uint64_t end, MutableBytes page) {
  Begin(page, "PSGE", header.generation, header.segment);
  PutLe<uint64_t>(page.data() + 32, end);
  Seal(page);
}

Result<uint64_t> DecodeSegmentFooter(ConstBytes page, const SegmentHeader& header) {
  PERIGEE_TRY(CheckPage(page, "PSGE", "segment footer"));
  if (GetLe<uint64_t>(page.data() + 16) != header.generation ||
      GetLe<uint32_t>(page.data() + 24) != header.segment)
    return Status(Code::kCorrupt, "the segment footer is of another generation");
  return GetLe<uint64_t>(page.data() + 32);
}

bool ChunksCover(const wire::ShardHeader& shard, uint64_t payload_bytes) {
  if (payload_bytes == 0) return shard.chunk_crcs.empty();
  if (shard.chunk_bytes == 0) return false;
  return shard.chunk_crcs.size() == (payload_bytes + shard.chunk_bytes - 1) / shard.chunk_bytes;
}

Status CheckPayload(const RecordHeader& header, ConstBytes payload) {
  if (payload.size() != header.payload_bytes)
    return Status(Code::kCorrupt, "the payload is cut off");
  if (header.has_payload_crc) {
    if (Crc32c(payload) == header.payload_crc) return Status::Ok();
    return Status(Code::kCorrupt, "the payload fails its checksum");
  }
  if (!ChunksCover(header.shard, payload.size()))
    return Status(Code::kCorrupt, "the payload has no checksum");
  uint64_t chunk_bytes = header.shard.chunk_bytes, at = 0;
  for (uint32_t crc : header.shard.chunk_crcs) {
    uint64_t bytes = std::min<uint64_t>(chunk_bytes, payload.size() - at);
    if (Crc32c(payload.subspan(at, bytes)) != crc)
      return Status(Code::kCorrupt, "a chunk fails its checksum");
    at += bytes;
  }
  return Status::Ok();
}

std::string SegmentFileName(uint32_t segment) { return HexEncode64(segment).substr(8) + ".seg"; }

Result<uint32_t> ParseSegmentFileName(std::string_view name) {
  uint32_t segment = 0;
  if (name.size() == 12 && name.substr(8) == ".seg") {
    auto [end, error] = std::from_chars(name.data(), name.data() + 8, segment, 16);
    if (error == std::errc() && end == name.data() + 8) return segment;
  }
  return Status(Code::kInvalidArgument, "not a segment's name: " + std::string(name));
}

}  // namespace perigee::objectd
