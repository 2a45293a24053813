#include "objectd/burst_peers.h"

#include "rdma/rpc.h"
#include "rdma/wire/burst.h"

namespace perigee::objectd {

RpcBurstPeers::RpcBurstPeers(rdma::Transport& transport, rdma::NodeChannels::Lookup lookup,
                             Options options)
    : options_(options), channels_(transport, RealClock::Get(), std::move(lookup)) {}

RpcBurstPeers::RpcBurstPeers(rdma::Transport& transport, rdma::NodeChannels::Lookup lookup)
    : RpcBurstPeers(transport, std::move(lookup), Options()) {}

Result<rdma::Piece> RpcBurstPeers::Read(wire::NodeId node, wire::BurstId burst, wire::FileId id,
                                        uint64_t generation, uint64_t offset, uint32_t length) {
  PERIGEE_ASSIGN(std::shared_ptr<rdma::Channel> channel, channels_.To(node));
  wire::BurstReadRequest request;
  request.burst = burst;
  request.id = id;
  request.generation = generation;
  request.offset = offset;
  request.length = length;
  auto reply = rdma::CallFull<wire::Empty>(*channel, wire::Method::kBurstRead, request, {},
                                           {.timeout = options_.timeout});
  if (!reply.ok()) {
    channels_.Note(node, channel, reply.status());
    // A node that knows nothing of the file cannot be told from one that lost it: neither means
    // that the object is gone.
    if (reply.code() == Code::kNotFound)
      return Status(Code::kUnavailable, reply.status().message());
    return reply.status().With("burst file on node " + HexEncode64(node));
  }
  if (reply->bulk.size() != length)
    return Status(Code::kUnavailable,
                  "node " + HexEncode64(node) + " sent another length than asked for");
  return std::move(reply->bulk);
}

template <class Reply, class Request>
Result<Reply> RpcBurstPeers::Ask(wire::NodeId node, wire::Method method, const Request& request,
                                 Nanos timeout) {
  PERIGEE_ASSIGN(std::shared_ptr<rdma::Channel> channel, channels_.To(node));
  auto reply = rdma::Call<Reply>(*channel, method, request, {}, {.timeout = timeout});
  if (!reply.ok()) channels_.Note(node, channel, reply.status());
  return reply;
}

Status RpcBurstPeers::Recall(wire::NodeId node, const std::vector<wire::FileId>& ids,
                             Nanos timeout) {
  return Ask<wire::Empty>(node, wire::Method::kBurstRecall, wire::BurstRecallRequest{.ids = ids},
                          timeout)
      .status();
}

Status RpcBurstPeers::TakeDirectory(wire::NodeId node, wire::FileId dir, bool keep, Nanos timeout) {
  return Ask<wire::Empty>(node, wire::Method::kBurstTakeDirectory,
                          wire::BurstTakeDirectoryRequest{.dir = dir, .keep = keep}, timeout)
      .status();
}

Result<bool> RpcBurstPeers::Writes(wire::NodeId node, const wire::WriterOf& request,
                                   Nanos timeout) {
  PERIGEE_ASSIGN(auto reply,
                 Ask<wire::BurstWritesReply>(node, wire::Method::kBurstWrites, request, timeout));
  return reply.writes;
}

}  // namespace perigee::objectd
