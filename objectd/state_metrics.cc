#include "objectd/state_metrics.h"

#include <map>
#include <utility>

namespace perigee::objectd {
namespace {

using metrics::Counter;
using metrics::Gauge;
using metrics::Registry;
using wire::DriveState;

class DriveMetrics {
 public:
  explicit DriveMetrics(Registry* registry) : registry_(registry) {
    for (DriveState state :
         {DriveState::kOnline, DriveState::kOffline, DriveState::kLost, DriveState::kRepairing}) {
      by_state_[state] = registry->GetGauge("perigee_drives", "Drives, by state",
                                            {{"state", std::string(wire::NameOf(state))}});
    }
  }

  void Set(const std::vector<wire::DriveInfo>& drives) {
    std::map<DriveState, uint64_t> count;
    // By directory, which has two entries while a replaced drive's volumes are moved.
    std::map<std::string, std::pair<uint64_t, uint64_t>> space;
    for (const wire::DriveInfo& drive : drives) {
      ++count[drive.state];
      auto& [total, free] = space[drive.dir];
      if (drive.state == DriveState::kLost) continue;
      total = drive.total_bytes;
      free = drive.free_bytes;
    }
    for (auto& [state, gauge] : by_state_) gauge->Set(static_cast<double>(count[state]));
    for (const auto& [dir, bytes] : space) {
      const metrics::Labels labels = {{"dir", dir}};
      registry_
          ->GetGauge("perigee_drive_size_bytes", "Size of a drive's file system, 0 when it is lost",
                     labels)
          ->Set(static_cast<double>(bytes.first));
      registry_->GetGauge("perigee_drive_free_bytes", "Bytes free on a drive", labels)
          ->Set(static_cast<double>(bytes.second));
    }
  }

 private:
  Registry* const registry_;
  std::map<DriveState, Gauge*> by_state_;
};

class NodeMetrics {
 public:
  explicit NodeMetrics(Registry* r)
      : registry_(r),
        nodes_(r->GetGauge("perigee_storage_nodes", "Nodes with drives, the namespace node too")),
        survived_(r->GetGauge("perigee_nodes_survived",
                              "Nodes that may be lost, whichever they are, without loss of data")),
        moves_(r->GetGauge("perigee_volume_moves", "Volumes with shards on their way elsewhere")) {}

  void Set(const wire::NodeListReply& list) {
    nodes_->Set(static_cast<double>(list.nodes.size()));
    survived_->Set(list.nodes_survived);
    moves_->Set(list.moves);
    std::map<std::string, Gauge*> heard;
    for (const wire::StorageNodeInfo& node : list.nodes) {
      Gauge*& gauge = heard[node.name];
      gauge = registry_->GetGauge("perigee_storage_node_heard", "1 while the storage node reports",
                                  {{"node", node.name}});
      gauge->Set(node.heard);
    }
    // One that was removed is missed by nobody.
    for (auto& [name, gauge] : heard_)
      if (!heard.contains(name)) gauge->Set(1);
    heard_ = std::move(heard);
  }

 private:
  Registry* const registry_;
  Gauge *const nodes_, *const survived_, *const moves_;
  std::map<std::string, Gauge*> heard_;
};

class RepairMetrics {
 public:
  explicit RepairMetrics(Registry* r)
      : volumes_(r->GetGauge("perigee_volumes", "Volumes")),
        to_repair_(
            r->GetGauge("perigee_volumes_to_repair", "Volumes with a drive that is not online")),
        blobs_(r->GetGauge("perigee_blobs_to_repair", "Blobs known to miss shards now")),
        running_(r->GetGauge("perigee_repair_running", "1 while repair works")),
        garbage_(r->GetGauge("perigee_garbage_rows",
                             "Garbage rows the collector's last round left, at most 64")),
        counters_{{"shards_rebuilt", r->GetCounter("perigee_repair_shards_rebuilt_total",
                                                   "Shards rebuilt by repair")},
                  {"shard_bytes_rebuilt", r->GetCounter("perigee_repair_rebuilt_bytes_total",
                                                        "Shard bytes rebuilt by repair")},
                  {"blobs_unrepairable",
                   r->GetCounter("perigee_repair_blobs_unrepairable_total",
                                 "Blobs with more shards bad or gone than the profile has parity")},
                  {"blobs_freed",
                   r->GetCounter("perigee_blobs_freed_total", "Blobs the collector freed")}} {}

  void Set(const wire::ObjectdStatusReply& status) {
    volumes_->Set(static_cast<double>(status.volumes.size()));
    to_repair_->Set(static_cast<double>(status.volumes_to_repair));
    blobs_->Set(static_cast<double>(status.blobs_to_repair));
    running_->Set(status.repairing);
    garbage_->Set(static_cast<double>(status.garbage_blobs));
    for (const wire::NamedCount& count : status.counters) {
      auto counter = counters_.find(count.name);
      if (counter != counters_.end()) Follow(counter->second, static_cast<double>(count.value));
    }
  }

 private:
  Gauge *const volumes_, *const to_repair_, *const blobs_, *const running_, *const garbage_;
  const std::map<std::string, Counter*> counters_;  // by their names in the status
};

}  // namespace

void ExposeState(Registry* registry, uint32_t mirrors_wanted,
                 std::function<wire::ObjectdStatusReply()> status) {
  registry->GetGauge("perigee_kv_mirrors_wanted", "Metadata mirrors there should be")
      ->Set(mirrors_wanted);
  auto* serving = registry->GetGauge("perigee_objectd_serving",
                                     "0: the metadata store is down, every request fails");
  auto* data = registry->GetGauge("perigee_profile_shards", "Shards of a stripe, by kind",
                                  {{"kind", "data"}});
  auto* parity = registry->GetGauge("perigee_profile_shards", "Shards of a stripe, by kind",
                                    {{"kind", "parity"}});
  auto* shared = registry->GetGauge("perigee_drives_share_file_system",
                                    "1: several drives lie on one file system");
  registry->OnCollect([=, drives = DriveMetrics(registry), repair = RepairMetrics(registry),
                       nodes = NodeMetrics(registry)]() mutable {
    const wire::ObjectdStatusReply now = status();
    serving->Set(now.unhealthy.empty());
    data->Set(now.k);
    parity->Set(now.m);
    shared->Set(now.drives_share_file_system);
    drives.Set(now.drives);
    repair.Set(now);
    nodes.Set(now.storage);
  });
}

}  // namespace perigee::objectd
