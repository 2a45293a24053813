#pragma once
// The continuation token of ListObjectsV2: where the next page begins, opaque to clients.
// Format: docs/formats/continuation-token.md. Pure functions.

#include <optional>
#include <string>
#include <string_view>

namespace perigee::objectd::s3 {

std::string EncodeContinuationToken(std::string_view after);
// Nothing for what EncodeContinuationToken has not made.
std::optional<std::string> DecodeContinuationToken(std::string_view token);

}  // namespace perigee::objectd::s3
