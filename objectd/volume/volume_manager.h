#pragma once
// VolumeManager: the volumes of this process in one piece: table, cluster, repair, collector,
// mirrors, and the watch over the drives that keeps them going.
//
// Create makes or loads the volumes (and confirms a newly formed cluster); Start begins background
// work on `background`, whose tasks never wait for each other; they may wait for `shard_pool` and
// the store, which must be other pools. A drive that goes offline is recorded durably within
// `tick`, or before the next write's outcome if that comes first. Thread-safe.

#include <memory>

#include "objectd/volume/collector.h"
#include "objectd/volume/fsck_drives.h"
#include "objectd/volume/local_cluster.h"
#include "objectd/volume/mirror_keeper.h"
#include "objectd/volume/repair.h"
#include "objectd/volume/scrub.h"
#include "objectd/volume/storage_nodes.h"
#include "objectd/volume/volume_table.h"
#include "rdma/wire/control.h"

namespace perigee::objectd {

struct VolumeManagerOptions {
  VolumeTable::Options table;
  Repair::Options repair;
  Collector::Options collector;
  Scrub::Options scrub;
  Nanos tick = kSecond;  // drives are looked at
  Nanos collect_every = 5 * kSecond;
};

struct VolumeManagerDeps {
  kv::Store* store = nullptr;
  kv::RocksStore* mirrors = nullptr;  // the same store where it has mirrors; may be null
  DriveSet* drives = nullptr;
  StorageNodes* nodes = nullptr;  // with drives of their own; may be null
  Scheduler* background = nullptr;
  Scheduler* shard_pool = nullptr;
  Clock* clock = nullptr;
  std::shared_ptr<rdma::SlabPool> slabs;
  metrics::Registry* metrics = nullptr;
  std::string node_name;  // of the namespace node, for people

  DriveCatalog* all() const {
    return nodes != nullptr ? static_cast<DriveCatalog*>(nodes) : drives;
  }
};

class VolumeManager {
 public:
  static Result<std::unique_ptr<VolumeManager>> Create(VolumeManagerOptions options,
                                                       VolumeManagerDeps deps);
  ~VolumeManager() { Stop(); }

  void Start();
  void Stop();  // waits for running tasks; no call may come after

  LocalCluster& cluster() { return cluster_; }
  VolumeTable& table() { return *table_; }
  DriveSet& drives() { return *deps_.drives; }
  const std::shared_ptr<rdma::SlabPool>& slabs() const { return deps_.slabs; }

  // Formats a new drive in the directory of a lost one and begins to fill it. Errors as
  // DriveSet::Replace.
  Result<wire::DriveInfo> DriveReplace(const std::string& dir);
  void KickRepair();

  // As StorageNodes::Report, with what it says of drives recorded when it returns.
  Result<wire::NodeReportReply> NodeReport(const wire::NodeReportRequest& report);
  wire::NodeListReply ListNodes() const;
  // Errors as wire::NodeChangeRequest says.
  Result<wire::StorageNodeInfo> ChangeNode(const wire::NodeChangeRequest& request);
  wire::ScrubReport DoScrub(const wire::ScrubRequest& request) { return scrub_.Do(request); }
  Result<wire::FsckReply> Fsck(const wire::FsckRequest& request) { return fsck_.Run(request); }
  // All but addresses, preflight and the counters of others.
  void FillStatus(wire::ObjectdStatusReply* reply);
  // Of objects, not of drives: what is usable at the cluster's profile.
  SpaceInfo Space() const;

  // One look at the drives; what the tick does. Public for tests and for `perigee heal`.
  Status WatchDrives();
  Result<bool> CollectOnce() { return collector_.RunOnce(); }

 private:
  VolumeManager(VolumeManagerOptions options, VolumeManagerDeps deps,
                std::unique_ptr<VolumeTable> table);
  void After(Nanos delay, Task task);
  void Tick();
  void Collect();
  void KeepMirrors();
  void TendNodes();
  void EndDrain(const StorageNodes::Member& member);
  Status CheckDrain(const StorageNodes::Member& member) const;
  wire::StorageNodeInfo Describe(const StorageNodes::Member& member) const;

  const VolumeManagerOptions options_;
  const VolumeManagerDeps deps_;
  std::shared_ptr<TaskGate> gate_ = std::make_shared<TaskGate>();
  std::unique_ptr<VolumeTable> table_;
  LocalCluster cluster_, repair_cluster_;
  std::unique_ptr<client::BlobReader> reader_;
  Repair repair_;
  Scrub scrub_;
  DriveFsck fsck_;
  Collector collector_;
  MirrorKeeper mirrors_;
  std::atomic<bool> keeping_mirrors_ = false;
};

}  // namespace perigee::objectd
