#pragma once
// ShardBatch: one kShardBatch being served (rdma/wire/shard_batch.h). Its operations are tasks of
// the pool, each with its own outcome; the last to end answers. A read lands in the reply itself,
// whose memory is taken before the first begins. Thread rule: each operation touches only its own
// part.

#include <atomic>
#include <memory>
#include <optional>
#include <vector>

#include "objectd/volume/shard_calls.h"

namespace perigee::objectd {

class ShardBatch final : public std::enable_shared_from_this<ShardBatch> {
 public:
  // On a task of `pool`, whose class its parts have. Answers the call, there or later.
  static void Serve(std::shared_ptr<rdma::ServerCall> call, std::shared_ptr<const ShardCalls> calls,
                    std::shared_ptr<rdma::ClassPool> pool,
                    const std::shared_ptr<rdma::SlabPool>& slabs);

  // Whether a request is one batch that may be done, with that much bulk.
  static Status Check(const wire::ShardBatchRequest& request, size_t bulk_bytes);

 private:
  ShardBatch(std::shared_ptr<rdma::ServerCall> call, std::shared_ptr<const ShardCalls> calls,
             std::shared_ptr<rdma::ClassPool> pool)
      : call_(std::move(call)), calls_(std::move(calls)), pool_(std::move(pool)) {}
  Status Prepare(rdma::SlabPool& slabs);
  void RunAll();
  void Run(size_t index);
  Status Do(size_t index);
  Status Read(size_t index);
  void Answer();

  const std::shared_ptr<rdma::ServerCall> call_;
  const std::shared_ptr<const ShardCalls> calls_;
  const std::shared_ptr<rdma::ClassPool> pool_;
  wire::ShardBatchRequest request_;
  std::vector<uint64_t> offsets_;  // of each write in the request's bulk, each read in the reply's
  std::vector<wire::ShardOutcome> outcomes_;
  std::vector<wire::ShardReadReply> reads_;
  rdma::Piece reply_bulk_;
  std::atomic<size_t> pending_ = 0;
};

}  // namespace perigee::objectd
