#pragma once
// AWS Signature Version 4, the server's side: who sent a request, and what its body has to be.
// Source: https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-authenticating-requests.html
// (authorization header, query string, and the chunked forms, whose chunks aws_chunked.h checks).
//
// All x-amz-* headers must be signed, as AWS demands; signatures compare in constant time.
// Thread-safe.

#include <mutex>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "objectd/s3/errors.h"
#include "objectd/s3/http.h"
#include "objectd/s3/uri.h"

namespace perigee::objectd::s3 {

inline constexpr Nanos kClockSkewMax = 15 * 60 * kSecond;
inline constexpr uint64_t kPresignSecondsMax = 7 * 24 * 3600;

struct Credentials {
  std::string access_key;
  std::string secret_key;
  std::string region = "us-east-1";
};

enum class PayloadKind {
  kUnsigned,               // UNSIGNED-PAYLOAD, and presigned URLs
  kSigned,                 // its sha256 is in the signature
  kStreamSigned,           // STREAMING-AWS4-HMAC-SHA256-PAYLOAD
  kStreamSignedTrailer,    // STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER
  kStreamUnsignedTrailer,  // STREAMING-UNSIGNED-PAYLOAD-TRAILER
};

// What the chunks of a signed stream are signed with.
struct ChunkSigning {
  std::string key;        // the day's signing key
  std::string timestamp;  // 20130524T000000Z
  std::string scope;      // 20130524/us-east-1/s3/aws4_request
  std::string seed;       // the request's own signature
};

struct Authentication {
  PayloadKind payload = PayloadKind::kUnsigned;
  std::string sha256_hex;  // kSigned
  ChunkSigning signing;
};

class SigV4 {
 public:
  SigV4(Credentials credentials, Clock& clock)
      : credentials_(std::move(credentials)), clock_(clock) {}
  Outcome Authenticate(const RequestHead& head, const Target& target, Authentication* out) const;

 private:
  struct Claim;  // what a request says of its signature
  Outcome FromHeader(const RequestHead& head, std::string_view authorization, Claim* claim) const;
  Outcome FromQuery(const RequestHead& head, const Query& query, Claim* claim) const;
  Outcome CheckScope(const Target& target, ErrorCode malformed, Claim* claim) const;
  Outcome Verify(const RequestHead& head, const Target& target, const Claim& claim,
                 Authentication* out) const;
  std::string SigningKey(const std::string& date, const std::string& region) const;

  const Credentials credentials_;
  Clock& clock_;
  mutable std::mutex mu_;  // guards the day's key: four HMACs saved per request
  mutable std::string cached_for_;
  mutable std::string cached_key_;
};

// Parts of the algorithm, for tests and for aws_chunked.
std::string CanonicalQuery(const Query& query, std::string_view without);
std::string CanonicalHeaders(const Headers& headers,
                             const std::vector<std::string_view>& signed_names);
std::string DeriveSigningKey(std::string_view secret, std::string_view date,
                             std::string_view region);

}  // namespace perigee::objectd::s3
