#include "objectd/s3/sigv4.h"

#include <algorithm>

#include "base/bytes.h"
#include "base/crypto.h"
#include "objectd/s3/time_format.h"

namespace perigee::objectd::s3 {

namespace {

constexpr std::string_view kAlgorithm = "AWS4-HMAC-SHA256";

std::vector<std::string_view> Split(std::string_view text, char at) {
  std::vector<std::string_view> out;
  while (true) {
    size_t i = text.find(at);
    out.push_back(text.substr(0, i));
    if (i == std::string_view::npos) return out;
    text = text.substr(i + 1);
  }
}

bool IsHex64(std::string_view s) {
  return s.size() == 64 && s.find_first_not_of("0123456789abcdefABCDEF") == std::string_view::npos;
}

// A small head that signs one large field a thousand times would become a canonical request of many
// megabytes, and be answered with it.
bool HasRepeats(std::vector<std::string_view> names) {
  std::sort(names.begin(), names.end());
  return std::adjacent_find(names.begin(), names.end()) != names.end();
}

Outcome ParsePayloadKind(std::string_view text, PayloadKind* kind) {
  if (text == "UNSIGNED-PAYLOAD") {
    *kind = PayloadKind::kUnsigned;
  } else if (text == "STREAMING-AWS4-HMAC-SHA256-PAYLOAD") {
    *kind = PayloadKind::kStreamSigned;
  } else if (text == "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER") {
    *kind = PayloadKind::kStreamSignedTrailer;
  } else if (text == "STREAMING-UNSIGNED-PAYLOAD-TRAILER") {
    *kind = PayloadKind::kStreamUnsignedTrailer;
  } else if (IsHex64(text)) {
    *kind = PayloadKind::kSigned;
  } else {
    return {ErrorCode::kInvalidArgument,
            "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, a STREAMING form that is supported, or "
            "a valid sha256 value."};
  }
  return {};
}

}  // namespace

struct SigV4::Claim {
  bool presigned = false;
  std::string credential, signature;
  std::string signed_headers;                  // as sent: "host;x-amz-date"
  std::vector<std::string_view> signed_names;  // into signed_headers
  std::string timestamp;
  std::string date, region;  // of the credential
  std::string content_sha256;
};

Outcome SigV4::Authenticate(const RequestHead& head, const Target& target,
                            Authentication* out) const {
  Claim claim;
  if (auto authorization = head.headers.Find("authorization")) {
    if (target.query.Has("X-Amz-Signature")) {
      return {ErrorCode::kInvalidArgument,
              "Only one auth mechanism allowed: a header or the query."};
    }
    PERIGEE_S3_TRY(FromHeader(head, *authorization, &claim));
  } else if (target.query.Has("X-Amz-Algorithm") || target.query.Has("X-Amz-Signature")) {
    PERIGEE_S3_TRY(FromQuery(head, target.query, &claim));
  } else {
    return {ErrorCode::kAccessDenied};
  }
  ErrorCode malformed = claim.presigned ? ErrorCode::kAuthorizationQueryParametersError
                                        : ErrorCode::kAuthorizationHeaderMalformed;
  claim.signed_names = Split(claim.signed_headers, ';');
  if (HasRepeats(claim.signed_names)) return {malformed, "SignedHeaders names a header twice."};
  PERIGEE_S3_TRY(CheckScope(target, malformed, &claim));
  if (head.headers.Has("x-amz-security-token") || target.query.Has("X-Amz-Security-Token"))
    return {ErrorCode::kInvalidToken};
  return Verify(head, target, claim, out);
}

Outcome SigV4::FromHeader(const RequestHead& head, std::string_view authorization,
                          Claim* claim) const {
  if (!authorization.starts_with(kAlgorithm)) {
    return {ErrorCode::kInvalidRequest,
            "The authorization mechanism you have provided is not supported. Please use "
            "AWS4-HMAC-SHA256."};
  }
  for (std::string_view part : Split(authorization.substr(kAlgorithm.size()), ',')) {
    part = TrimBlanks(part);
    size_t eq = part.find('=');
    if (eq == std::string_view::npos) return {ErrorCode::kAuthorizationHeaderMalformed};
    std::string_view name = part.substr(0, eq), value = part.substr(eq + 1);
    if (name == "Credential") claim->credential = value;
    if (name == "SignedHeaders") claim->signed_headers = value;
    if (name == "Signature") claim->signature = value;
  }
  if (claim->credential.empty() || claim->signed_headers.empty() || claim->signature.empty()) {
    return {ErrorCode::kAuthorizationHeaderMalformed};
  }
  std::optional<Nanos> at;
  if (auto date = head.headers.Find("x-amz-date")) {
    at = ParseAmzDate(*date);
  } else if (auto plain = head.headers.Find("date")) {
    at = ParseHttpDate(*plain);
    if (!at) at = ParseAmzDate(*plain);
  }
  if (!at)
    return {ErrorCode::kAccessDenied,
            "AWS authentication requires a valid Date or x-amz-date header"};
  claim->timestamp = FormatAmzDate(*at);
  Nanos off = clock_.Wall() - *at;
  if (off > kClockSkewMax || off < -kClockSkewMax) {
    Error error{ErrorCode::kRequestTimeTooSkewed};
    error.details = {{"RequestTime", claim->timestamp},
                     {"ServerTime", FormatIsoMillis(clock_.Wall())},
                     {"MaxAllowedSkewMilliseconds", std::to_string(kClockSkewMax / kMillisecond)}};
    return Outcome(std::move(error));
  }
  auto sha = head.headers.Find("x-amz-content-sha256");
  if (!sha)
    return {ErrorCode::kInvalidRequest,
            "Missing required header for this request: x-amz-content-sha256"};
  claim->content_sha256 = *sha;
  return {};
}

Outcome SigV4::FromQuery(const RequestHead& head, const Query& query, Claim* claim) const {
  constexpr ErrorCode kBad = ErrorCode::kAuthorizationQueryParametersError;
  claim->presigned = true;
  if (query.Get("X-Amz-Algorithm") != kAlgorithm)
    return {kBad, "X-Amz-Algorithm only supports \"AWS4-HMAC-SHA256\""};
  claim->credential = query.Get("X-Amz-Credential");
  claim->signed_headers = query.Get("X-Amz-SignedHeaders");
  claim->signature = query.Get("X-Amz-Signature");
  claim->timestamp = query.Get("X-Amz-Date");
  auto at = ParseAmzDate(claim->timestamp);
  auto expires = ParseDecimal(query.Get("X-Amz-Expires"));
  if (claim->credential.empty() || claim->signed_headers.empty() || claim->signature.empty() ||
      !at || !query.Has("X-Amz-Expires")) {
    return {kBad,
            "Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, "
            "X-Amz-Signature, X-Amz-Date, "
            "X-Amz-SignedHeaders, and X-Amz-Expires parameters."};
  }
  if (!expires || *expires < 1 || *expires > kPresignSecondsMax) {
    return {kBad, "X-Amz-Expires must be between 1 and 604800 seconds"};
  }
  Nanos now = clock_.Wall();
  if (*at - now > kClockSkewMax) return {ErrorCode::kAccessDenied, "Request is not valid yet"};
  if (now - *at > static_cast<Nanos>(*expires) * kSecond)
    return {ErrorCode::kAccessDenied, "Request has expired"};
  claim->content_sha256 = "UNSIGNED-PAYLOAD";
  if (auto sha = head.headers.Find("x-amz-content-sha256")) {
    claim->content_sha256 = *sha;
  } else if (const std::string* in_query = query.Find("X-Amz-Content-Sha256")) {
    claim->content_sha256 = *in_query;
  }
  return {};
}

Outcome SigV4::CheckScope(const Target& target, ErrorCode malformed, Claim* claim) const {
  // Access keys may hold slashes; the scope is the last four parts.
  std::vector<std::string_view> parts = Split(claim->credential, '/');
  if (parts.size() < 5)
    return {
        malformed,
        "The Credential is malformed; expecting \"<key>/YYYYMMDD/REGION/SERVICE/aws4_request\"."};
  size_t scope = parts.size() - 4;
  size_t key_bytes = static_cast<size_t>(parts[scope].data() - claim->credential.data()) - 1;
  std::string_view access_key = std::string_view(claim->credential).substr(0, key_bytes);
  claim->date = parts[scope];
  claim->region = parts[scope + 1];
  if (parts[scope + 2] != "s3")
    return {malformed,
            "The Credential is malformed; incorrect service. This endpoint belongs to \"s3\"."};
  if (parts[scope + 3] != "aws4_request")
    return {malformed, "The Credential is malformed; incorrect terminal."};
  if (claim->date != std::string_view(claim->timestamp).substr(0, 8)) {
    return {malformed, "The Credential's date does not match the date of the request."};
  }
  if (access_key != credentials_.access_key) return {ErrorCode::kInvalidAccessKeyId};
  // Clients ask where a bucket is before they know the region, signing for us-east-1.
  if (claim->region != credentials_.region &&
      !(claim->region == "us-east-1" && target.query.Has("location"))) {
    Error error{
        malformed,
        "The region '" + claim->region + "' is wrong; expecting '" + credentials_.region + "'",
        {},
        {}};
    error.details = {{"Region", credentials_.region}};
    return Outcome(std::move(error));
  }
  return {};
}

Outcome SigV4::Verify(const RequestHead& head, const Target& target, const Claim& claim,
                      Authentication* out) const {
  auto is_signed = [&](std::string_view name) {
    return std::find(claim.signed_names.begin(), claim.signed_names.end(), name) !=
           claim.signed_names.end();
  };
  if (!is_signed("host")) return {ErrorCode::kAccessDenied, "The Host header must be signed."};
  for (size_t i = 0; i < head.headers.size(); ++i) {
    std::string_view name = head.headers.at(i).name;
    if (!name.starts_with("x-amz-") || is_signed(name)) continue;
    // In a presigned request the payload hash stands in the canonical request itself.
    if (claim.presigned && name == "x-amz-content-sha256") continue;
    Error error{ErrorCode::kAccessDenied,
                "There were headers present in the request which were not signed"};
    error.details = {{"HeadersNotSigned", std::string(name)}};
    return Outcome(std::move(error));
  }
  PERIGEE_S3_TRY(ParsePayloadKind(claim.content_sha256, &out->payload));

  std::string canonical;
  canonical.reserve(1024);
  canonical.append(head.method).append("\n");
  AppendUriEncoded(&canonical, target.path, Slash::kKeep);
  canonical.append("\n").append(
      CanonicalQuery(target.query, claim.presigned ? "X-Amz-Signature" : ""));
  canonical.append("\n").append(CanonicalHeaders(head.headers, claim.signed_names));
  canonical.append("\n").append(claim.signed_headers).append("\n").append(claim.content_sha256);

  std::string scope = claim.date + "/" + claim.region + "/s3/aws4_request";
  std::string to_sign(kAlgorithm);
  to_sign.append("\n").append(claim.timestamp).append("\n").append(scope).append("\n");
  to_sign.append(HexEncode(Hash(HashKind::kSha256, canonical)));
  std::string key = SigningKey(claim.date, claim.region);
  if (!ConstantTimeEqual(HexEncode(HmacSha256(key, to_sign)), claim.signature)) {
    Error error{ErrorCode::kSignatureDoesNotMatch};
    error.details = {{"AWSAccessKeyId", credentials_.access_key},
                     {"StringToSign", to_sign},
                     {"CanonicalRequest", canonical}};
    return Outcome(std::move(error));
  }
  if (out->payload == PayloadKind::kSigned) out->sha256_hex = AsciiLower(claim.content_sha256);
  out->signing = ChunkSigning{std::move(key), claim.timestamp, std::move(scope), claim.signature};
  return {};
}

std::string SigV4::SigningKey(const std::string& date, const std::string& region) const {
  std::string want = date + "/" + region;
  {
    std::lock_guard lock(mu_);
    if (cached_for_ == want) return cached_key_;
  }
  std::string key = DeriveSigningKey(credentials_.secret_key, date, region);
  std::lock_guard lock(mu_);
  cached_for_ = std::move(want);
  cached_key_ = key;
  return key;
}

std::string CanonicalQuery(const Query& query, std::string_view without) {
  std::vector<std::pair<std::string, std::string>> encoded;
  for (const auto& [name, value] : query.all()) {
    if (!without.empty() && name == without) continue;
    encoded.emplace_back(UriEncode(name, Slash::kEncode), UriEncode(value, Slash::kEncode));
  }
  std::sort(encoded.begin(), encoded.end());
  std::string out;
  for (const auto& [name, value] : encoded) {
    if (!out.empty()) out.push_back('&');
    out.append(name).append("=").append(value);
  }
  return out;
}

std::string CanonicalHeaders(const Headers& headers,
                             const std::vector<std::string_view>& signed_names) {
  std::string out;
  for (std::string_view name : signed_names) {
    out.append(name).append(":");
    bool first = true;
    for (size_t i = 0; i < headers.size(); ++i) {
      Headers::Field f = headers.at(i);
      if (f.name != name) continue;
      if (!first) out.push_back(',');
      first = false;
      // Runs of blanks count as one.
      bool blank = false;
      for (char c : f.value) {
        bool is_blank = c == ' ' || c == '\t';
        if (!is_blank) out.push_back(c);
        if (is_blank && !blank) out.push_back(' ');
        blank = is_blank;
      }
    }
    out.push_back('\n');
  }
  return out;
}

std::string DeriveSigningKey(std::string_view secret, std::string_view date,
                             std::string_view region) {
  std::string key = HmacSha256("AWS4" + std::string(secret), date);
  key = HmacSha256(key, region);
  key = HmacSha256(key, "s3");
  return HmacSha256(key, "aws4_request");
}

}  // namespace perigee::objectd::s3
