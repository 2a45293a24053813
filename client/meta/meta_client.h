#pragma once
// MetaClient: the namespace's calls (rdma/wire/meta.h, where each is specified), typed, over one
// channel: to objectd from bufferd, and to bufferd, which forwards, from the mount, the CLI and
// Python.
//
// Every call has a deadline. Calls that change something are never repeated: after kUnavailable or
// kDeadlineExceeded they may have happened. Thread-safe; blocks (base/event.h).

#include <algorithm>
#include <memory>
#include <string>

#include "base/event.h"
#include "rdma/rpc.h"
#include "rdma/transport.h"
#include "rdma/wire/meta.h"

namespace perigee::client {

// Who a request that arrived from `peer` may claim to act for. Nodes, root, and the user this
// process runs as speak for others (the mount for its callers): their claim stands. Anybody else is
// himself, with permissions enforced and without supplementary groups, whatever he claimed.
wire::Caller StampCaller(const rdma::Peer& peer, const wire::Caller& claimed);

class MetaClient {
 public:
  struct Options {
    Nanos timeout = 30 * kSecond;
    Nanos durable_timeout = 60 * kSecond;  // of calls that wait for stable storage
    // How long calls that change nothing are repeated while the other side is away (a restart).
    Nanos reconnect_timeout = 0;
    rdma::TrafficClass traffic = rdma::TrafficClass::kForeground;  // of all calls
    wire::NodeId node = 0;  // Caller::node of all calls; 0: as they are
  };
  explicit MetaClient(std::shared_ptr<rdma::Channel> channel)
      : MetaClient(std::move(channel), Options()) {}
  MetaClient(std::shared_ptr<rdma::Channel> channel, Options options)
      : channel_(std::move(channel)), options_(options) {}

  // The same with calls of another class.
  MetaClient In(rdma::TrafficClass traffic) const {
    Options options = options_;
    options.traffic = traffic;
    return MetaClient(channel_, options);
  }

  Result<wire::RecordReply> Lookup(const wire::LookupRequest& q);
  Result<wire::RecordReply> GetAttr(const wire::GetAttrRequest& q);
  Result<wire::ReadDirReply> ReadDir(const wire::ReadDirRequest& q);
  Result<wire::RecordReply> Mkdir(const wire::MakeRequest& q);
  Result<wire::RecordReply> Rmdir(const wire::RemoveRequest& q);
  Result<wire::RecordReply> Unlink(const wire::RemoveRequest& q);
  Result<wire::RenameReply> Rename(const wire::RenameRequest& q);
  Result<wire::RecordReply> Symlink(const wire::MakeRequest& q);
  Result<wire::RecordReply> Link(const wire::LinkRequest& q);
  Result<wire::RecordReply> SetAttr(const wire::SetAttrRequest& q);
  Result<wire::RecordReply> SetXattr(const wire::XattrRequest& q);
  Result<wire::RecordReply> RemoveXattr(const wire::XattrRequest& q);
  Result<wire::RecordReply> Create(const wire::MakeRequest& q);
  Result<wire::RecordReply> OpenWrite(const wire::OpenWriteRequest& q);
  Result<wire::RecordReply> Publish(const wire::PublishRequest& q, ConstBytes inline_bytes = {});
  Result<wire::RecordReply> EndWrite(const wire::EndWriteRequest& q);
  // One code for each write that was asked for.
  Result<wire::EndWritesReply> EndWrites(const wire::EndWritesRequest& q);
  Result<wire::RecordReply> CommitFlush(const wire::CommitFlushRequest& q);
  Result<wire::RecordReply> SetDurability(const wire::SetDurabilityRequest& q);
  Result<std::string> ReadInline(const wire::ReadInlineRequest& q);
  Result<wire::StatFsReply> StatFs();
  Result<wire::ReserveIdsReply> ReserveIds(const wire::ReserveIdsRequest& q);
  Result<wire::FeedReply> Feed(const wire::FeedRequest& q);  // may take q.wait_ms longer
  Result<wire::RegisterNodeReply> RegisterNode(const wire::RegisterNodeRequest& q);
  Result<wire::GetExtentsReply> GetExtents(const wire::GetExtentsRequest& q);
  Result<wire::RecordReply> Mknod(const wire::MakeRequest& q);
  Status Sync() { return SyncedInstance().status(); }
  Result<uint64_t> SyncedInstance();  // which life of objectd did: another after each start
  Result<wire::RecordReply> ReclaimWriter(const wire::ReclaimWriterRequest& q);
  Result<wire::RecordReply> FallBack(const wire::FallBackRequest& q);
  Result<wire::RecordReply> CreateBucket(const wire::CreateBucketRequest& q);

  // Sends on a request of a local client, with `caller` stamped from its credentials where the
  // request has one.
  template <class Reply, class Request>
  Result<Reply> Forward(wire::Method method, Request request, const rdma::Peer& peer) {
    if constexpr (requires { request.caller; }) request.caller = StampCaller(peer, request.caller);
    return rdma::Call<Reply>(*channel_, method, request, {},
                             {.timeout = options_.timeout, .traffic = options_.traffic});
  }

  rdma::Channel& channel() { return *channel_; }

 private:
  static constexpr Nanos kPauseMin = 20 * kMillisecond, kPauseMax = 500 * kMillisecond;

  template <class Reply, class Request>
  Result<Reply> Ask(wire::Method method, const Request& request, Nanos timeout,
                    ConstBytes bulk = {}) {
    if constexpr (requires { request.caller.node; }) {
      if (options_.node != 0 && request.caller.node != options_.node) {
        Request own = request;
        own.caller.node = options_.node;
        return Ask<Reply>(method, own, timeout, bulk);
      }
    }
    return rdma::Call<Reply>(*channel_, method, request, bulk,
                             {.timeout = timeout, .traffic = options_.traffic});
  }
  // For calls that change nothing.
  template <class Reply, class Request>
  Result<Reply> Read(wire::Method method, const Request& request) {
    for (Nanos waited = 0, pause = kPauseMin;;
         waited += pause, pause = std::min(2 * pause, kPauseMax)) {
      Result<Reply> reply = Ask<Reply>(method, request, options_.timeout);
      if (!reply.status().Is(Code::kUnavailable) || waited >= options_.reconnect_timeout)
        return reply;
      Event never;
      never.WaitFor(pause);
    }
  }
  template <class Request>
  Result<wire::RecordReply> AskRecord(wire::Method method, const Request& request) {
    return Ask<wire::RecordReply>(method, request, options_.timeout);
  }

  std::shared_ptr<rdma::Channel> channel_;
  Options options_;
};

}  // namespace perigee::client
