#include "objectd/s3/continuation_token.h"

#include "base/checksum.h"
#include "base/crypto.h"

namespace perigee::objectd::s3 {

// base64 of:  u8 version = 1 | u32 little-endian crc32c of the rest | the last key or common prefix
// of the page before
namespace {

constexpr char kVersion = 1;
constexpr size_t kHeaderBytes = 5;

}  // namespace

std::string EncodeContinuationToken(std::string_view after) {
  std::string raw(kHeaderBytes, kVersion);
  PutLe(reinterpret_cast<uint8_t*>(raw.data()) + 1, Crc32c(AsBytes(after)));
  raw.append(after);
  return Base64Encode(raw);
}

std::optional<std::string> DecodeContinuationToken(std::string_view token) {
  auto raw = Base64Decode(token);
  if (!raw || raw->size() < kHeaderBytes || (*raw)[0] != kVersion) return std::nullopt;
  std::string after = raw->substr(kHeaderBytes);
  if (GetLe<uint32_t>(reinterpret_cast<const uint8_t*>(raw->data()) + 1) != Crc32c(AsBytes(after)))
    return std::nullopt;
  return after;
}

}  // namespace perigee::objectd::s3
