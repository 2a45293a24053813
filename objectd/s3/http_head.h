#pragma once
// The head of an HTTP/1 message as bytes: parsing requests (Beast's parser, its only use besides
// base's admin door) and writing response heads. Pure functions, thread-safe.

#include <string>
#include <string_view>

#include "base/status.h"
#include "objectd/s3/http.h"

namespace perigee::objectd::s3 {

inline constexpr size_t kRequestHeadBytesMax = 32 << 10;

// Bytes of the head including its empty line, or 0 when it is not complete yet. Empty lines before
// it are counted in.
size_t FindHeadEnd(std::string_view bytes);

// `bytes` is one complete head. kInvalidArgument: malformed; kUnimplemented: a transfer coding
// other than chunked.
Result<RequestHead> ParseHead(std::string_view bytes);

struct ResponseLines {                     // what the writer adds to the fields of a response
  std::optional<uint64_t> content_length;  // empty: no such field (204, 304)
  std::string_view date;
  std::string_view request_id = {};
  bool keep_alive = true;
};
// Appends status line and fields up to and with the empty line.
void AppendResponseHead(std::string* out, const ResponseHead& head, const ResponseLines& lines);

std::string_view ReasonPhrase(int status);

}  // namespace perigee::objectd::s3
