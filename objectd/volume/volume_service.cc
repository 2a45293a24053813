#include "objectd/volume/volume_service.h"

#include "base/failpoint.h"
#include "rdma/wire/meta.h"

namespace perigee::objectd {

using rdma::Access;
using rdma::Context;
using wire::Method;

void RegisterVolumeService(rdma::Router& router, VolumeManager& volumes, Scheduler* meta_pool,
                           Scheduler* shard_pool) {
  LocalCluster& cluster = volumes.cluster();
  router.Add<wire::Empty>(Method::kVolumeMap, Access::kNodesOnly, meta_pool,
                          [&cluster](Context&, wire::Empty) -> Result<wire::VolumeMapReply> {
                            PERIGEE_ASSIGN(auto map, cluster.Map());
                            wire::VolumeMapReply reply;
                            reply.epoch = map->epoch;
                            reply.volumes = map->volumes;
                            reply.drives = map->drives;
                            return reply;
                          });
  router.Add<wire::LeaseRequest>(
      Method::kVolumeLease, Access::kNodesOnly, meta_pool,
      [&cluster](Context&, wire::LeaseRequest q) { return cluster.Lease(q); });
  router.Add<wire::AddExtentsRequest>(
      Method::kVolumeAddExtents, Access::kNodesOnly, meta_pool,
      [&cluster](Context&, wire::AddExtentsRequest q) -> Result<wire::AddExtentsReply> {
        wire::AddExtentsReply reply;
        PERIGEE_ASSIGN(reply.list_id, cluster.AddExtents(q));
        return reply;
      });
  router.Add<wire::GetExtentsRequest>(
      Method::kMetaGetExtents, Access::kNodesOnly, meta_pool,
      [&cluster](Context&, wire::GetExtentsRequest q) { return cluster.GetExtents(q); });
  router.Add<wire::VolumeReportRequest>(
      Method::kVolumeReport, Access::kNodesOnly, meta_pool,
      [&cluster](Context&, wire::VolumeReportRequest q) -> Result<wire::Empty> {
        cluster.Report(q);
        return wire::Empty{};
      });
  router.TakeLent(Method::kShardWrite);
  router.Add<wire::ShardWriteRequest>(
      Method::kShardWrite, Access::kNodesOnly, shard_pool,
      [&cluster](Context& ctx, wire::ShardWriteRequest q) -> Result<wire::Empty> {
        PERIGEE_TRY(cluster.WriteLent(q.drive_id, q.shard, ctx.bulk, ctx.traffic));
        PERIGEE_FAILPOINT(shard_service_before_reply);
        return wire::Empty{};
      });
  router.Add<wire::ShardReadRequest>(
      Method::kShardRead, Access::kNodesOnly, shard_pool,
      [&cluster](Context& ctx, wire::ShardReadRequest q) -> Result<wire::ShardReadReply> {
        PERIGEE_ASSIGN(client::ShardData data, cluster.ReadFor(q, ctx.traffic));
        ctx.reply_bulk = std::move(data.bytes);
        wire::ShardReadReply reply;
        reply.shard = std::move(data.header);
        return reply;
      });
}

}  // namespace perigee::objectd
