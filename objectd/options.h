#pragma once
// Options of perigee-objectd; see base/options.h for flags, environment and file.

#include <cstdint>
#include <string>
#include <vector>

#include "base/options.h"
#include "rdma/network_options.h"

namespace perigee::objectd {

struct ObjectdOptions {
  // Where the namespace node is reached: this one has drives only. Empty: it is the namespace node.
  std::string join;
  std::string node_name;  // for people
  std::vector<std::string> drives;
  uint32_t k = 0, m = 0;  // 0 + 0: by the number of drives, or what the cluster has
  std::string state_dir, run_dir, secret_file, credentials_file;
  std::string s3_listen = "127.0.0.1:9000";
  std::string admin_listen = "127.0.0.1:9001";
  uint64_t memory_limit = 512 << 20;
  uint64_t drive_capacity = 0;
  uint64_t inline_bytes_max = 16 << 10;
  Nanos reader_grace = 60 * kSecond;
  Nanos lease = 15 * 60 * kSecond;  // of blobs that no commit has taken yet
  uint64_t scrub_rate = 32 << 20;
  Nanos scrub_interval = 7 * 24 * 3600 * kSecond;
  Nanos repair_after = 600 * kSecond;  // drives of a node that is away are given up
  // What clients of the S3 endpoint may do; see objectd/s3/server.h.
  uint64_t s3_connections = 12000;
  Nanos s3_head_timeout = 30 * kSecond;
  Nanos s3_body_timeout = 30 * kSecond;
  uint64_t s3_body_rate = 1 << 10;
  Nanos s3_idle_timeout = 300 * kSecond;
  rdma::NetworkOptions network;
  std::string log_format = "text";
};

Result<Options::Outcome> ParseOptions(int argc, const char* const* argv, ObjectdOptions* options);

}  // namespace perigee::objectd
