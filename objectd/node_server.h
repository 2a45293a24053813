#pragma once
// NodeServer: a storage node's daemon (`perigee-objectd --join`): drives, their shard calls, and a
// report to the namespace node each second. Start returns when shards are served and the namespace
// node knows; a node that has joined before starts without it. Stop ends all.

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/admin_server.h"
#include "base/daemon.h"
#include "base/preflight.h"
#include "objectd/options.h"
#include "objectd/volume/node_drives.h"
#include "rdma/network/network.h"
#include "rdma/rpc.h"
#include "rdma/wire/control.h"

namespace perigee::objectd {

class NodeServer {
 public:
  static Result<std::unique_ptr<NodeServer>> Start(const ObjectdOptions& options);
  ~NodeServer() { Stop(); }
  void Stop();

 private:
  explicit NodeServer(ObjectdOptions options) : options_(std::move(options)) {}
  Status OpenState();
  Status Connect();
  Status Join();
  Status Listen();
  Status ReportNow();
  void KeepReporting();
  Status Health() const;
  wire::ObjectdStatusReply Describe() const;

  const ObjectdOptions options_;
  bool stopped_ = false;
  std::unique_ptr<metrics::Registry> registry_;
  std::unique_ptr<Disk> disk_;
  std::shared_ptr<rdma::SlabPool> slabs_;
  std::unique_ptr<PidLock> lock_;
  std::unique_ptr<Scheduler> shard_pool_, slow_pool_, background_pool_;
  std::unique_ptr<NodeDrives> drives_;
  std::unique_ptr<rdma::Network> network_;
  std::shared_ptr<rdma::Channel> namespace_node_;
  std::unique_ptr<AdminServer> admin_;
  std::vector<PreflightCheck> preflight_;
  std::mutex report_mu_;   // one report at a time; held over the call
  mutable std::mutex mu_;  // guards what follows
  wire::LinkInfo link_;    // to the namespace node
};

}  // namespace perigee::objectd
