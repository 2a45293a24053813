#pragma once
// The volumes' and shards' calls (rdma/wire/shard.h) on an RPC router: kVolume*, kShard*, and
// kMetaGetExtents. Nodes only. Map, leases, extents and reports run on `meta_pool`, shard I/O on
// `shard_pool`.

#include "objectd/volume/volume_manager.h"
#include "rdma/rpc.h"

namespace perigee::objectd {

// `volumes` must outlive the router's last call.
void RegisterVolumeService(rdma::Router& router, VolumeManager& volumes, Scheduler* meta_pool,
                           Scheduler* shard_pool);

}  // namespace perigee::objectd
