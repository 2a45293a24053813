#include "objectd/volume/volume_manager.h"

#include <algorithm>

#include "base/log.h"

namespace perigee::objectd {
namespace {

constexpr Nanos kBusyPause = 10 * kMillisecond;

client::BlobIoDeps ReaderDeps(client::Cluster* cluster, const VolumeManagerDeps& deps,
                              wire::NodeId node) {
  client::BlobIoDeps io;
  io.cluster = cluster;
  io.shard_pool = deps.shard_pool;
  io.slabs = deps.slabs;
  io.metrics = deps.metrics;
  io.clock = deps.clock;
  io.node = node;
  return io;
}

}  // namespace

Result<std::unique_ptr<VolumeManager>> VolumeManager::Create(VolumeManagerOptions options,
                                                             VolumeManagerDeps deps) {
  PERIGEE_CHECK(deps.store && deps.drives && deps.background && deps.shard_pool && deps.clock &&
                deps.slabs);
  PERIGEE_ASSIGN(auto table,
                 VolumeTable::Create(options.table, deps.store, deps.all(), deps.clock));
  PERIGEE_TRY(deps.drives->ConfirmFormed());
  // Of this process's predecessor.
  PERIGEE_TRY(table->EndLeasesBefore(options.table.node, ~uint64_t{0}));
  std::unique_ptr<VolumeManager> manager(
      new VolumeManager(std::move(options), std::move(deps), std::move(table)));
  PERIGEE_TRY(manager->scrub_.Load());
  return manager;
}

VolumeManager::VolumeManager(VolumeManagerOptions options, VolumeManagerDeps deps,
                             std::unique_ptr<VolumeTable> table)
    : options_(std::move(options)),
      deps_(std::move(deps)),
      table_(std::move(table)),
      cluster_(deps_.all(), table_.get()),
      repair_cluster_(deps_.all(), table_.get(), rdma::TrafficClass::kRepair),
      reader_(client::BlobReader::Create(ReaderDeps(&repair_cluster_, deps_, options_.table.node))),
      repair_(options_.repair,
              Repair::Deps{deps_.store, deps_.all(), table_.get(), &repair_cluster_, reader_.get(),
                           deps_.background, gate_, deps_.metrics}),
      scrub_(options_.scrub, Scrub::Deps{deps_.store, deps_.all(), table_.get(), &repair_,
                                         deps_.background, gate_, deps_.metrics}),
      fsck_(DriveFsck::Deps{deps_.store, deps_.all(), table_.get(), &repair_, deps_.clock}),
      collector_(options_.collector, deps_.store, deps_.all(), table_.get(), deps_.clock,
                 [this](uint64_t drive) { repair_.Clear(drive); }),
      mirrors_(deps_.mirrors, deps_.drives, table_.get()) {
  auto report = [this](const wire::VolumeReportRequest& found) { repair_.Report(found); };
  cluster_.SetReporter(report);
  repair_cluster_.SetReporter(report);
}

void VolumeManager::Start() {
  // A power cut may have brought deleted shards back.
  for (const DriveSlot& slot : deps_.drives->Slots()) repair_.Clear(slot.drive_id);
  After(0, [this] { Tick(); });
  After(options_.collect_every, [this] { Collect(); });
  repair_.Kick();
  scrub_.Start();
}

void VolumeManager::Stop() { gate_->Close(); }

// Timers hold the gate, not this object: one that fires after Stop finds it closed.
void VolumeManager::After(Nanos delay, Task task) {
  deps_.background->PostAfter(delay, [gate = gate_, task = std::move(task)] {
    if (!gate->Enter()) return;
    task();
    gate->Leave();
  });
}

void VolumeManager::Tick() {
  if (Status watched = WatchDrives(); !watched.ok())
    log::Warn("drives_not_watched", {{"cause", watched}});
  if (!keeping_mirrors_.exchange(true) &&
      !PostInside(gate_, *deps_.background, [this] { KeepMirrors(); }))
    keeping_mirrors_ = false;
  repair_.Kick();
  scrub_.Tick();
  After(options_.tick, [this] { Tick(); });
}

Status VolumeManager::WatchDrives() {
  deps_.drives->Probe();
  if (deps_.nodes != nullptr) deps_.nodes->Watch();
  Status synced = table_->SyncWithDrives();
  table_->RefreshSpace();
  if (deps_.nodes == nullptr || !synced.ok()) return synced;
  TendNodes();
  return table_->CoverDrives();
}

void VolumeManager::KeepMirrors() {
  if (Status kept = mirrors_.RunOnce(); !kept.ok())
    log::Warn("mirror_not_added", {{"cause", kept}});
  keeping_mirrors_ = false;
}

void VolumeManager::Collect() {
  auto more = collector_.RunOnce();
  if (!more.ok()) log::Warn("garbage_not_collected", {{"cause", more.status()}});
  After(more.ok() && *more ? kBusyPause : options_.collect_every, [this] { Collect(); });
}

Result<wire::DriveInfo> VolumeManager::DriveReplace(const std::string& dir) {
  // The mirror on the old drive must be out before its identity goes.
  PERIGEE_TRY(WatchDrives());
  for (const DriveSlot& slot : deps_.drives->Slots()) {
    bool gone = !slot.drive || !slot.drive->online();
    if (gone && deps_.mirrors)
      PERIGEE_TRY(deps_.mirrors->EjectMirror(slot.drive_id, "its drive is replaced"));
  }
  PERIGEE_ASSIGN(DriveSlot slot, deps_.drives->Replace(dir));
  PERIGEE_TRY(WatchDrives());
  repair_.Kick();
  auto map = table_->Map();
  const wire::DriveInfo* info = map->FindDrive(slot.drive_id);
  if (info == nullptr) return Status(Code::kInternal, "the new drive is not in the volume map");
  return *info;
}

void VolumeManager::KickRepair() { repair_.Kick(); }

void VolumeManager::FillStatus(wire::ObjectdStatusReply* reply) {
  auto map = table_->Map();
  const Repair::Figures repair = repair_.figures();
  reply->cluster_id = deps_.drives->cluster_id();
  reply->k = deps_.drives->k();
  reply->m = deps_.drives->m();
  reply->drives = map->drives;
  reply->volumes = map->volumes;
  reply->volumes_to_repair = repair.volumes_to_repair;
  reply->blobs_to_repair = repair.blobs_to_repair;
  reply->repairing = repair.running || mirrors_.Missing();
  reply->garbage_blobs = collector_.rows_waiting();
  reply->mirrors = mirrors_.Describe();
  reply->drives_share_file_system = deps_.drives->SharesFileSystem();
  reply->storage = ListNodes();
  auto count = [&](const char* name, uint64_t value) {
    wire::NamedCount counter;
    counter.name = name;
    counter.value = value;
    reply->counters.push_back(std::move(counter));
  };
  count("shards_rebuilt", repair.shards_rebuilt);
  count("shard_bytes_rebuilt", repair.bytes_rebuilt);
  count("blobs_unrepairable", repair.blobs_unrepairable);
  count("blobs_freed", collector_.blobs_freed());
  count("reconciled_shards_removed", repair.garbage_removed);
}

SpaceInfo VolumeManager::Space() const {
  SpaceInfo raw;
  auto map = table_->Map();
  for (const wire::DriveInfo& drive : map->drives) {
    if (drive.state == wire::DriveState::kLost) continue;
    raw.total_bytes += drive.total_bytes;
    raw.free_bytes += drive.free_bytes;
  }
  const uint64_t k = deps_.drives->k(), width = k + deps_.drives->m();
  SpaceInfo usable;
  usable.total_bytes = raw.total_bytes / width * k;
  usable.free_bytes = raw.free_bytes / width * k;
  return usable;
}

}  // namespace perigee::objectd
