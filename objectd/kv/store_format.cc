#include "objectd/kv/store_format.h"

#include "base/bytes.h"
#include "base/checksum.h"
#include "objectd/kv/key_space.h"

namespace perigee::objectd::kv {
namespace {

constexpr std::string_view kMagic = "PKVS";
constexpr size_t kFormatBytes = 4 + 4 + kStoreIdBytes + 4;
constexpr size_t kHeadBytes = 24;

std::string OwnKey(char tag) { return {static_cast<char>(KeySpace::kStore), '\0', tag}; }

template <class T>
void Append(std::string* s, T value) {
  s->append(reinterpret_cast<const char*>(&value), sizeof value);
}

template <class T>
T At(std::string_view bytes, size_t offset) {
  return GetLe<T>(AsBytes(bytes).data() + offset);
}

Status Corrupt(std::string_view what) {
  return Status(Code::kCorrupt, "the store's " + std::string(what) + " record is damaged");
}

}  // namespace

std::string EncodeFormat(const FormatRecord& record) {
  PERIGEE_CHECK(record.store_id.size() == kStoreIdBytes);
  std::string out(kMagic);
  Append<uint32_t>(&out, record.version);
  out += record.store_id;
  Append<uint32_t>(&out, Crc32c(AsBytes(out)));
  return out;
}

Result<FormatRecord> DecodeFormat(std::string_view bytes) {
  if (bytes.size() < kFormatBytes || bytes.substr(0, 4) != kMagic) return Corrupt("format");
  FormatRecord record;
  record.version = At<uint32_t>(bytes, 4);
  if (record.version > kFormatVersion) {
    return Status(Code::kUnimplemented, "the store has format " + std::to_string(record.version) +
                                            ", this version reads up to " +
                                            std::to_string(kFormatVersion));
  }
  if (bytes.size() != kFormatBytes) return Corrupt("format");
  if (Crc32c(AsBytes(bytes.substr(0, kFormatBytes - 4))) != At<uint32_t>(bytes, kFormatBytes - 4)) {
    return Corrupt("format");
  }
  record.store_id = bytes.substr(8, kStoreIdBytes);
  return record;
}

std::string EncodeHead(const Head& head) {
  std::string out;
  Append<uint64_t>(&out, head.position);
  Append<uint64_t>(&out, head.previous);
  Append<uint64_t>(&out, head.events_total);
  return out;
}

Result<Head> DecodeHead(std::string_view bytes) {
  if (bytes.size() != kHeadBytes) return Corrupt("head");
  return Head{At<uint64_t>(bytes, 0), At<uint64_t>(bytes, 8), At<uint64_t>(bytes, 16)};
}

std::string EncodeU64(uint64_t value) {
  std::string out;
  Append<uint64_t>(&out, value);
  return out;
}

Result<uint64_t> DecodeU64(std::string_view bytes) {
  if (bytes.size() != sizeof(uint64_t)) return Corrupt("feed");
  return At<uint64_t>(bytes, 0);
}

std::string FormatKey() { return OwnKey('f'); }
std::string HeadKey() { return OwnKey('h'); }
std::string LowWaterKey() { return OwnKey('l'); }

std::string MarkKey(Position position) {
  std::string key = OwnKey('m');
  AppendBe64(&key, position);
  return key;
}

std::string GapKey(Position last) {
  std::string key = OwnKey('g');
  AppendBe64(&key, last);
  return key;
}

std::string EventKey(Position position, uint32_t index) {
  std::string key(1, static_cast<char>(KeySpace::kFeed));
  AppendBe64(&key, position);
  AppendBe32(&key, index);
  return key;
}

Result<Position> PositionOfKey(std::string_view key) {
  bool event = !key.empty() && key[0] == static_cast<char>(KeySpace::kFeed);
  size_t at = event ? 1 : 3;
  if (key.size() != at + 8 + (event ? 4 : 0)) return Corrupt("feed");
  return GetBe64(key.substr(at));
}

Range MarkRange() { return PrefixRange(OwnKey('m')); }
Range GapRange() { return PrefixRange(OwnKey('g')); }

}  // namespace perigee::objectd::kv
