#include "objectd/volume/drive_service.h"

#include <utility>

#include "base/bytes.h"
#include "objectd/volume/shard_calls.h"
#include "rdma/wire/node.h"

namespace perigee::objectd {
namespace {

using rdma::Access;
using rdma::Context;
using wire::Method;

constexpr uint32_t kListMax = 4096;

Result<std::shared_ptr<Drive>> Find(const DriveServiceDeps& deps, uint64_t drive_id) {
  std::shared_ptr<Drive> drive = deps.find(drive_id);
  if (!drive) return Status(Code::kUnavailable, "drive " + HexEncode64(drive_id) + " is lost");
  return drive;
}

// Handlers get the drive that the request names.
template <class Request, class Fn>
void Add(rdma::Router& router, Method method, Scheduler* pool, const DriveServiceDeps& deps,
         Fn fn) {
  router.Add<Request>(
      method, Access::kNodesOnly, pool,
      [deps, fn](Context& ctx,
                 Request request) -> decltype(fn(ctx, request, std::declval<Drive&>())) {
        PERIGEE_ASSIGN(std::shared_ptr<Drive> drive, Find(deps, request.drive_id));
        return fn(ctx, request, *drive);
      });
}

ShardCalls ShardCallsOf(const DriveServiceDeps& deps) {
  return {.write = [deps](const wire::ShardWriteRequest& q, ConstBytes bytes,
                          std::shared_ptr<const rdma::Piece> lent,
                          rdma::TrafficClass traffic) -> Status {
            PERIGEE_ASSIGN(std::shared_ptr<Drive> drive, Find(deps, q.drive_id));
            Status outcome = drive->WriteShard(q.shard, bytes, lent.get(), traffic, lent);
            if (!outcome.ok() && !drive->online()) deps.failed(*drive);
            return outcome;
          },
          .read = [deps](const wire::ShardReadRequest& q,
                         rdma::TrafficClass traffic) -> Result<client::ShardData> {
            PERIGEE_ASSIGN(std::shared_ptr<Drive> drive, Find(deps, q.drive_id));
            return drive->ReadShard(q, traffic);
          },
          .read_into = [deps](const wire::ShardReadRequest& q, MutableBytes to,
                              rdma::TrafficClass traffic) -> Result<wire::ShardHeader> {
            PERIGEE_ASSIGN(std::shared_ptr<Drive> drive, Find(deps, q.drive_id));
            return drive->ReadShardInto(q, to, traffic);
          },
          .remove = [deps](const wire::ShardName& q) -> Status {
            PERIGEE_ASSIGN(std::shared_ptr<Drive> drive, Find(deps, q.drive_id));
            return drive->DeleteShard(q.blob, q.index);
          }};
}

}  // namespace

void RegisterDriveService(rdma::Router& router, DriveServiceDeps deps) {
  RegisterShardCalls(router, ShardCallsOf(deps), deps.shard_pool, deps.slabs);
  Add<wire::DriveListRequest>(
      router, Method::kDriveList, deps.shard_pool, deps,
      [](Context&, wire::DriveListRequest& q, Drive& drive) -> Result<wire::DriveListReply> {
        if (q.limit == 0 || q.limit > kListMax)
          return Status(Code::kInvalidArgument, "a list of that length");
        PERIGEE_ASSIGN(auto shards, drive.ListShards(q.first, q.limit));
        wire::DriveListReply reply;
        for (auto& [blob, index] : shards) {
          reply.blobs.push_back(std::move(blob));
          reply.indexes.push_back(index);
        }
        return reply;
      });
  Add<wire::ShardName>(router, Method::kDriveReindex, deps.slow_pool, deps,
                       [](Context&, wire::ShardName& q, Drive& drive) -> Result<wire::DriveCount> {
                         PERIGEE_ASSIGN(bool changed, drive.Reindex(q.blob, q.index));
                         return wire::DriveCount{.count = changed ? 1u : 0u};
                       });
  Add<wire::DriveAskRequest>(
      router, Method::kDriveBytes, deps.slow_pool, deps,
      [](Context&, wire::DriveAskRequest&, Drive& drive) -> Result<wire::DriveCount> {
        PERIGEE_ASSIGN(uint64_t bytes, drive.ShardBytes());
        return wire::DriveCount{.count = bytes};
      });
  Add<wire::DriveAskRequest>(
      router, Method::kDriveMend, deps.slow_pool, deps,
      [](Context&, wire::DriveAskRequest&, Drive& drive) -> Result<wire::DriveCount> {
        PERIGEE_ASSIGN(uint32_t mended, drive.MendHeaders());
        return wire::DriveCount{.count = mended};
      });
  Add<wire::DriveAskRequest>(
      router, Method::kDriveAudit, deps.slow_pool, deps,
      [](Context&, wire::DriveAskRequest& q, Drive& drive) -> Result<wire::DriveAuditReply> {
        PERIGEE_ASSIGN(SegmentAudit audit, drive.AuditSegment(q.after));
        wire::DriveAuditReply reply{.segment = audit.segment, .records = audit.records};
        for (const ShardKey& key : audit.unindexed) {
          reply.unindexed.blobs.push_back({.volume = key.volume, .seq = key.seq});
          reply.unindexed.indexes.push_back(key.index);
        }
        return reply;
      });
}

}  // namespace perigee::objectd
