#pragma once
// DriveService: the shard and drive calls of a storage node (rdma/wire/shard.h, shard_batch.h,
// node.h), on drives that `find` knows. Registered before the router serves.

#include <functional>
#include <memory>

#include "objectd/drive/drive.h"
#include "rdma/rpc.h"

namespace perigee::objectd {

struct DriveServiceDeps {
  std::function<std::shared_ptr<Drive>(uint64_t)> find;  // null: lost, or no drive of this node
  // A write took the drive offline: told before the writer is, who may then count without it.
  std::function<void(const Drive&)> failed;
  Scheduler* shard_pool = nullptr;  // writes and reads
  Scheduler* slow_pool = nullptr;   // what reads whole segments
  std::shared_ptr<rdma::SlabPool> slabs;
};
void RegisterDriveService(rdma::Router& router, DriveServiceDeps deps);

}  // namespace perigee::objectd
