#include "objectd/s3/checksums.h"

#include "base/checksum.h"
#include "objectd/s3/crc.h"

namespace perigee::objectd::s3 {

namespace {

struct Row {
  std::string_view header, name, element;
  size_t bytes;
};
constexpr Row kRows[] = {
    {"x-amz-checksum-crc32", "CRC32", "ChecksumCRC32", 4},
    {"x-amz-checksum-crc32c", "CRC32C", "ChecksumCRC32C", 4},
    {"x-amz-checksum-crc64nvme", "CRC64NVME", "ChecksumCRC64NVME", 8},
    {"x-amz-checksum-sha1", "SHA1", "ChecksumSHA1", 20},
    {"x-amz-checksum-sha256", "SHA256", "ChecksumSHA256", 32},
};
constexpr size_t kRowCount = sizeof kRows / sizeof kRows[0];

const Row& RowOf(ChecksumKind kind) { return kRows[static_cast<size_t>(kind)]; }

std::string BigEndian(uint64_t v, size_t bytes) {
  std::string out;
  for (size_t i = bytes; i-- > 0;) out.push_back(static_cast<char>(v >> (8 * i)));
  return out;
}

uint64_t FromBigEndian(std::string_view raw) {
  uint64_t v = 0;
  for (char c : raw) v = v << 8 | static_cast<uint8_t>(c);
  return v;
}

}  // namespace

std::string_view HeaderOf(ChecksumKind kind) { return RowOf(kind).header; }
std::string_view NameOf(ChecksumKind kind) { return RowOf(kind).name; }
std::string_view ElementOf(ChecksumKind kind) { return RowOf(kind).element; }
size_t BytesOf(ChecksumKind kind) { return RowOf(kind).bytes; }

std::optional<ChecksumKind> ChecksumOfHeader(std::string_view lower_header) {
  for (size_t i = 0; i < kRowCount; ++i) {
    if (kRows[i].header == lower_header) return static_cast<ChecksumKind>(i);
  }
  return std::nullopt;
}

std::optional<ChecksumKind> ChecksumOfName(std::string_view name) {
  for (size_t i = 0; i < kRowCount; ++i) {
    if (kRows[i].name == name) return static_cast<ChecksumKind>(i);
  }
  return std::nullopt;
}

Checksum::Checksum(ChecksumKind kind) : kind_(kind) {
  if (kind == ChecksumKind::kSha1) hasher_.emplace(HashKind::kSha1);
  if (kind == ChecksumKind::kSha256) hasher_.emplace(HashKind::kSha256);
}

void Checksum::Update(ConstBytes data) {
  switch (kind_) {
    case ChecksumKind::kCrc32:
      crc_ = Crc32Extend(static_cast<uint32_t>(crc_), data);
      break;
    case ChecksumKind::kCrc32c:
      crc_ = Crc32cExtend(static_cast<uint32_t>(crc_), data);
      break;
    case ChecksumKind::kCrc64Nvme:
      crc_ = Crc64NvmeExtend(crc_, data);
      break;
    case ChecksumKind::kSha1:
    case ChecksumKind::kSha256:
      hasher_->Update(data);
      break;
  }
}

std::string Checksum::Finish() {
  return hasher_ ? hasher_->Finish() : BigEndian(crc_, BytesOf(kind_));
}

std::string EncodeStored(const StoredChecksum& checksum) {
  return std::string(NameOf(checksum.kind)) + ":" + checksum.value;
}

std::optional<StoredChecksum> DecodeStored(std::string_view text) {
  size_t colon = text.find(':');
  if (colon == std::string_view::npos) return std::nullopt;
  auto kind = ChecksumOfName(text.substr(0, colon));
  if (!kind) return std::nullopt;
  std::string value(text.substr(colon + 1));
  bool composite = value.find('-') != std::string::npos;  // '-' is no digit of base64
  return StoredChecksum{*kind, std::move(value), composite};
}

std::string CompositeOf(ChecksumKind kind, const std::vector<PartChecksum>& parts) {
  Checksum all(kind);
  for (const PartChecksum& part : parts) all.Update(AsBytes(part.raw));
  return Base64Encode(all.Finish()) + "-" + std::to_string(parts.size());
}

std::optional<std::string> FullObjectOf(ChecksumKind kind, const std::vector<PartChecksum>& parts) {
  if (kind == ChecksumKind::kSha1 || kind == ChecksumKind::kSha256) return std::nullopt;
  uint64_t whole = 0;
  for (const PartChecksum& part : parts) {
    uint64_t next = FromBigEndian(part.raw);
    switch (kind) {
      case ChecksumKind::kCrc32:
        whole = Crc32Combine(static_cast<uint32_t>(whole), static_cast<uint32_t>(next), part.bytes);
        break;
      case ChecksumKind::kCrc32c:
        whole =
            Crc32cCombine(static_cast<uint32_t>(whole), static_cast<uint32_t>(next), part.bytes);
        break;
      default:
        whole = Crc64NvmeCombine(whole, next, part.bytes);
    }
  }
  return Base64Encode(BigEndian(whole, BytesOf(kind)));
}

}  // namespace perigee::objectd::s3
