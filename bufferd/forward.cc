#include "bufferd/forward.h"

#include "base/log.h"
#include "bufferd/burst_service.h"

namespace perigee::bufferd {

using wire::Method;

void Forward::Register(rdma::Router* router, Scheduler* pool) {
  Add<wire::LookupRequest>(router, pool, Method::kMetaLookup);
  Add<wire::GetAttrRequest>(router, pool, Method::kMetaGetAttr);
  Add<wire::ReadDirRequest>(router, pool, Method::kMetaReadDir);
  Add<wire::MakeRequest>(router, pool, Method::kMetaMkdir);
  Add<wire::MakeRequest>(router, pool, Method::kMetaSymlink);
  Add<wire::MakeRequest>(router, pool, Method::kMetaMknod);
  Add<wire::RemoveRequest>(router, pool, Method::kMetaUnlink);
  Add<wire::RemoveRequest>(router, pool, Method::kMetaRmdir);
  Add<wire::RenameRequest>(router, pool, Method::kMetaRename);
  Add<wire::LinkRequest>(router, pool, Method::kMetaLink);
  Add<wire::SetAttrRequest>(router, pool, Method::kMetaSetAttr);
  Add<wire::XattrRequest>(router, pool, Method::kMetaSetXattr);
  Add<wire::XattrRequest>(router, pool, Method::kMetaRemoveXattr);
  Add<wire::Empty>(router, pool, Method::kMetaStatFs);
  // These carry no caller to check: for the mount, the CLI and root only.
  for (Method m :
       {Method::kMetaSync, Method::kMetaReadInline, Method::kMetaGetExtents,
        Method::kMetaCreateBucket, Method::kControlObjectdStatus, Method::kControlObjectdScrub,
        Method::kControlObjectdFsck, Method::kNodeList, Method::kNodeChange})
    AddTrusted(router, pool, m);
}

template <class Request>
void Forward::Add(rdma::Router* router, Scheduler* pool, Method method) {
  router->AddRaw(
      method, rdma::Access::kAnyone, pool,
      [this, method](rdma::Context& ctx, std::string_view header) -> Result<std::string> {
        if (Trusted(ctx.peer)) return Send(ctx, method, std::string(header));
        PERIGEE_ASSIGN(Request q, wire::Decode<Request>(header));
        if constexpr (requires { q.caller; }) q.caller = client::StampCaller(ctx.peer, q.caller);
        if constexpr (std::is_same_v<Request, wire::MakeRequest>) {
          q.uid = ctx.peer.uid;
          q.gid = ctx.peer.gid;
          q.id = 0;
        }
        return Send(ctx, method, wire::Encode(q));
      });
}

void Forward::AddTrusted(rdma::Router* router, Scheduler* pool, Method method) {
  router->AddRaw(
      method, rdma::Access::kAnyone, pool,
      [this, method](rdma::Context& ctx, std::string_view header) -> Result<std::string> {
        if (!Trusted(ctx.peer))
          return Status(Code::kPermissionDenied,
                        "this is for root and for the user that bufferd runs as");
        return Send(ctx, method, std::string(header));
      });
}

Result<std::string> Forward::Send(rdma::Context& ctx, Method method, std::string header) {
  Nanos left = std::max<Nanos>(kMillisecond, ctx.deadline - engine_.core().clock->Monotonic());
  Names* names = engine_.core().names;
  bool here = false;
  const rdma::CallOptions options{.timeout = left, .traffic = ctx.traffic};
  auto payload = names ? names->Ask(method, header, ctx.bulk.span(), options, &here)
                       : meta_.channel().CallAndWait(method, header, ctx.bulk.span(), options);
  if (!payload.ok()) return std::move(payload).TakeStatus();
  // What was changed here alone is freed once objectd has let go of it, too.
  if (!here || method == Method::kMetaSetAttr) Note(method, header, payload->header);
  ctx.reply_bulk = std::move(payload->bulk);
  return std::move(payload->header);
}

// objectd has done it; what fails here costs space or a time stamp, not the call.
void Forward::Note(Method method, std::string_view request, std::string_view reply) {
  if (method == Method::kMetaUnlink) {
    auto removed = wire::Decode<wire::RecordReply>(reply);
    if (removed.ok()) engine_.OnUnlinked(removed->record);
  } else if (method == Method::kMetaRename) {
    auto renamed = wire::Decode<wire::RenameReply>(reply);
    auto asked = wire::Decode<wire::RenameRequest>(request);
    if (renamed.ok() && asked.ok() && renamed->replaced &&
        (asked->flags & wire::kRenameExchange) == 0)
      engine_.OnUnlinked(*renamed->replaced);
  } else if (method == Method::kMetaSetAttr) {
    auto asked = wire::Decode<wire::SetAttrRequest>(request);
    auto record = wire::Decode<wire::RecordReply>(reply);
    if (!asked.ok() || !record.ok() || !asked->set_mtime) return;
    Status s = engine_.SetMtime(record->record.id, record->record.mtime);
    if (!s.ok() && !s.Is(Code::kNotFound))
      log::Warn("mtime_not_set", {{"file", HexEncode64(record->record.id)}, {"error", s}});
  }
}

}  // namespace perigee::bufferd
