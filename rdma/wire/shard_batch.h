#pragma once
// kShardBatch: many small shard calls (shard.h, node.h) to one node as one. Each operation is what
// it is as a call of its own, and has its own outcome; they run at the same time, in no order, and
// the answer comes when the last is done.
//
// A batch changes (writes and deletes) or it reads: the bulk goes one way. What breaks that or a
// limit, or whose lengths are not those of its bulk, is refused whole (kInvalidArgument,
// kTooLarge), with nothing done.

#include <string>
#include <vector>

#include "base/status.h"
#include "rdma/slab_pool.h"
#include "rdma/wire/node.h"
#include "rdma/wire/shard.h"

namespace perigee::wire {

inline constexpr size_t kBatchOperationsMax = 256;
inline constexpr uint64_t kBatchBulkBytesMax = rdma::kPieceBytesMax;  // each way
// Of one shard's header in a reply, so that all have room; a longer one is answered kTooLarge, and
// is to be read by a call of its own.
inline constexpr size_t kBatchShardHeaderBytesMax = 3 << 10;
inline constexpr size_t kBatchMessageBytesMax = 256;  // of an error's; the rest is cut off

struct ShardBatchRequest {  // -> ShardBatchReply; bulk: the writes' shards, one after the other
  std::vector<ShardWriteRequest> writes;
  std::vector<uint64_t> write_bytes;  // as many as writes: the lengths of their shards
  std::vector<ShardName> deletes;
  std::vector<ShardReadRequest> reads;
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.writes);
    v(2, s.write_bytes);
    v(3, s.deletes);
    v(4, s.reads);
    v.Rest(s.unknown);
  }
};

struct ShardOutcome {
  Code code = Code::kOk;
  std::string message;
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.code);
    v(2, s.message);
    v.Rest(s.unknown);
  }
};

struct ShardBatchReply {  // bulk: what the reads that are ok asked for, one after the other
  std::vector<ShardOutcome> outcomes;  // of the writes, the deletes, the reads, in this order
  std::vector<ShardReadReply> reads;   // of those that are ok
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.outcomes);
    v(2, s.reads);
    v.Rest(s.unknown);
  }
};

}  // namespace perigee::wire
