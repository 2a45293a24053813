#pragma once
// Stack: the daemons of one data directory, as the CLI finds and reaches them.
//
//   DIR/lock          flock held by the supervising `perigee up`, with its pid
//   DIR/stack.json    what it runs: drives, burst store, mount, addresses, pids (rewritten as they
//   change) DIR/credentials   the S3 root key, in the AWS shared-credentials format (0600)
//   DIR/secret        the cluster secret (0600)
//   DIR/run/*.sock    control (0600); DIR/log/*.log; DIR/objectd, DIR/drives, DIR/burst, DIR/mnt:
//   defaults
// Every verb finds its stack by --data DIR or PERIGEE_DATA.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/metrics.h"
#include "base/status.h"
#include "rdma/network_options.h"
#include "rdma/transport.h"

namespace perigee::cli {

struct StackConfig {
  std::string data;
  std::vector<std::string> drives;
  std::string profile;  // "4+2", "" for the default by drive count
  std::string burst;
  std::string mount;           // "" for none
  std::string mount_withheld;  // where it goes again once there is a /dev/fuse
  std::string s3_listen = "127.0.0.1:9000";
  std::string admin_listen = "127.0.0.1:9001";
  std::string bufferd_admin_listen = "127.0.0.1:9011";
  std::string fuse_admin_listen;  // "": `up` chooses one
  uint64_t burst_budget = 0;
  bool first_bucket_made = false;
  std::vector<std::string> extra;  // "objectd:--flag=value": options passed on to one daemon
  // "tls:10.0.0.1:9002" on a node that has bufferd and the mount only; else objectd runs here.
  std::string objectd;
  // "tls:10.0.0.1:9002" on a storage node: an objectd with drives only, of the namespace there.
  std::string join;
  std::string node_name;         // of a machine with drives; "": its host's
  std::string repair_after;      // "10m"; "": objectd's default
  std::string secret_file;       // "": in the data directory
  rdma::NetworkOptions network;  // with what objectd listens on
  std::string bufferd_listen;

  std::string lock_path() const { return data + "/lock"; }
  std::string state_path() const { return data + "/stack.json"; }
  std::string credentials_path() const { return data + "/credentials"; }
  std::string secret_path() const { return secret_file.empty() ? data + "/secret" : secret_file; }
  bool has_objectd() const { return objectd.empty(); }
  bool drives_only() const { return !join.empty(); }
  bool has_namespace() const { return has_objectd() && !drives_only(); }
  rdma::NetworkOptions bufferd_network() const;
  std::string run_dir() const { return data + "/run"; }
  std::string log_dir() const { return data + "/log"; }
};

struct DaemonState {
  std::string name;  // "objectd", "bufferd", "fuse"
  int pid = 0;
  uint64_t restarts = 0;
  std::string state;  // "up", "starting", "down: exit 1"
};

struct StackState {
  StackConfig config;
  int pid = 0;  // of the supervisor
  std::vector<DaemonState> daemons;
  std::string endpoint;  // "http://127.0.0.1:9000"; "" where there is no namespace
  std::string address;   // of objectd, for other machines: "tls:10.0.0.1:9002"; several by commas
};

// kInvalidArgument, by flag: text that is not UTF-8, which JSON has no way to say.
Status CheckConfig(const StackConfig& config);

Result<StackState> LoadState(const std::string& data);
Status SaveState(const StackState& state);       // CheckConfig's errors too
std::string StateJson(const StackState& state);  // what `up --json` prints

// --data, else PERIGEE_DATA; kInvalidArgument names both.
Result<std::string> ResolveData(const std::string& flag);
// The supervisor's pid while one holds the lock.
std::optional<int> RunningSupervisor(const std::string& data);

// Channels to the daemons of a stack, over their control sockets. Where objectd runs elsewhere,
// bufferd passes on what it is asked.
class Connections {
 public:
  static Result<std::unique_ptr<Connections>> Open(const StackConfig& config);
  std::shared_ptr<rdma::Channel> objectd() { return objectd_; }
  std::shared_ptr<rdma::Channel> bufferd() { return bufferd_; }
  std::shared_ptr<rdma::Channel> fuse() { return fuse_; }
  ~Connections();

 private:
  std::unique_ptr<metrics::Registry> registry_;
  std::unique_ptr<rdma::Transport> transport_;
  std::shared_ptr<rdma::Channel> objectd_, bufferd_, fuse_;
};

// "perigee://b/k", "b/k" or a path below the stack's mount -> "b/k".
std::string ObjectPath(const StackState& state, const std::string& argument);

}  // namespace perigee::cli
