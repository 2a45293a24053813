#pragma once
// What may be called what: names on the mount, buckets, S3 keys. Pure functions.

#include <string>
#include <string_view>

#include "base/status.h"
#include "rdma/wire/name.h"

namespace perigee::objectd {

using wire::IsNameable;  // whether the kernel can name a stored component (without its '/')
using wire::kNameBytesMax;
inline constexpr size_t kS3KeyBytesMax = 1024;
// Directories that a key may pass: one commit makes those that are missing, beside its content.
inline constexpr size_t kS3KeyLevelsMax = 100;

// A name that the mount makes: kInvalidArgument for "", ".", "..", '/' or NUL inside; kTooLarge
// over kNameBytesMax.
Status CheckName(std::string_view name);
// 3-63 lowercase letters, digits, dots and hyphens, by S3's rules for buckets (no adjacent dots, no
// IPv4 address, no "xn--" in front). kInvalidArgument.
Status CheckBucketName(std::string_view name);
// A key that S3 writes: 1..1024 bytes (kTooLarge), UTF-8 without NUL, at most kS3KeyLevelsMax
// slashes (kInvalidArgument).
Status CheckKey(std::string_view key);
// "a/" -> "a"
inline std::string_view NameOf(std::string_view component) {
  return component.ends_with('/') ? component.substr(0, component.size() - 1) : component;
}

}  // namespace perigee::objectd
