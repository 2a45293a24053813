#include "objectd/volume/shard_calls.h"

#include <utility>

#include "base/failpoint.h"
#include "objectd/volume/shard_batch.h"

namespace perigee::objectd {

using rdma::Access;
using rdma::Context;
using wire::Method;

void RegisterShardCalls(rdma::Router& router, ShardCalls calls, Scheduler* pool,
                        std::shared_ptr<rdma::SlabPool> slabs) {
  calls.write = [write = std::move(calls.write)](const wire::ShardWriteRequest& q, ConstBytes bytes,
                                                 std::shared_ptr<const rdma::Piece> lent,
                                                 rdma::TrafficClass traffic) -> Status {
    PERIGEE_TRY(write(q, bytes, std::move(lent), traffic));
    PERIGEE_FAILPOINT(shard_service_before_reply);
    return Status::Ok();
  };
  router.TakeLent(Method::kShardWrite);
  router.Add<wire::ShardWriteRequest>(
      Method::kShardWrite, Access::kNodesOnly, pool,
      [write = calls.write](Context& ctx, wire::ShardWriteRequest q) -> Result<wire::Empty> {
        auto bulk = std::make_shared<const rdma::Piece>(std::move(ctx.bulk));
        PERIGEE_TRY(write(q, bulk->span(), bulk, ctx.traffic));
        return wire::Empty{};
      });
  router.Add<wire::ShardReadRequest>(
      Method::kShardRead, Access::kNodesOnly, pool,
      [read = calls.read](Context& ctx, wire::ShardReadRequest q) -> Result<wire::ShardReadReply> {
        PERIGEE_ASSIGN(client::ShardData data, read(q, ctx.traffic));
        ctx.reply_bulk = std::move(data.bytes);
        return wire::ShardReadReply{.shard = std::move(data.header)};
      });
  if (calls.remove) {
    router.Add<wire::ShardName>(
        Method::kDriveDelete, Access::kNodesOnly, pool,
        [remove = calls.remove](Context&, wire::ShardName q) -> Result<wire::Empty> {
          PERIGEE_TRY(remove(q));
          return wire::Empty{};
        });
  }
  router.TakeLent(Method::kShardBatch);
  router.AddDeferred(
      Method::kShardBatch, Access::kNodesOnly, pool,
      [calls = std::make_shared<const ShardCalls>(std::move(calls)), pool = router.ByClass(pool),
       slabs = std::move(slabs)](std::shared_ptr<rdma::ServerCall> call) {
        ShardBatch::Serve(std::move(call), calls, pool, slabs);
      });
}

}  // namespace perigee::objectd
