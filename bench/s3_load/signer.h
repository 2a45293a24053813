#pragma once
// Signer: the client's side of AWS Signature Version 4 (objectd/s3/sigv4.h has the server's), for
// requests whose host, date and payload are signed. Writes whole request heads, since what it signs
// is what it writes. Thread rule: one per thread.

#include <string>
#include <string_view>

#include "objectd/credentials.h"

namespace perigee::bench {

class Signer {
 public:
  Signer(objectd::Credentials credentials, std::string host);
  // `path` and `query` as they are sent: encoded, parameters in order. `body` is only hashed; the
  // head says its length.
  std::string Head(std::string_view method, std::string_view path, std::string_view query,
                   std::string_view body);

 private:
  const objectd::Credentials credentials_;
  const std::string host_;
  std::string date_, key_;  // the day's signing key
};

}  // namespace perigee::bench
