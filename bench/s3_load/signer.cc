#include "bench/s3_load/signer.h"

#include "base/bytes.h"
#include "base/clock.h"
#include "base/crypto.h"
#include "objectd/s3/sigv4.h"
#include "objectd/s3/time_format.h"

namespace perigee::bench {
namespace {

constexpr std::string_view kRegion = "us-east-1";
constexpr std::string_view kSigned = "host;x-amz-content-sha256;x-amz-date";

}  // namespace

Signer::Signer(objectd::Credentials credentials, std::string host)
    : credentials_(std::move(credentials)), host_(std::move(host)) {}

std::string Signer::Head(std::string_view method, std::string_view path, std::string_view query,
                         std::string_view body) {
  const std::string time = objectd::s3::FormatAmzDate(RealClock::Get().Wall());
  if (time.substr(0, 8) != date_) {
    date_ = time.substr(0, 8);
    key_ = objectd::s3::DeriveSigningKey(credentials_.secret_key, date_, kRegion);
  }
  const std::string digest = HexEncode(Hash(HashKind::kSha256, body));
  std::string canonical;
  canonical.append(method).append("\n").append(path).append("\n").append(query);
  canonical.append("\nhost:").append(host_);
  canonical.append("\nx-amz-content-sha256:").append(digest);
  canonical.append("\nx-amz-date:").append(time);
  canonical.append("\n\n").append(kSigned).append("\n").append(digest);
  std::string scope = date_;
  scope.append("/").append(kRegion).append("/s3/aws4_request");
  std::string to_sign = "AWS4-HMAC-SHA256\n";
  to_sign.append(time).append("\n").append(scope).append("\n");
  to_sign.append(HexEncode(Hash(HashKind::kSha256, canonical)));

  std::string head;
  head.append(method).append(" ").append(path);
  if (!query.empty()) head.append("?").append(query);
  head.append(" HTTP/1.1\r\nHost: ").append(host_);
  head.append("\r\nx-amz-content-sha256: ").append(digest);
  head.append("\r\nx-amz-date: ").append(time);
  head.append("\r\nAuthorization: AWS4-HMAC-SHA256 Credential=");
  head.append(credentials_.access_key).append("/").append(scope);
  head.append(", SignedHeaders=").append(kSigned).append(", Signature=");
  head.append(HexEncode(HmacSha256(key_, to_sign)));
  head.append("\r\nContent-Length: ").append(std::to_string(body.size())).append("\r\n\r\n");
  return head;
}

}  // namespace perigee::bench
