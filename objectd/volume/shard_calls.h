#pragma once
// ShardCalls: the calls for single shards (rdma/wire/shard.h, node.h) and for many at once
// (shard_batch.h), on an RPC router: kShardWrite, kShardRead, kShardBatch, and kDriveDelete where
// shards are deleted by call. One set of functions does what all of them ask.

#include <functional>
#include <memory>

#include "client/blob/shard_io.h"
#include "rdma/rpc.h"
#include "rdma/wire/shard_batch.h"

namespace perigee::objectd {

// Thread-safe; they block. `traffic` is that of the call: for calls made for it.
struct ShardCalls {
  // Durable on return. `lent`: the piece that the bytes lie in, and their owner
  // (Drive::WriteShard).
  std::function<Status(const wire::ShardWriteRequest&, ConstBytes bytes,
                       std::shared_ptr<const rdma::Piece> lent, rdma::TrafficClass traffic)>
      write;
  std::function<Result<client::ShardData>(const wire::ShardReadRequest&,
                                          rdma::TrafficClass traffic)>
      read;
  // As Drive::ReadShardInto.
  std::function<Result<wire::ShardHeader>(const wire::ShardReadRequest&, MutableBytes to,
                                          rdma::TrafficClass traffic)>
      read_into;
  std::function<Status(const wire::ShardName&)> remove;  // may be null
};

// Nodes only. All run on `pool`; a batch's operations side by side. Replies of batches lie in
// `slabs`.
void RegisterShardCalls(rdma::Router& router, ShardCalls calls, Scheduler* pool,
                        std::shared_ptr<rdma::SlabPool> slabs);

}  // namespace perigee::objectd
