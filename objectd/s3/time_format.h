#pragma once
// The three spellings of time in S3: RFC 9110 dates (Last-Modified, If-Modified-Since), ISO 8601
// with milliseconds (XML) and basic ISO 8601 (x-amz-date). UTC only. Pure functions; instants are
// ns since 1970.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/clock.h"

namespace perigee::objectd::s3 {

std::string FormatHttpDate(Nanos wall);   // "Fri, 24 May 2013 00:00:00 GMT"
std::string FormatIsoMillis(Nanos wall);  // "2013-05-24T00:00:00.000Z"
std::string FormatAmzDate(Nanos wall);    // "20130524T000000Z"
std::optional<Nanos> ParseHttpDate(
    std::string_view text);                                // IMF-fixdate, RFC 850 and asctime forms
std::optional<Nanos> ParseAmzDate(std::string_view text);  // "20130524T000000Z"

}  // namespace perigee::objectd::s3
