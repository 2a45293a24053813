#pragma once
// The x-amz-checksum-* family: crc32, crc32c, crc64nvme, sha1 and sha256, and how a version's
// checksum is kept in its record: "CRC32C:<base64>" for one of the whole content,
// "CRC32C:<base64>-<parts>" for one over the parts' checksums. Source:
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html A Checksum
// belongs to one thread; the rest are pure functions.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/crypto.h"

namespace perigee::objectd::s3 {

enum class ChecksumKind { kCrc32, kCrc32c, kCrc64Nvme, kSha1, kSha256 };

std::string_view HeaderOf(ChecksumKind kind);   // "x-amz-checksum-crc32c"
std::string_view NameOf(ChecksumKind kind);     // "CRC32C", as in x-amz-checksum-algorithm
std::string_view ElementOf(ChecksumKind kind);  // "ChecksumCRC32C", in XML
std::optional<ChecksumKind> ChecksumOfHeader(std::string_view lower_header);
std::optional<ChecksumKind> ChecksumOfName(std::string_view name);
size_t BytesOf(ChecksumKind kind);

class Checksum {
 public:
  explicit Checksum(ChecksumKind kind);
  ChecksumKind kind() const { return kind_; }
  void Update(ConstBytes data);
  std::string Finish();  // raw, CRCs big-endian

 private:
  ChecksumKind kind_;
  uint64_t crc_ = 0;
  std::optional<Hasher> hasher_;
};

struct StoredChecksum {
  ChecksumKind kind;
  std::string value;  // base64, with "-<parts>" when composite
  bool composite = false;
};
std::string EncodeStored(const StoredChecksum& checksum);
std::optional<StoredChecksum> DecodeStored(std::string_view text);

struct PartChecksum {
  std::string raw;
  uint64_t bytes = 0;
};
// Over the concatenation of the parts' raw checksums, with "-<parts>".
std::string CompositeOf(ChecksumKind kind, const std::vector<PartChecksum>& parts);
// Of the whole content, in base64; nothing for the SHA kinds, which cannot be joined.
std::optional<std::string> FullObjectOf(ChecksumKind kind, const std::vector<PartChecksum>& parts);

}  // namespace perigee::objectd::s3
