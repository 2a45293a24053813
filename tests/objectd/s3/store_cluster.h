#pragma once
// A Cluster whose shards are in memory (tests/client/fake_cluster.h) and whose leases and extent
// lists are in the store, where the namespace looks for them.

#include "objectd/kv/store.h"
#include "objectd/volume/reference.h"
#include "objectd/volume/reference_keys.h"
#include "tests/client/fake_cluster.h"

namespace perigee::objectd::s3::test {

class StoreCluster final : public client::Cluster {
 public:
  StoreCluster(kv::Store& store, std::shared_ptr<rdma::SlabPool> slabs)
      : store_(store), shards_(std::move(slabs)) {
    shards_.AddVolume(2, 1);
  }
  client::FakeCluster& shards() { return shards_; }

  Result<std::shared_ptr<const client::VolumeMap>> Map(uint64_t not_older_than) override {
    return shards_.Map(not_older_than);
  }
  Result<wire::LeaseReply> Lease(const wire::LeaseRequest& request) override {
    PERIGEE_ASSIGN(wire::LeaseReply reply, shards_.Lease(request));
    reply.expires = INT64_MAX;
    IntentRow row;
    row.volume = reply.volume.volume;
    row.first_seq = reply.first_seq;
    row.count = reply.count;
    PERIGEE_TRY(store_.RunDurable([&](kv::Transaction& txn) {
      txn.Put(IntentKey(reply.intent), IntentValue(row));
      return Status::Ok();
    }));
    return reply;
  }
  Result<uint64_t> AddExtents(const wire::AddExtentsRequest& request) override {
    uint64_t id = request.list_id ? request.list_id : next_list_.fetch_add(1);
    PERIGEE_TRY(store_.RunDurable([&](kv::Transaction& txn) {
      return AddListExtents(txn, id, request.extents, request.intents, INT64_MAX);
    }));
    return id;
  }
  Result<wire::GetExtentsReply> GetExtents(const wire::GetExtentsRequest& request) override {
    wire::GetExtentsReply reply;
    PERIGEE_TRY(store_.RunDurable([&](kv::Transaction& txn) -> Status {
      PERIGEE_ASSIGN(reply.extents,
                     ReadListExtents(txn, request.list_id, request.offset, request.limit));
      return Status::Ok();
    }));
    reply.end = reply.extents.size() < request.limit;
    return reply;
  }
  Status WriteShard(uint64_t drive, const wire::ShardHeader& header, ConstBytes bytes,
                    std::shared_ptr<const void> owner) override {
    return shards_.WriteShard(drive, header, bytes, std::move(owner));
  }
  Result<client::ShardData> ReadShard(const wire::ShardReadRequest& request) override {
    return shards_.ReadShard(request);
  }
  void Report(const wire::VolumeReportRequest& request) override { shards_.Report(request); }

 private:
  kv::Store& store_;
  client::FakeCluster shards_;
  std::atomic<uint64_t> next_list_{1};
};

}  // namespace perigee::objectd::s3::test
