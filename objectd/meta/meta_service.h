#pragma once
// The namespace's calls (rdma/wire/meta.h) on an RPC router: all kMeta* methods but
// kMetaGetExtents, which is the volumes' (objectd/volume). For nodes only. Handlers run on `pool`;
// kMetaFeed, which waits, on deps.feed_pool.

#include <functional>
#include <memory>

#include "base/scheduler.h"
#include "objectd/meta/absent_writers.h"
#include "objectd/meta/namespace.h"
#include "objectd/meta/node_table.h"
#include "rdma/rpc.h"

namespace perigee::objectd {

struct MetaServiceDeps {
  struct Space {
    uint64_t total_bytes = 0, free_bytes = 0;  // for content, redundancy taken off
  };
  std::function<Result<Space>()> space;
  NodeTable* nodes = nullptr;
  Delegations* delegations = nullptr;  // null: there are none to renew
  // Called when a node has registered; what it leased as an earlier incarnation ends. May be null.
  std::function<Status(wire::NodeId node, uint64_t incarnation)> end_leases_before;
  AbsentWriters* writers = nullptr;  // null: what has a writer keeps it
  uint64_t cluster_id = 0;
  std::shared_ptr<rdma::SlabPool> slabs;  // for the bytes that ReadInline answers
  // One thread for each node that follows the feed; null: `pool`, and the feed answers at once
  // instead of waiting.
  Scheduler* feed_pool = nullptr;
  // For what nodes tell of the directories they hold, while calls on `pool` wait for it; null:
  // `pool`.
  Scheduler* told_pool = nullptr;
};

// What is passed must outlive the router's use.
void RegisterMetaService(rdma::Router& router, Namespace& ns, Scheduler* pool,
                         MetaServiceDeps deps);

}  // namespace perigee::objectd
