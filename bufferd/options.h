#pragma once
// Options of perigee-bufferd: flags, PERIGEE_* environment, /etc/perigee/perigee-bufferd.conf
// (base/options.h).

#include <string>

#include "base/options.h"
#include "rdma/network_options.h"

namespace perigee::bufferd {

struct BufferdOptions {
  std::string store;    // directory of the burst files; made when absent
  std::string run_dir;  // its socket is <run_dir>/bufferd.sock
  std::string objectd;  // "local:/x/run/objectd.sock", "tls:10.0.0.1:9002"; several by commas
  std::string secret_file;
  std::string admin_listen = "127.0.0.1:9011";  // empty: no admin door
  std::string socket_group;                     // name or number: who may connect besides the owner
  rdma::NetworkOptions network;
  std::string log_format = "text";
  std::string node_name;  // default: the host's name
  uint64_t budget = 0;    // 0: 80 % of the file system
  uint64_t reserve = 0;   // 0: 1 GiB, or 5 % of the file system when that is less
  uint64_t memory_limit = 512 << 20;
  Nanos objectd_patience = 3 * kSecond;
  // docs/decisions/0011-directory-delegations.md.
  bool hold_directories = true;
  Nanos flush_linger = 2 * kSecond;
  uint64_t flush_parallel = 3;
  uint64_t scrub_rate = 64 << 20;
  Nanos scrub_interval = 7 * 24 * 3600 * kSecond;
};

Result<Options::Outcome> ParseOptions(int argc, const char* const* argv, BufferdOptions* options);

}  // namespace perigee::bufferd
