#include "rdma/rpc.h"

#include <unistd.h>

#include <string>

namespace perigee::rdma {

namespace {

// A control socket is 0600: whoever the kernel says is this daemon's own user, or root, owns the
// daemon anyway and needs no cluster secret. Only `local` has credentials that the kernel vouches
// for.
bool Allowed(Access access, const Peer& peer) {
  if (access == Access::kAnyone || peer.role == Role::kNode) return true;
  return peer.provider == "local" && (peer.uid == 0 || peer.uid == geteuid());
}

void Serve(ServerCall& call, const Router::Raw& raw) {
  Context ctx{call.peer(), call.bulk(), call.deadline(), {}, {}, call.traffic()};
  Result<std::string> reply = raw(ctx, call.header());
  if (!reply.ok()) {
    call.Fail(reply.status());
    return;
  }
  call.Reply(Payload{std::move(*reply), std::move(ctx.reply_bulk), std::move(ctx.reply_fds)});
}

}  // namespace

void Router::AddRaw(wire::Method method, Access access, Scheduler* where, Raw raw) {
  AddDeferred(
      method, access, where,
      [raw = std::move(raw)](const std::shared_ptr<ServerCall>& call) { Serve(*call, raw); });
}

void Router::AddDeferred(wire::Method method, Access access, Scheduler* where, Deferred serve) {
  auto index = static_cast<size_t>(method);
  PERIGEE_CHECK(index < entries_.size());
  PERIGEE_CHECK(!entries_[index].serve);
  entries_[index] = Entry{access, where == nullptr ? nullptr : ByClass(where), std::move(serve),
                          entries_[index].lent};
}

std::shared_ptr<ClassPool> Router::ByClass(Scheduler* where) {
  std::shared_ptr<ClassPool>& pool = pools_[where];
  if (!pool) pool = ClassPool::Create(where);
  return pool;
}

void Router::OnCall(std::unique_ptr<ServerCall> call) {
  auto index = static_cast<size_t>(call->method());
  if (index >= entries_.size() || !entries_[index].serve) {
    call->Fail(Status(Code::kUnimplemented, "no such method: " + std::to_string(index)));
    return;
  }
  const Entry& entry = entries_[index];
  if (!Allowed(entry.access, call->peer())) {
    call->Fail(Status(Code::kPermissionDenied,
                      "method " + std::to_string(index) + " is for nodes of the cluster only"));
    return;
  }
  std::shared_ptr<ServerCall> shared = std::move(call);
  if (entry.where == nullptr) {
    entry.serve(std::move(shared));
    return;
  }
  Status posted = entry.where->Post(shared->traffic(), [shared, &entry] {
    // Nobody waits for it any more: an overloaded pool catches up by not doing it.
    if (entry.where->clock().Monotonic() >= shared->deadline()) {
      shared->Fail(Status(Code::kDeadlineExceeded, "the call waited past its deadline"));
      return;
    }
    entry.serve(shared);
  });
  if (!posted.ok()) shared->Fail(posted.With("this method's pool"));
}

}  // namespace perigee::rdma
