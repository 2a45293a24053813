#pragma once
// S3Probe: PUT and GET of one object over a kept-alive connection, signed with SigV4
// (UNSIGNED-PAYLOAD): just enough of a client for `perigee bench`. Source: the AWS Signature
// Version 4 documentation. One thread.

#include <cstdint>
#include <string>

#include "base/bytes.h"
#include "base/status.h"

namespace perigee::cli {

class S3Probe {
 public:
  // endpoint: "http://host:port"; the key is read from a credentials file in the AWS format.
  static Result<S3Probe> Connect(const std::string& endpoint, const std::string& credentials_file);
  S3Probe(S3Probe&& other) noexcept;
  S3Probe& operator=(S3Probe&&) = delete;
  ~S3Probe();

  Status Put(const std::string& path, ConstBytes body);  // path: "/bucket/key"
  Result<uint64_t> Get(const std::string& path);         // bytes of the body, read and dropped
  Status Delete(const std::string& path);

 private:
  S3Probe() = default;
  Result<uint64_t> Exchange(const std::string& method, const std::string& path, ConstBytes body);

  int fd_ = -1;
  std::string host_, access_key_, secret_key_;
};

}  // namespace perigee::cli
