// Signatures: heads as they come, and requests that the target signs itself, by header and by
// query. What is signed with the key is accepted, and nothing else is.

#include "objectd/s3/http_head.h"
#include "objectd/s3/sigv4.h"
#include "objectd/s3/time_format.h"
#include "tests/fuzz/input.h"
#include "tests/objectd/s3/memory_http.h"

namespace {

using namespace perigee;
using namespace perigee::objectd::s3;

const Credentials kOurs{"root", "secret", "us-east-1"};
const Credentials kOthers{"root", "secreT", "us-east-1"};

size_t BytesOf(const Error& error) {
  size_t bytes = error.message.size();
  for (const auto& [name, value] : error.details) bytes += name.size() + value.size();
  return bytes;
}

void CheckRaw(std::string_view bytes) {
  size_t end = FindHeadEnd(bytes);
  if (end == 0) return;
  Result<RequestHead> head = ParseHead(bytes.substr(0, end));
  if (!head.ok()) return;
  Result<Target> target = ParseTarget(head->target);
  if (!target.ok()) return;
  ManualClock clock;
  Authentication auth;
  Outcome outcome = SigV4(kOurs, clock).Authenticate(*head, *target, &auth);
  // A stranger's small head must not become a large answer.
  if (!outcome.ok()) PERIGEE_CHECK(BytesOf(outcome.error()) <= 8 * end + 4096);
}

bool Accepts(const Credentials& credentials, Clock& clock, const RequestHead& head,
             const Target& target) {
  Authentication auth;
  return SigV4(credentials, clock).Authenticate(head, target, &auth).ok();
}

void CheckSigned(fuzz::Input input) {
  ManualClock clock;
  const std::string method(input.Line());
  const std::string target(input.Line());
  Result<Target> parsed = ParseTarget(target);
  if (!parsed.ok() || parsed->query.Has("X-Amz-Signature") ||
      parsed->query.Has("X-Amz-Security-Token"))
    return;
  const std::string now = FormatAmzDate(clock.Wall());
  const std::string payload = "UNSIGNED-PAYLOAD";
  test::HeaderList headers{
      {"host", "localhost"}, {"x-amz-date", now}, {"x-amz-content-sha256", payload}};
  for (int i = 0; i < 8 && !input.empty(); ++i)
    headers.emplace_back("x-amz-meta-" + std::to_string(i % 3), std::string(input.Line()));
  headers.emplace_back("authorization",
                       test::Sign(method, target, headers, kOurs, now, payload).authorization);
  const RequestHead head = test::MakeHead(method, target, headers);
  PERIGEE_CHECK(Accepts(kOurs, clock, head, *parsed));
  PERIGEE_CHECK(!Accepts(kOthers, clock, head, *parsed));
  clock.Advance(2 * kClockSkewMax);
  PERIGEE_CHECK(!Accepts(kOurs, clock, head, *parsed));
}

void CheckPresigned(fuzz::Input input) {
  ManualClock clock;
  const std::string method(input.Line());
  std::string target(input.Line());
  Result<Target> plain = ParseTarget(target);
  // An absolute target without a path has no room for a query.
  if (!plain.ok() || !target.starts_with('/')) return;
  for (const auto& [name, value] : plain->query.all())
    if (name.starts_with("X-Amz-")) return;
  const std::string now = FormatAmzDate(clock.Wall());
  const std::string scope = now.substr(0, 8) + "/us-east-1/s3/aws4_request";
  target += (target.find('?') == std::string::npos ? "?" : "&");
  target += "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=" +
            UriEncode("root/" + scope, Slash::kEncode) + "&X-Amz-Date=" + now +
            "&X-Amz-Expires=60&X-Amz-SignedHeaders=host";
  const RequestHead head = test::MakeHead(method, target, {{"host", "localhost"}});
  Target parsed = *ParseTarget(target);
  std::string canonical = method + "\n" + UriEncode(parsed.path, Slash::kKeep) + "\n" +
                          CanonicalQuery(parsed.query, "") + "\n" +
                          CanonicalHeaders(head.headers, {"host"}) + "\nhost\nUNSIGNED-PAYLOAD";
  std::string to_sign = "AWS4-HMAC-SHA256\n" + now + "\n" + scope + "\n" +
                        HexEncode(Hash(HashKind::kSha256, canonical));
  std::string key = DeriveSigningKey(kOurs.secret_key, now.substr(0, 8), kOurs.region);
  parsed = *ParseTarget(target + "&X-Amz-Signature=" + HexEncode(HmacSha256(key, to_sign)));
  PERIGEE_CHECK(Accepts(kOurs, clock, head, parsed));
  PERIGEE_CHECK(!Accepts(kOthers, clock, head, parsed));
  clock.Advance(61 * kSecond);
  PERIGEE_CHECK(!Accepts(kOurs, clock, head, parsed));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::Input input(data, size);
  const std::string_view mode = input.Line();
  if (mode == "signed")
    CheckSigned(input);
  else if (mode == "presigned")
    CheckPresigned(input);
  else
    CheckRaw(AsView(ConstBytes(data, size)));
  return 0;
}
