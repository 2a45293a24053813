#include "objectd/meta/meta_service.h"

#include <cstring>
#include <utility>

#include "base/failpoint.h"
#include "base/random.h"

namespace perigee::objectd {
namespace {

using rdma::Access;
using rdma::Context;
using wire::Method;

constexpr Nanos kPieceWait = 10 * kSecond;

bool SpeaksFor(const Context& ctx, wire::NodeId node) {
  return ctx.peer.role != rdma::Role::kNode || ctx.peer.node_id == 0 || ctx.peer.node_id == node;
}

class MetaService {
 public:
  MetaService(rdma::Router& router, Namespace& ns, Scheduler* pool,
              std::shared_ptr<const MetaServiceDeps> deps)
      : router_(router), ns_(ns), pool_(pool), deps_(std::move(deps)) {}

  void RegisterAll() {
    Add(Method::kMetaLookup, &Namespace::Lookup);
    Add(Method::kMetaGetAttr, &Namespace::GetAttr);
    Add(Method::kMetaReadDir, &Namespace::ReadDir);
    Add(Method::kMetaMkdir, &Namespace::Mkdir);
    Add(Method::kMetaRmdir, &Namespace::Rmdir);
    Add(Method::kMetaUnlink, &Namespace::Unlink);
    Add(Method::kMetaRename, &Namespace::Rename);
    Add(Method::kMetaSymlink, &Namespace::Symlink);
    Add(Method::kMetaMknod, &Namespace::Mknod);
    Add(Method::kMetaLink, &Namespace::Link);
    Add(Method::kMetaSetAttr, &Namespace::SetAttr);
    Add(Method::kMetaSetXattr, &Namespace::SetXattr);
    Add(Method::kMetaRemoveXattr, &Namespace::RemoveXattr);
    Add(Method::kMetaCreate, &Namespace::CreateFile);
    Add(Method::kMetaOpenWrite, &Namespace::OpenWrite);
    Add(Method::kMetaEndWrite, &Namespace::EndWrite);
    Add(Method::kMetaEndWrites, &Namespace::EndWrites);
    Add(Method::kMetaCommitFlush, &Namespace::CommitFlush);
    Add(Method::kMetaSetDurability, &Namespace::SetDurability);
    Add(Method::kMetaFallBack, &Namespace::FallBack);
    Add(Method::kMetaReserveIds, &Namespace::ReserveIds);
    RegisterContent();
    RegisterHolds();
    RegisterFeed();
    RegisterCluster();
  }

 private:
  template <class Request, class Reply>
  void Add(Method method, Result<Reply> (Namespace::*call)(const Request&)) {
    router_.Add<Request>(method, Access::kNodesOnly, pool_,
                         [&ns = ns_, call](const Context& ctx, Request q) -> Result<Reply> {
                           // A node speaks for itself only.
                           if constexpr (requires { q.caller; }) {
                             if (!SpeaksFor(ctx, q.caller.node)) q.caller.node = 0;
                           }
                           PERIGEE_ASSIGN(Reply reply, (ns.*call)(q));
                           PERIGEE_FAILPOINT_STATUS(meta_before_reply);
                           return reply;
                         });
  }

  void RegisterContent() {
    router_.Add<wire::PublishRequest>(
        Method::kMetaPublish, Access::kNodesOnly, pool_,
        [&ns = ns_](const Context& ctx, wire::PublishRequest q) -> Result<wire::RecordReply> {
          PERIGEE_ASSIGN(wire::RecordReply reply,
                         ns.Publish(q, AsView(std::as_const(ctx.bulk).span())));
          PERIGEE_FAILPOINT_STATUS(meta_before_reply);
          return reply;
        });
    router_.Add<wire::ReadInlineRequest>(
        Method::kMetaReadInline, Access::kNodesOnly, pool_,
        [&ns = ns_, deps = deps_](Context& ctx, wire::ReadInlineRequest q) -> Result<wire::Empty> {
          PERIGEE_ASSIGN(std::string bytes, ns.ReadInline(q.id, q.generation));
          if (bytes.empty()) return wire::Empty{};
          PERIGEE_ASSIGN(ctx.reply_bulk, deps->slabs->Allocate(bytes.size(), kPieceWait));
          std::memcpy(ctx.reply_bulk.data(), bytes.data(), bytes.size());
          return wire::Empty{};
        });
    router_.Add<wire::ReclaimWriterRequest>(
        Method::kMetaReclaimWriter, Access::kNodesOnly, pool_,
        [writers = deps_->writers](const Context&,
                                   wire::ReclaimWriterRequest q) -> Result<wire::RecordReply> {
          if (!writers) return Status(Code::kBusy, "the file has a writer");
          return writers->Reclaim(q.id);
        });
    router_.Add<wire::Empty>(Method::kMetaSync, Access::kNodesOnly, pool_,
                             [&ns = ns_, instance = SecretU64()](
                                 const Context&, wire::Empty) -> Result<wire::SyncReply> {
                               PERIGEE_TRY(ns.Sync());
                               PERIGEE_FAILPOINT_STATUS(meta_before_reply);
                               return wire::SyncReply{.instance = instance};
                             });
  }

