// Small values that come as text: request targets, escapes, tokens, dates, numbers, tags, names.

#include "base/crypto.h"
#include "base/options.h"
#include "base/utf8.h"
#include "objectd/meta/names.h"
#include "objectd/s3/checksums.h"
#include "objectd/s3/conditions.h"
#include "objectd/s3/continuation_token.h"
#include "objectd/s3/time_format.h"
#include "objectd/s3/uri.h"
#include "tests/fuzz/input.h"

namespace {

using namespace perigee;
using namespace perigee::objectd::s3;

void CheckEscapes(std::string_view text) {
  for (Slash slash : {Slash::kKeep, Slash::kEncode}) {
    std::string encoded = UriEncode(text, slash);
    PERIGEE_CHECK(encoded.size() <= 3 * text.size());
    PERIGEE_CHECK(UriDecode(encoded, Plus::kLiteral) == text);
    PERIGEE_CHECK(UriDecode(encoded, Plus::kSpace) == text);
  }
  if (auto decoded = UriDecode(text, Plus::kSpace)) PERIGEE_CHECK(decoded->size() <= text.size());
}

void CheckTarget(std::string_view text) {
  Result<Target> target = ParseTarget(text);
  if (!target.ok()) return;
  PERIGEE_CHECK(IsUtf8(target->path) && IsUtf8(target->bucket) && IsUtf8(target->key));
  PERIGEE_CHECK(target->bucket.find('/') == std::string::npos);
  std::string path = "/" + target->bucket;
  if (target->path != path) path += "/" + target->key;
  PERIGEE_CHECK(target->path == path);
  for (const auto& [name, value] : target->query.all())
    PERIGEE_CHECK(target->query.Has(name) && name.size() + value.size() <= text.size());
}

void CheckToken(std::string_view text) {
  PERIGEE_CHECK(DecodeContinuationToken(EncodeContinuationToken(text)) == text);
  if (auto after = DecodeContinuationToken(text))
    PERIGEE_CHECK(EncodeContinuationToken(*after) == text);
  PERIGEE_CHECK(Base64Decode(Base64Encode(text)) == text);
}

void CheckTimes(std::string_view text) {
  if (auto at = ParseAmzDate(text)) {
    PERIGEE_CHECK(*at % kSecond == 0 && ParseAmzDate(FormatAmzDate(*at)) == at);
    PERIGEE_CHECK(ParseHttpDate(FormatHttpDate(*at)) == at);
  }
  if (auto at = ParseHttpDate(text)) PERIGEE_CHECK(ParseHttpDate(FormatHttpDate(*at)) == at);
}

void CheckValues(std::string_view text) {
  if (auto number = ParseDecimal(text)) PERIGEE_CHECK(text.ends_with(std::to_string(*number)));
  if (auto stored = DecodeStored(text)) PERIGEE_CHECK(EncodeStored(*stored) == text);
  (void)ETagMatches(text, "etag");
  if (auto at = ParseHostPort(std::string(text)); at.ok())
    PERIGEE_CHECK(at->host.size() < text.size());
  if (objectd::CheckBucketName(text).ok()) PERIGEE_CHECK(text.size() >= 3 && text.size() <= 63);
  if (objectd::CheckKey(text).ok())
    PERIGEE_CHECK(IsUtf8(text) && text.size() <= objectd::kS3KeyBytesMax);
  if (objectd::CheckName(text).ok()) PERIGEE_CHECK(objectd::IsNameable(text));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view text = AsView(ConstBytes(data, size));
  CheckEscapes(text);
  CheckTarget(text);
  CheckToken(text);
  CheckTimes(text);
  CheckValues(text);
  return 0;
}
