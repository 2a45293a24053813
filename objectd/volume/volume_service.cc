#include "objectd/volume/volume_service.h"

#include "objectd/volume/shard_calls.h"
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
  RegisterShardCalls(
      router,
      {.write =
           [&cluster](const wire::ShardWriteRequest& q, ConstBytes bytes,
                      std::shared_ptr<const rdma::Piece> lent, rdma::TrafficClass traffic) {
             return cluster.WriteLent(q.drive_id, q.shard, bytes, std::move(lent), traffic);
           },
       .read = [&cluster](const wire::ShardReadRequest& q,
                          rdma::TrafficClass traffic) { return cluster.ReadFor(q, traffic); },
       .read_into = [&cluster](
                        const wire::ShardReadRequest& q, MutableBytes to,
                        rdma::TrafficClass traffic) { return cluster.ReadInto(q, to, traffic); },
       .remove = nullptr},
      shard_pool, volumes.slabs());
}

}  // namespace perigee::objectd
