#pragma once
// Conditional requests and ranges, as pure functions of headers and a version (RFC 9110 sections 13
// and 14, with S3's precedence: If-Match beats If-Unmodified-Since, If-None-Match beats
// If-Modified-Since).

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "objectd/meta/namespace.h"
#include "objectd/s3/errors.h"
#include "objectd/s3/http.h"

namespace perigee::objectd::s3 {

// "*", or a list of tags with or without quotes and W/.
bool ETagMatches(std::string_view list, std::string_view etag);

// The four headers of GET and HEAD; with prefix "x-amz-copy-source-" those of a copy's source,
// where not modified is PreconditionFailed too. Times compare in whole seconds; a date that cannot
// be read is no condition.
enum class ConditionSet { kRead, kCopySource };
Outcome CheckConditions(const Headers& headers, ConditionSet set, std::string_view etag,
                        Nanos modified);

// If-Match and If-None-Match of PUT, Copy and Complete, for the namespace to check in its commit.
Preconditions WriteConditions(const Headers& headers);

struct ByteRange {
  uint64_t offset = 0;
  uint64_t length = 0;
};
// Nothing when the whole object is to be sent: no Range, one we do not understand, several ranges,
// or If-Range that does not hold. kInvalidRange when it lies outside.
Outcome SelectRange(const Headers& headers, uint64_t size, std::string_view etag, Nanos modified,
                    std::optional<ByteRange>* out);
// "bytes=first-last", both present and inside: of x-amz-copy-source-range.
Outcome ParseCopyRange(std::string_view text, uint64_t size, ByteRange* out);

}  // namespace perigee::objectd::s3