  // On threads of their own: those of pool_ may all be waiting for what is told here.
  void RegisterHolds() {
    Scheduler* where = deps_->told_pool ? deps_->told_pool : pool_;
    auto add = [&](Method method, auto request, auto call) {
      using Request = decltype(request);
      router_.Add<Request>(method, Access::kNodesOnly, where,
                           [call](const Context& ctx, Request q) -> decltype(call(ctx, q)) {
                             if (!SpeaksFor(ctx, q.node))
                               return Status(Code::kPermissionDenied, "a node speaks for itself");
                             auto reply = call(ctx, q);
                             PERIGEE_TRY(reply.status());
                             PERIGEE_FAILPOINT_STATUS(meta_before_reply);
                             return reply;
                           });
    };
    add(Method::kMetaHoldDirectory, wire::HoldDirectoryRequest(),
        [&ns = ns_](const Context&, const wire::HoldDirectoryRequest& q) {
          return ns.HoldDirectory(q);
        });
    add(Method::kMetaReleaseDirectories, wire::ReleaseDirectoriesRequest(),
        [&ns = ns_](const Context&,
                    const wire::ReleaseDirectoriesRequest& q) -> Result<wire::Empty> {
          PERIGEE_TRY(ns.ReleaseDirectories(q));
          return wire::Empty{};
        });
    add(Method::kMetaApply, wire::ApplyRequest(),
        [&ns = ns_](const Context& ctx, const wire::ApplyRequest& q) {
          return ns.Apply(q, AsView(std::as_const(ctx.bulk).span()));
        });
  }

  void RegisterFeed() {
    Scheduler* where = deps_->feed_pool ? deps_->feed_pool : pool_;
    const bool may_wait = deps_->feed_pool != nullptr;
    router_.Add<wire::FeedRequest>(
        Method::kMetaFeed, Access::kNodesOnly, where,
        [&ns = ns_, may_wait, writers = deps_->writers](
            const Context&, wire::FeedRequest q) -> Result<wire::FeedReply> {
          if (!may_wait) q.wait_ms = 0;
          if (writers && q.released_for != 0) writers->Heard(q.released_for);
          return ns.Feed(q);
        });
  }

  void RegisterCluster() {
    router_.Add<wire::Empty>(
        Method::kMetaStatFs, Access::kNodesOnly, pool_,
        [&ns = ns_, deps = deps_](const Context&, wire::Empty) -> Result<wire::StatFsReply> {
          wire::StatFsReply reply{.files = ns.FileCount(),
                                  .inline_bytes_max = ns.inline_bytes_max()};
          if (!deps->space) return reply;
          PERIGEE_ASSIGN(MetaServiceDeps::Space space, deps->space());
          reply.total_bytes = space.total_bytes;
          reply.free_bytes = space.free_bytes;
          return reply;
        });
    router_.Add<wire::RegisterNodeRequest>(
        Method::kMetaRegisterNode, Access::kNodesOnly, pool_,
        [&ns = ns_, deps = deps_](const Context& ctx,
                                  wire::RegisterNodeRequest q) -> Result<wire::RegisterNodeReply> {
          if (!SpeaksFor(ctx, q.node)) {
            return Status(Code::kPermissionDenied, "a node registers under its own id");
          }
          PERIGEE_TRY(deps->nodes->Register(q));
          if (deps->end_leases_before) PERIGEE_TRY(deps->end_leases_before(q.node, q.incarnation));
          PERIGEE_FAILPOINT_STATUS(meta_before_reply);
          return wire::RegisterNodeReply{.inline_bytes_max = ns.inline_bytes_max(),
                                         .cluster_id = deps->cluster_id};
        });
    router_.Add<wire::GetNodeRequest>(
        Method::kMetaGetNode, Access::kNodesOnly, pool_,
        [deps = deps_](const Context&, wire::GetNodeRequest q) -> Result<wire::GetNodeReply> {
          PERIGEE_ASSIGN(wire::RegisterNodeRequest node, deps->nodes->Find(q.node));
          return wire::GetNodeReply{.address = std::move(node.address),
                                    .name = std::move(node.name),
                                    .doors = std::move(node.doors)};
        });
    router_.Add<wire::RenewDelegationsRequest>(
        Method::kMetaRenewDelegations, Access::kNodesOnly, nullptr,
        [deps = deps_](const Context&, wire::RenewDelegationsRequest q) -> Result<wire::Empty> {
          if (!deps->delegations) return Status(Code::kUnimplemented, "no delegations here");
          PERIGEE_TRY(deps->delegations->Renew(q.node, q.none_held));
          return wire::Empty{};
        });
    router_.Add<wire::CreateBucketRequest>(
        Method::kMetaCreateBucket, Access::kNodesOnly, pool_,
        [&ns = ns_](const Context&, wire::CreateBucketRequest q) -> Result<wire::RecordReply> {
          PERIGEE_ASSIGN(wire::Record made, ns.CreateBucket(q));
          PERIGEE_FAILPOINT_STATUS(meta_before_reply);
          return wire::RecordReply{
              .record = std::move(made), .parent = wire::kRootId, .name = q.name};
        });
  }

  rdma::Router& router_;
  Namespace& ns_;
  Scheduler* const pool_;
  const std::shared_ptr<const MetaServiceDeps> deps_;
};

}  // namespace

void RegisterMetaService(rdma::Router& router, Namespace& ns, Scheduler* pool,
                         MetaServiceDeps deps) {
  MetaService(router, ns, pool, std::make_shared<const MetaServiceDeps>(std::move(deps)))
      .RegisterAll();
}

}  // namespace perigee::objectd
