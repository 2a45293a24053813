#pragma once
// BurstService: the kBurst* calls, over the engine. Local clients open, publish and release; nodes
// read.
//
// Peers that are not trusted (not a node, not root, not this daemon's own user) act as themselves
// with permission bits enforced, and may not evict, pin, hold or touch everything at once. Opens
// belong to their connection. Thread-safe after Register.

#include <functional>

#include "bufferd/batch.h"
#include "bufferd/engine.h"
#include "bufferd/handles.h"
#include "rdma/rpc.h"

namespace perigee::bufferd {

struct ServicePools {
  Scheduler* client = nullptr;  // create, publish, release, forwarded metadata
  Scheduler* slow = nullptr;    // may wait for fills, syncs and flushes
  Scheduler* peer = nullptr;    // other nodes' reads
  Scheduler* watch = nullptr;   // long polls
  // What objectd waits for while calls of this node may wait for objectd.
  Scheduler* told = nullptr;
};

bool Trusted(const rdma::Peer& peer);

class BurstService {
 public:
  BurstService(Engine& engine, std::shared_ptr<rdma::SlabPool> slabs, ServicePools pools)
      : engine_(engine), batch_(engine), slabs_(std::move(slabs)), pools_(pools) {}

  void Register(rdma::Router* router,
                std::function<void(wire::BufferdStatusReply*)> complete_status);
  size_t open_handles() const { return handles_.size(); }

 private:
  using Ctx = rdma::Context;
  Result<wire::BurstOpenReply> Open(Ctx& ctx, wire::BurstOpenRequest q);
  Result<wire::BurstOpenReply> Create(Ctx& ctx, wire::BurstCreateRequest q);
  Result<wire::BurstOpenReply> Hand(Ctx& ctx, Opened opened, bool writable_fd, uint64_t known_page);
  Result<wire::BurstStatReply> Release(Ctx& ctx, const wire::BurstHandleRequest& q);
  Result<wire::BurstStatReply> Publish(Ctx& ctx, const wire::BurstHandleRequest& q);
  Result<wire::BurstStatReply> Fsync(Ctx& ctx, const wire::BurstHandleRequest& q);
  Result<wire::Empty> Ensure(Ctx& ctx, const wire::BurstEnsureRequest& q);
  Result<wire::Empty> Write(Ctx& ctx, const wire::BurstWriteRequest& q);
  Result<wire::BurstStatReply> Truncate(Ctx& ctx, const wire::BurstTruncateRequest& q);
  Result<wire::Empty> Read(Ctx& ctx, const wire::BurstReadRequest& q);
  Result<wire::BurstWatchReply> Watch(const wire::BurstWatchRequest& q);
  void RegisterBatch(rdma::Router* router);
  void OnDisconnected(const rdma::Peer& peer);

  Engine& engine_;
  Batch batch_;
  Handles handles_;
  const std::shared_ptr<rdma::SlabPool> slabs_;
  const ServicePools pools_;
};

}  // namespace perigee::bufferd
