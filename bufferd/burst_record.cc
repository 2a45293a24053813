#include "bufferd/burst_record.h"

#include "base/checksum.h"

namespace perigee::bufferd {
namespace {

constexpr std::string_view kRecordMagic = "PBR1";
constexpr std::string_view kCrcsMagic = "PBC1";
constexpr size_t kFrameBytes = 8;

std::string Frame(std::string_view magic, const std::string& body) {
  std::string out(magic);
  uint32_t crc = Crc32c(AsBytes(body));
  out.append(reinterpret_cast<const char*>(&crc), sizeof crc);
  return out + body;
}

Result<std::string_view> Unframe(std::string_view magic, std::string_view stored) {
  if (stored.size() < kFrameBytes) return Status(Code::kCorrupt, "burst record is truncated");
  if (stored.substr(0, 3) != magic.substr(0, 3))
    return Status(Code::kCorrupt, "burst record has a foreign magic");
  if (stored[3] != magic[3]) {
    return Status(Code::kUnimplemented, "burst record of format '" +
                                            std::string(stored.substr(0, 4)) +
                                            "' is newer than this build");
  }
  std::string_view body = stored.substr(kFrameBytes);
  if (GetLe<uint32_t>(AsBytes(stored).data() + 4) != Crc32c(AsBytes(body))) {
    return Status(Code::kCorrupt, "burst record fails its checksum");
  }
  return body;
}

}  // namespace

std::string EncodeRecord(const BurstRecord& record) {
  return Frame(kRecordMagic, wire::Encode(record));
}

Result<BurstRecord> DecodeRecord(std::string_view stored) {
  PERIGEE_ASSIGN(std::string_view body, Unframe(kRecordMagic, stored));
  PERIGEE_ASSIGN(BurstRecord record, wire::Decode<BurstRecord>(body));
  if (record.burst == 0 || record.resident.size() % 2 != 0)
    return Status(Code::kCorrupt, "burst record makes no sense");
  return record;
}

std::string EncodeCrcs(const BurstCrcs& crcs) { return Frame(kCrcsMagic, wire::Encode(crcs)); }

Result<BurstCrcs> DecodeCrcs(std::string_view stored) {
  PERIGEE_ASSIGN(std::string_view body, Unframe(kCrcsMagic, stored));
  PERIGEE_ASSIGN(BurstCrcs crcs, wire::Decode<BurstCrcs>(body));
  // Rounding up by a sum would wrap for sizes near 2^64, which no checksum would then cover.
  if (crcs.crcs.size() != crcs.size / kCrcBlockBytes + (crcs.size % kCrcBlockBytes != 0)) {
    return Status(Code::kCorrupt, "burst checksums do not cover their file");
  }
  return crcs;
}

}  // namespace perigee::bufferd
