// Heads of HTTP requests, and what is read out of their fields: ranges, conditions, digests.

#include "objectd/s3/conditions.h"
#include "objectd/s3/http_head.h"
#include "objectd/s3/payload.h"
#include "tests/fuzz/input.h"

namespace {

using namespace perigee;
using namespace perigee::objectd::s3;

constexpr Nanos kModified = 1'700'000'000 * kSecond;

bool IsOneLine(std::string_view text) {
  return text.find_first_of("\r\n") == std::string_view::npos;
}

void CheckHead(const RequestHead& head) {
  PERIGEE_CHECK(!(head.chunked && head.content_length));
  PERIGEE_CHECK(IsOneLine(head.method) && IsOneLine(head.target));
  for (size_t i = 0; i < head.headers.size(); ++i) {
    Headers::Field f = head.headers.at(i);
    PERIGEE_CHECK(!f.name.empty() && f.name.find(':') == std::string_view::npos);
    PERIGEE_CHECK(IsOneLine(f.name) && IsOneLine(f.value));
  }
}

// Fields that come back in a response neither end it nor add to it.
void CheckEcho(const RequestHead& head) {
  ResponseHead response;
  for (size_t i = 0; i < head.headers.size(); ++i) {
    Headers::Field f = head.headers.at(i);
    response.headers.Add(f.name, f.value);
  }
  std::string out;
  AppendResponseHead(&out, response, {head.content_length, "now", "id", head.keep_alive});
  PERIGEE_CHECK(FindHeadEnd(out) == out.size());
}

void CheckRanges(const Headers& headers) {
  for (uint64_t size : {uint64_t{0}, uint64_t{1}, uint64_t{1000}, UINT64_MAX}) {
    std::optional<ByteRange> range;
    if (SelectRange(headers, size, "etag", kModified, &range).ok() && range)
      PERIGEE_CHECK(range->length > 0 && range->offset < size &&
                    range->length <= size - range->offset);
    ByteRange copy;
    if (ParseCopyRange(headers.Get("range"), size, &copy).ok())
      PERIGEE_CHECK(copy.length > 0 && copy.offset < size && copy.length <= size - copy.offset);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view bytes = AsView(ConstBytes(data, size));
  size_t end = FindHeadEnd(bytes);
  PERIGEE_CHECK(end <= size);
  if (end == 0) return 0;
  Result<RequestHead> head = ParseHead(bytes.substr(0, end));
  if (!head.ok()) return 0;
  CheckHead(*head);
  CheckEcho(*head);
  CheckRanges(head->headers);
  (void)CheckConditions(head->headers, ConditionSet::kRead, "etag", kModified).ok();
  (void)CheckConditions(head->headers, ConditionSet::kCopySource, "etag", kModified).ok();
  (void)WriteConditions(head->headers);
  Payload payload;
  if (Payload::Parse(*head, {}, Md5::kIfGiven, &payload).ok())
    (void)payload.Finish(head->headers).ok();
  return 0;
}
