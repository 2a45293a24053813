#pragma once
// Typed calls over a Channel, and the dispatch of a server's methods to handlers on schedulers.
//
//   Result<Reply> r = rpc::Call<wire::LookupReply>(*channel, wire::Method::kMetaLookup, request);
//   router.Add<wire::LookupRequest>(wire::Method::kMetaLookup, pool, [&](const Context& ctx,
//   wire::LookupRequest q)
//       -> Result<wire::LookupReply> {...});
// Of the calls that wait for a scheduler the higher traffic class goes first.
// Thread rule: Router is built, then immutable; handlers run concurrently on their scheduler.

#include <array>
#include <functional>
#include <map>
#include <memory>
#include <utility>

#include "rdma/class_pool.h"
#include "rdma/transport.h"
#include "rdma/wire/codec.h"

namespace perigee::rdma {

template <class Reply>
struct TypedReply {
  Reply message;
  Piece bulk;
  std::vector<OwnedFd> fds;
};

// A call whose reply may carry bulk or descriptors.
template <class Reply, class Request>
Result<TypedReply<Reply>> CallFull(Channel& channel, wire::Method method, const Request& request,
                                   ConstBytes bulk = {}, CallOptions options = {}) {
  PERIGEE_ASSIGN(Payload payload,
                 channel.CallAndWait(method, wire::Encode(request), bulk, options));
  PERIGEE_ASSIGN(Reply message, wire::Decode<Reply>(payload.header));
  return TypedReply<Reply>{std::move(message), std::move(payload.bulk), std::move(payload.fds)};
}

template <class Reply, class Request>
Result<Reply> Call(Channel& channel, wire::Method method, const Request& request,
                   ConstBytes bulk = {}, CallOptions options = {}) {
  PERIGEE_ASSIGN(TypedReply<Reply> full,
                 (CallFull<Reply>(channel, method, request, bulk, options)));
  return std::move(full.message);
}

// What a handler may ask of its call besides the message.
struct Context {
  const Peer& peer;
  Piece& bulk;
  Nanos deadline;
  // Filled by the handler to go with its reply.
  Piece reply_bulk;
  std::vector<OwnedFd> reply_fds;
  TrafficClass traffic = TrafficClass::kForeground;  // as the caller said: for calls made for it
};

// kNodesOnly: Role::kNode, or on `local` this process's own user or root (by the kernel; control
// sockets are 0600). Others get kPermissionDenied.
enum class Access { kAnyone, kNodesOnly };

class Router final : public Handler {
 public:
  using Raw = std::function<Result<std::string>(Context& ctx, std::string_view header)>;

  // `where` null: on the provider's thread; for handlers that neither block nor take long.
  void AddRaw(wire::Method method, Access access, Scheduler* where, Raw raw);

  template <class Request, class Fn>
  void Add(wire::Method method, Access access, Scheduler* where, Fn fn) {
    AddRaw(method, access, where,
           [fn = std::move(fn)](Context& ctx, std::string_view header) -> Result<std::string> {
             PERIGEE_ASSIGN(Request request, wire::Decode<Request>(header));
             auto reply = fn(ctx, std::move(request));
             if (!reply.ok()) return std::move(reply).TakeStatus();
             return wire::Encode(*reply);
           });
  }
  // For what is answered later, by whoever has the call then.
  using Deferred = std::function<void(std::shared_ptr<ServerCall> call)>;
  void AddDeferred(wire::Method method, Access access, Scheduler* where, Deferred serve);

  // The threads of `where`, as its methods' calls have them: for the parts of one.
  std::shared_ptr<ClassPool> ByClass(Scheduler* where);

  // That method's handlers look at ctx.bulk.Stands() before they act on what they read.
  void TakeLent(wire::Method method) { entries_[static_cast<size_t>(method)].lent = true; }
  void OnDisconnected(std::function<void(const Peer&)> fn) { on_disconnect_ = std::move(fn); }

  void OnCall(std::unique_ptr<ServerCall> call) override;
  void OnDisconnect(const Peer& peer) override {
    if (on_disconnect_) on_disconnect_(peer);
  }
  bool TakesLent(wire::Method method) const override {
    auto index = static_cast<size_t>(method);
    return index < entries_.size() && entries_[index].lent;
  }

 private:
  struct Entry {
    Access access = Access::kNodesOnly;
    std::shared_ptr<ClassPool> where;
    Deferred serve;
    bool lent = false;
  };
  std::map<Scheduler*, std::shared_ptr<ClassPool>> pools_;
  std::array<Entry, wire::kMethodCount> entries_;
  std::function<void(const Peer&)> on_disconnect_;
};

}  // namespace perigee::rdma
