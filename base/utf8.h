#pragma once
// UTF-8, for text that comes from outside: S3 keys, and paths that go into JSON. Pure functions.
// Source: RFC 3629.

#include <string_view>

namespace perigee {

// Well-formed: no overlong form, no surrogate, nothing beyond U+10FFFF. "" is.
bool IsUtf8(std::string_view text);

}  // namespace perigee
