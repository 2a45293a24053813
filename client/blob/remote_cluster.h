#pragma once
// RemoteCluster: the Cluster as seen over the network, from objectd's volume calls and from the
// drives' nodes.
//
// The volume map is cached: one fetch at a time, again when older than map_age_max or when the
// caller asks for a newer epoch; while objectd is away the last map is still served. Shards go to
// their drive's address, over objectd's own channel where the address is empty or objectd's; what
// that node does not answer, or did not a moment ago (StorageDoor), goes to objectd, which passes
// it on. Small ones go together while a node is busy (shard_batcher.h); of the others a request's
// bulk inside the transport's slab pool is not copied. Nothing else is retried here: writer and
// reader decide. Thread-safe.

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/event.h"
#include "client/blob/shard_batcher.h"
#include "client/blob/shard_io.h"
#include "client/blob/storage_door.h"
#include "rdma/transport.h"
#include "rdma/wire/control.h"

namespace perigee::client {

class RemoteCluster final : public Cluster {
 public:
  struct Options {
    std::string objectd_address;  // "local:/run/perigee/objectd.sock"
    Nanos map_age_max = 2 * kSecond;
    Nanos control_timeout = 15 * kSecond;
    Nanos shard_timeout = 30 * kSecond;
    rdma::TrafficClass traffic = rdma::TrafficClass::kForeground;  // of all calls
  };
  struct Deps {
    rdma::Transport* transport = nullptr;    // connects to other nodes' drives
    std::shared_ptr<rdma::Channel> objectd;  // null: connected from objectd_address
    Clock* clock = nullptr;
    metrics::Registry* metrics = nullptr;  // may be null
  };
  static Result<std::unique_ptr<RemoteCluster>> Create(Deps deps, Options options);

  // The same with calls of another class. It shares the map and the channels of this one, which
  // must outlive it.
  std::unique_ptr<RemoteCluster> In(rdma::TrafficClass traffic);

  Result<std::shared_ptr<const VolumeMap>> Map(uint64_t not_older_than = 0) override;
  Result<wire::LeaseReply> Lease(const wire::LeaseRequest& request) override;
  Result<uint64_t> AddExtents(const wire::AddExtentsRequest& request) override;
  Result<wire::GetExtentsReply> GetExtents(const wire::GetExtentsRequest& request) override;
  Status WriteShard(uint64_t drive_id, const wire::ShardHeader& header, ConstBytes bytes,
                    std::shared_ptr<const void> owner = nullptr) override;
  Result<ShardData> ReadShard(const wire::ShardReadRequest& request) override;
  void Report(const wire::VolumeReportRequest& request) override;
  std::vector<wire::LinkInfo> Links() const;  // to the storage nodes that had shards, for status

 private:
  RemoteCluster(Deps deps, Options options, RemoteCluster* shared);
  Result<std::shared_ptr<const VolumeMap>> FetchMap();
  Result<std::shared_ptr<StorageDoor>> DoorOf(uint64_t drive_id);
  Result<ShardData> OnDrive(uint64_t drive_id, const ShardOperation& operation);

  const Deps deps_;
  const Options options_;
  RemoteCluster* const shared_;  // whose map and doors these are; null: its own
  const std::shared_ptr<ShardBatcher> batcher_;
  mutable std::mutex mu_;  // guards what follows
  CondVar fetched_;
  std::shared_ptr<const VolumeMap> map_;
  Nanos checked_at_ = 0;  // when a fetch last ended, well or not
  bool fetching_ = false;
  uint64_t fetches_begun_ = 0;
  uint64_t last_ended_ = 0;  // number of the last fetch that ended
  std::map<std::string, std::shared_ptr<StorageDoor>> doors_;  // by address
};

}  // namespace perigee::client
