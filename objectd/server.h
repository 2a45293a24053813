#pragma once
// Server: the object daemon, assembled: drives, store, volumes, namespace, S3 endpoint, RPC and
// admin doors. Start returns when all doors answer. Stop ends them in the reverse order and makes
// what is visible durable.

#include <memory>
#include <string>
#include <vector>

#include "base/admin_server.h"
#include "base/daemon.h"
#include "base/preflight.h"
#include "objectd/burst_peers.h"
#include "objectd/kv/rocks_store.h"
#include "objectd/memory_plan.h"
#include "objectd/meta/meta_service.h"
#include "objectd/metadata_room.h"
#include "objectd/options.h"
#include "objectd/s3/server.h"
#include "objectd/volume/volume_manager.h"
#include "rdma/network/network.h"
#include "rdma/rpc.h"

namespace perigee::objectd {

class Server {
 public:
  static Result<std::unique_ptr<Server>> Start(const ObjectdOptions& options);
  ~Server() { Stop(); }
  void Stop();
  Status Health();  // kUnavailable: the process has to end; it asks itself to, as by SIGTERM

 private:
  explicit Server(ObjectdOptions options)
      : options_(std::move(options)),
        memory_(PlanMemory(options_.memory_limit, options_.drives.size())) {}
  Status OpenDrives();
  Status OpenNetwork();
  Status OpenStore();
  Status BuildVolumes();
  Status BuildNamespace();
  Status ListenRpc();
  Status StartDoors();
  void RegisterControl();
  void Housekeep();
  void ReturnLeases();
  void WatchStore();
  wire::ObjectdStatusReply State();     // all but the doors' addresses
  wire::ObjectdStatusReply Describe();  // once the doors are open

  const ObjectdOptions options_;
  const MemoryPlan memory_;
  bool stopped_ = false;
  std::unique_ptr<metrics::Registry> registry_;
  std::unique_ptr<Disk> disk_;
  std::shared_ptr<rdma::SlabPool> slabs_;
  // One pool per layer of calls; see docs/architecture.md, "Threads".
  std::unique_ptr<Scheduler> s3_pool_, meta_pool_, told_pool_, feed_pool_, shard_pool_,
      fan_out_pool_, background_pool_;
  std::unique_ptr<PidLock> lock_;
  std::unique_ptr<DriveSet> drives_;
  std::unique_ptr<rdma::Network> network_;
  std::unique_ptr<kv::RocksStore> store_;
  std::unique_ptr<StorageNodes> storage_nodes_;
  std::unique_ptr<VolumeManager> volumes_;
  std::unique_ptr<MetadataRoom> room_;
  Nanos reclaimed_ = 0;  // by WatchStore, when it last was
  std::unique_ptr<Namespace> namespace_;
  std::unique_ptr<NodeTable> nodes_;
  std::unique_ptr<Delegations> delegations_;
  std::unique_ptr<DirectoryHolds> holds_;
  std::unique_ptr<AbsentWriters> absent_writers_;
  std::shared_ptr<rdma::Router> router_;
  std::unique_ptr<RpcBurstPeers> peers_;
  const std::shared_ptr<client::GivenUpLeases> given_up_ =
      std::make_shared<client::GivenUpLeases>();
  std::unique_ptr<S3Server> s3_;
  std::unique_ptr<AdminServer> admin_;
  std::vector<PreflightCheck> preflight_;
};

}  // namespace perigee::objectd
