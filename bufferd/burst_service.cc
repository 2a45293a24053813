#include "bufferd/burst_service.h"

#include <unistd.h>

#include "base/failpoint.h"
#include "base/log.h"
#include "bufferd/fsck.h"

namespace perigee::bufferd {

using rdma::Access;
using wire::Method;

bool Trusted(const rdma::Peer& peer) {
  return peer.role == rdma::Role::kNode || peer.uid == 0 || peer.uid == ::geteuid();
}

void BurstService::Register(rdma::Router* router,
                            std::function<void(wire::BufferdStatusReply*)> complete_status) {
  router->Add<wire::BurstOpenRequest>(
      Method::kBurstOpen, Access::kAnyone, pools_.slow,
      [this](Ctx& c, wire::BurstOpenRequest q) { return Open(c, std::move(q)); });
  router->Add<wire::BurstCreateRequest>(
      Method::kBurstCreate, Access::kAnyone, pools_.client,
      [this](Ctx& c, wire::BurstCreateRequest q) { return Create(c, std::move(q)); });
  router->Add<wire::BurstHandleRequest>(
      Method::kBurstRelease, Access::kAnyone, pools_.client,
      [this](Ctx& c, const wire::BurstHandleRequest& q) { return Release(c, q); });
  router->Add<wire::BurstHandleRequest>(
      Method::kBurstPublish, Access::kAnyone, pools_.client,
      [this](Ctx& c, const wire::BurstHandleRequest& q) { return Publish(c, q); });
  router->Add<wire::BurstHandleRequest>(
      Method::kBurstFsync, Access::kAnyone, pools_.slow,
      [this](Ctx& c, const wire::BurstHandleRequest& q) { return Fsync(c, q); });
  router->Add<wire::BurstTarget>(Method::kBurstSync, Access::kAnyone, pools_.slow,
                                 [this](Ctx& c, const wire::BurstTarget& q) -> Result<wire::Empty> {
                                   if (!Trusted(c.peer))
                                     return Status(Code::kPermissionDenied,
                                                   "syncing what is not open is for the mount");
                                   PERIGEE_TRY(engine_.Sync(q.id, c.deadline - 100 * kMillisecond));
                                   return wire::Empty{};
                                 });
  router->Add<wire::BurstEnsureRequest>(
      Method::kBurstEnsure, Access::kAnyone, pools_.slow,
      [this](Ctx& c, const wire::BurstEnsureRequest& q) { return Ensure(c, q); });
  router->Add<wire::BurstWriteRequest>(
      Method::kBurstWrite, Access::kAnyone, pools_.slow,
      [this](Ctx& c, const wire::BurstWriteRequest& q) { return Write(c, q); });
  router->Add<wire::BurstTruncateRequest>(
      Method::kBurstTruncate, Access::kAnyone, pools_.slow,
      [this](Ctx& c, const wire::BurstTruncateRequest& q) { return Truncate(c, q); });
  router->Add<wire::BurstReadRequest>(
      Method::kBurstRead, Access::kNodesOnly, pools_.peer,
      [this](Ctx& c, const wire::BurstReadRequest& q) { return Read(c, q); });
  router->Add<wire::WriterOf>(
      Method::kBurstWrites, Access::kNodesOnly, nullptr,
      [this](Ctx&, const wire::WriterOf& q) -> Result<wire::BurstWritesReply> {
        return wire::BurstWritesReply{.writes = engine_.Writes(q)};
      });
  // Whoever changed the files waits for this, and it waits for nothing.
  router->Add<wire::BurstRecallRequest>(
      Method::kBurstRecall, Access::kNodesOnly, nullptr,
      [this](Ctx&, const wire::BurstRecallRequest& q) -> Result<wire::Empty> {
        if (engine_.core().delegations && engine_.core().delegations->Recall(q.ids))
          return wire::Empty{};
        return Status(Code::kUnavailable, "an earlier process may have delegated them further");
      });
  router->Add<wire::BurstTakeDirectoryRequest>(
      Method::kBurstTakeDirectory, Access::kNodesOnly, pools_.told,
      [this](Ctx&, const wire::BurstTakeDirectoryRequest& q) -> Result<wire::Empty> {
        if (Names* names = engine_.core().names) PERIGEE_TRY(names->TakeDirectory(q.dir, q.keep));
        return wire::Empty{};
      });
  router->Add<wire::BurstWatchRequest>(
      Method::kBurstWatch, Access::kAnyone, pools_.watch,
      [this](Ctx& c, const wire::BurstWatchRequest& q) -> Result<wire::BurstWatchReply> {
        if (!Trusted(c.peer)) return Status(Code::kPermissionDenied, "watching is for the mount");
        return Watch(q);
      });
  router->Add<wire::ScrubRequest>(
      Method::kControlBufferdScrub, Access::kAnyone, pools_.client,
      [this](Ctx& c, const wire::ScrubRequest& q) -> Result<wire::ScrubReport> {
        if (!Trusted(c.peer))
          return Status(Code::kPermissionDenied,
                        "scrub is for root and for the user that bufferd runs as");
        return engine_.scrub().Do(q);
      });
  router->Add<wire::BurstFsckRequest>(
      Method::kControlBufferdFsck, Access::kAnyone, pools_.slow,
      [this](Ctx& c, const wire::BurstFsckRequest& q) -> Result<wire::BurstFsckReply> {
        if (!Trusted(c.peer))
          return Status(Code::kPermissionDenied,
                        "fsck is for root and for the user that bufferd runs as");
        return CheckStore(engine_.core(), engine_.recovery(), q);
      });
  router->Add<wire::Empty>(
      Method::kControlBufferdStatus, Access::kAnyone, pools_.client,
      [this, complete_status](Ctx&, const wire::Empty&) -> Result<wire::BufferdStatusReply> {
        wire::BufferdStatusReply status;
        engine_.FillStatus(&status);
        complete_status(&status);
        return status;
      });
  RegisterBatch(router);
  router->OnDisconnected([this](const rdma::Peer& peer) { OnDisconnected(peer); });
}

void BurstService::RegisterBatch(rdma::Router* router) {
  auto add = [&](Method method, bool anyone, auto fn) {
    router->Add<wire::BurstTarget>(
        method, Access::kAnyone, pools_.slow,
        [anyone, fn](Ctx& c, wire::BurstTarget q) -> decltype(fn(c, q)) {
          if (!Trusted(c.peer)) {
            if (!anyone)
              return Status(Code::kPermissionDenied,
                            "this is for root and for the user that bufferd runs as");
            if (q.id == 0 && q.path.empty())
              return Status(Code::kPermissionDenied, "name a file or a directory");
          }
          q.caller = client::StampCaller(c.peer, q.caller);
          return fn(c, q);
        });
  };
  add(Method::kBurstStat, true,
      [this](Ctx&, const wire::BurstTarget& q) { return batch_.Stat(q); });
  add(Method::kBurstFlush, true, [this](Ctx& c, const wire::BurstTarget& q) {
    return batch_.Flush(q, c.deadline - 100 * kMillisecond);
  });
  add(Method::kBurstWarm, true, [this](Ctx& c, const wire::BurstTarget& q) {
    return batch_.Warm(q, c.deadline - 100 * kMillisecond);
  });
  add(Method::kBurstEvict, false,
      [this](Ctx&, const wire::BurstTarget& q) { return batch_.Evict(q); });
  add(Method::kBurstPin, false, [this](Ctx&, const wire::BurstTarget& q) { return batch_.Pin(q); });
  add(Method::kBurstHold, false,
      [this](Ctx&, const wire::BurstTarget& q) { return batch_.Hold(q); });
}

Result<wire::BurstOpenReply> BurstService::Hand(Ctx& ctx, Opened opened, bool writable_fd,
                                                uint64_t known_page) {
  bool write = opened.access == wire::Access::kWrite;
  // Nobody would ever release it.
  if (engine_.core().clock->Monotonic() >= ctx.deadline) {
    engine_.opener().Release(opened.file, opened.access);
    return Status(Code::kDeadlineExceeded, "the caller no longer waits for its file");
  }
  auto fd = engine_.store().Descriptor(opened.file->dir, opened.file->burst, write && writable_fd);
  if (!fd.ok()) {
    engine_.opener().Release(opened.file, opened.access);
    return std::move(fd).TakeStatus();
  }
  wire::BurstOpenReply reply;
  reply.handle = handles_.Add(ctx.peer.connection, {opened.file, opened.access});
  if (reply.handle == 0) {
    engine_.opener().Release(opened.file, opened.access);
    return Status(Code::kCancelled, "the client is gone");
  }
  reply.burst = opened.file->burst;
  reply.kind = opened.kind;
  reply.record = std::move(opened.record);
  reply.size = opened.size;
  reply.low_space = write && engine_.budget().Low();
  ctx.reply_fds.push_back(std::move(*fd));
  if (opened.delegation) {
    if (opened.delegation->page != known_page) {
      auto page = engine_.core().delegations->page().Descriptor();
      if (page.ok()) ctx.reply_fds.push_back(std::move(*page));
    }
    reply.delegation = std::move(opened.delegation);
  }
  return reply;
}

Result<wire::BurstOpenReply> BurstService::Open(Ctx& ctx, wire::BurstOpenRequest q) {
  if ((q.id == 0) == q.path.empty()) return Status(Code::kInvalidArgument, "give an id or a path");
  if (q.access != wire::Access::kRead && q.access != wire::Access::kWrite)
    return Status(Code::kInvalidArgument, "access is for reading or for writing");
  OpenAsk ask{.caller = client::StampCaller(ctx.peer, q.caller),
              .id = q.id,
              .path = q.path,
              .access = q.access,
              .truncate = q.truncate && q.access == wire::Access::kWrite,
              .expect_burst = q.expect_burst,
              .wait_fill = Nanos{q.wait_fill_ms} * kMillisecond,
              .deadline = ctx.deadline,
              .want_delegation = q.want_delegation && q.id != 0 &&
                                 q.access == wire::Access::kRead && Trusted(ctx.peer)};
  PERIGEE_ASSIGN(Opened opened, engine_.opener().Open(ask));
  return Hand(ctx, std::move(opened), q.want_writable_fd, q.known_page);
}

Result<wire::BurstOpenReply> BurstService::Create(Ctx& ctx, wire::BurstCreateRequest q) {
  if ((q.parent == 0) == q.path.empty())
    return Status(Code::kInvalidArgument, "give a parent and a name, or a path");
  CreateAsk ask{.caller = client::StampCaller(ctx.peer, q.caller),
                .parent = q.parent,
                .name = q.name,
                .path = q.path,
                .replace = q.replace,
                .mode = q.mode & 07777,
                .uid = q.uid,
                .gid = q.gid,
                .deadline = ctx.deadline};
  if (!Trusted(ctx.peer)) {
    ask.uid = ctx.peer.uid;
    ask.gid = ctx.peer.gid;
  }
  PERIGEE_ASSIGN(Opened opened, engine_.opener().Create(ask));
  auto reply = Hand(ctx, std::move(opened), q.want_writable_fd, 0);
  PERIGEE_FAILPOINT(burst_create_before_reply);
  return reply;
}

Result<wire::BurstStatReply> BurstService::Release(Ctx& ctx, const wire::BurstHandleRequest& q) {
  PERIGEE_ASSIGN(Handle handle, handles_.Remove(ctx.peer.connection, q.handle));
  wire::BurstStatReply reply;
  {
    std::lock_guard lock(handle.file->mu);
    reply = handle.file->Describe();
  }
  engine_.opener().Release(handle.file, handle.access);
  return reply;
}

Result<wire::BurstStatReply> BurstService::Publish(Ctx& ctx, const wire::BurstHandleRequest& q) {
  PERIGEE_ASSIGN(Handle handle, handles_.Find(ctx.peer.connection, q.handle));
  // A reader has nothing to publish; its close is a no-op.
  if (handle.access == wire::Access::kWrite) PERIGEE_TRY(engine_.Publish(handle.file));
  PERIGEE_FAILPOINT(burst_publish_before_reply);
  return engine_.Describe(handle.file);
}

Result<wire::BurstStatReply> BurstService::Fsync(Ctx& ctx, const wire::BurstHandleRequest& q) {
  PERIGEE_ASSIGN(Handle handle, handles_.Find(ctx.peer.connection, q.handle));
  PERIGEE_TRY(engine_.Fsync(handle.file, q.durability, ctx.deadline - 100 * kMillisecond));
  PERIGEE_FAILPOINT(burst_fsync_before_reply);
  return engine_.Describe(handle.file);
}

Result<wire::Empty> BurstService::Ensure(Ctx& ctx, const wire::BurstEnsureRequest& q) {
  PERIGEE_ASSIGN(Handle handle, handles_.Find(ctx.peer.connection, q.handle));
  if (q.length > UINT64_MAX - q.offset) return Status(Code::kInvalidArgument, "range wraps");
  PERIGEE_TRY(
      engine_.filler().Ensure(handle.file, {q.offset, q.offset + q.length}, ctx.deadline, true));
  return wire::Empty{};
}

Result<wire::Empty> BurstService::Write(Ctx& ctx, const wire::BurstWriteRequest& q) {
  PERIGEE_ASSIGN(Handle handle, handles_.Find(ctx.peer.connection, q.handle));
  if (handle.access != wire::Access::kWrite)
    return Status(Code::kPermissionDenied, "not open for writing");
  if (q.offset > static_cast<uint64_t>(INT64_MAX) - ctx.bulk.size())
    return Status(Code::kTooLarge, "offset too large");
  if (ctx.bulk)
    PERIGEE_TRY(
        engine_.Write(handle.file, q.offset, ctx.bulk.span(), ctx.deadline - 100 * kMillisecond));
  return wire::Empty{};
}

Result<wire::BurstStatReply> BurstService::Truncate(Ctx& ctx, const wire::BurstTruncateRequest& q) {
  if (q.size > static_cast<uint64_t>(INT64_MAX)) return Status(Code::kTooLarge, "size too large");
  if (q.handle == 0) {
    PERIGEE_ASSIGN(FilePtr file,
                   engine_.opener().TruncateClosed(client::StampCaller(ctx.peer, q.caller), q.id,
                                                   q.size, ctx.deadline));
    return engine_.Describe(file);
  }
  PERIGEE_ASSIGN(Handle handle, handles_.Find(ctx.peer.connection, q.handle));
  if (handle.access != wire::Access::kWrite)
    return Status(Code::kPermissionDenied, "not open for writing");
  PERIGEE_TRY(engine_.opener().Truncate(handle.file, q.size));
  return engine_.Describe(handle.file);
}

Result<wire::Empty> BurstService::Read(Ctx& ctx, const wire::BurstReadRequest& q) {
  if (q.length > rdma::kPieceBytesMax)
    return Status(Code::kTooLarge,
                  "at most " + std::to_string(rdma::kPieceBytesMax) + " bytes a call");
  if (q.length == 0) {
    PERIGEE_TRY(engine_.ReadForPeer(q, {}));
    return wire::Empty{};
  }
  PERIGEE_ASSIGN(
      ctx.reply_bulk,
      slabs_->Allocate(q.length,
                       std::max<Nanos>(0, ctx.deadline - engine_.core().clock->Monotonic())));
  PERIGEE_TRY(engine_.ReadForPeer(q, ctx.reply_bulk.span()));
  return wire::Empty{};
}

Result<wire::BurstWatchReply> BurstService::Watch(const wire::BurstWatchRequest& q) {
  wire::BurstWatchReply reply;
  wire::FeedRequest feed{.after = q.after == 0 ? UINT64_MAX : q.after,
                         .wait_ms = q.after == 0 ? 0 : std::min<uint32_t>(q.wait_ms, 30'000)};
  auto got = engine_.core().feed->Feed(feed);
  if (!got.ok() && got.code() == Code::kResync) {
    got = engine_.core().feed->Feed({.after = UINT64_MAX});
    reply.resync = true;
  }
  if (!got.ok()) return std::move(got).TakeStatus();
  reply.next = q.after == 0 || reply.resync ? got->visible : got->next;
  if (!reply.resync) reply.changes = std::move(got->changes);
  return reply;
}

void BurstService::OnDisconnected(const rdma::Peer& peer) {
  auto release = [this, handles = std::make_shared<std::vector<Handle>>(
                            handles_.Disconnect(peer.connection))] {
    for (const Handle& h : *handles) engine_.opener().Release(h.file, h.access);
  };
  // Releasing may unlink: not on the transport's thread, unless everything is ending.
  if (!engine_.core().work->Post(release).ok()) release();
}

}  // namespace perigee::bufferd
