#include "objectd/meta/names.h"

#include <algorithm>
#include <cstdint>

#include "base/utf8.h"

namespace perigee::objectd {
namespace {

bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsLowerOrDigit(char c) { return (c >= 'a' && c <= 'z') || IsDigit(c); }

bool LooksLikeAddress(std::string_view name) {
  return std::count(name.begin(), name.end(), '.') == 3 &&
         std::all_of(name.begin(), name.end(), [](char c) { return c == '.' || IsDigit(c); });
}

}  // namespace

Status CheckName(std::string_view name) {
  if (name.size() > kNameBytesMax)
    return Status(Code::kTooLarge, "a name is longer than 255 bytes");
  if (!IsNameable(name))
    return Status(Code::kInvalidArgument, "'" + std::string(name) + "' is not a file name");
  return Status::Ok();
}

Status CheckBucketName(std::string_view name) {
  const bool good = name.size() >= 3 && name.size() <= 63 && IsLowerOrDigit(name.front()) &&
                    IsLowerOrDigit(name.back()) &&
                    std::all_of(name.begin(), name.end(),
                                [](char c) { return IsLowerOrDigit(c) || c == '.' || c == '-'; }) &&
                    name.find("..") == std::string_view::npos && !LooksLikeAddress(name) &&
                    !name.starts_with("xn--");
  if (good) return Status::Ok();
  return Status(Code::kInvalidArgument,
                "'" + std::string(name) +
                    "' is not a bucket name: 3 to 63 lowercase letters, digits, dots and hyphens");
}

Status CheckKey(std::string_view key) {
  if (key.size() > kS3KeyBytesMax)
    return Status(Code::kTooLarge, "KeyTooLong: a key is longer than 1024 bytes");
  if (key.empty() || key.find('\0') != std::string_view::npos || !IsUtf8(key)) {
    return Status(Code::kInvalidArgument, "a key is 1 to 1024 bytes of UTF-8 without NUL");
  }
  if (std::count(key.begin(), key.end(), '/') > static_cast<ptrdiff_t>(kS3KeyLevelsMax)) {
    return Status(Code::kInvalidArgument,
                  "a key has at most " + std::to_string(kS3KeyLevelsMax) + " slashes");
  }
  return Status::Ok();
}

}  // namespace perigee::objectd
