#pragma once
// Payload: what a request says its body must be (x-amz-content-sha256, Content-MD5, one
// x-amz-checksum-* in a header or in the trailer), the digests of what came, and the verdict.
// Source: the checksums page named in checksums.h. Thread rule: one thread at a time (Update may
// run on another thread than the one that reads).

#include <optional>
#include <string>

#include "base/crypto.h"
#include "objectd/s3/checksums.h"
#include "objectd/s3/errors.h"
#include "objectd/s3/http.h"
#include "objectd/s3/sigv4.h"

namespace perigee::objectd::s3 {

enum class Md5 { kWanted, kIfGiven };  // kWanted: for the ETag

class Payload {
 public:
  // kInvalidDigest, kInvalidRequest for headers that make no sense.
  static Outcome Parse(const RequestHead& head, const Authentication& auth, Md5 md5, Payload* out);

  void Update(ConstBytes data);
  // After the whole body went through Update. kBadDigest, kXAmzContentSHA256Mismatch,
  // kMalformedTrailerError.
  Outcome Finish(const Headers& trailers);

  // After Finish.
  std::string md5_hex() const;
  const std::optional<StoredChecksum>& checksum() const {
    return stored_;
  }  // when the client gave one

 private:
  std::optional<Hasher> md5_, sha256_;
  std::string want_sha256_hex_;
  std::optional<std::string> want_md5_;  // raw
  std::optional<Checksum> checksum_;
  std::optional<std::string> want_checksum_;  // base64; absent while it is to come in the trailer
  std::string got_md5_;
  std::optional<StoredChecksum> stored_;
};

}  // namespace perigee::objectd::s3
