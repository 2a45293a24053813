#pragma once
// What blob writers and readers need of the cluster: volumes, leases, and shards on drives. In
// bufferd this is RPC to objectd (client/blob/remote_cluster.h); in objectd the drives of the
// process itself (objectd/volume). Thread-safe.

#include <memory>
#include <vector>

#include "base/status.h"
#include "rdma/slab_pool.h"
#include "rdma/wire/meta.h"
#include "rdma/wire/shard.h"

namespace perigee::client {

struct VolumeMap {
  uint64_t epoch = 0;
  std::vector<wire::VolumeInfo> volumes;
  std::vector<wire::DriveInfo> drives;
  const wire::VolumeInfo* Find(uint32_t volume) const;
  const wire::DriveInfo* FindDrive(uint64_t drive_id) const;
};

struct ShardData {
  wire::ShardHeader header;
  rdma::Piece bytes;  // may be lent: ask Stands() after the last use
};

class Cluster {
 public:
  virtual ~Cluster() = default;
  // Cached; `not_older_than` asks for a newer one than the caller has (0: any).
  virtual Result<std::shared_ptr<const VolumeMap>> Map(uint64_t not_older_than = 0) = 0;
  virtual Result<wire::LeaseReply> Lease(const wire::LeaseRequest& request) = 0;
  virtual Result<uint64_t> AddExtents(const wire::AddExtentsRequest& request) = 0;  // the list's id
  virtual Result<wire::GetExtentsReply> GetExtents(const wire::GetExtentsRequest& request) = 0;
  // On stable storage when it returns ok. kUnavailable: the drive is away. `owner` keeps `bytes`: a
  // call that fails may leave them to a drive that hangs.
  virtual Status WriteShard(uint64_t drive_id, const wire::ShardHeader& header, ConstBytes bytes,
                            std::shared_ptr<const void> owner = nullptr) = 0;
  virtual Result<ShardData> ReadShard(const wire::ShardReadRequest& request) = 0;
  virtual void Report(const wire::VolumeReportRequest& request) = 0;  // best effort
};

}  // namespace perigee::client
