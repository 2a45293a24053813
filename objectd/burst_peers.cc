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

Status RpcBurstPeers::Recall(wire::NodeId node, const std::vector<wire::FileId>& ids,
                             Nanos timeout) {
  PERIGEE_ASSIGN(std::shared_ptr<rdma::Channel> channel, channels_.To(node));
  auto reply =
      rdma::Call<wire::Empty>(*channel, wire::Method::kBurstRecall,
                              wire::BurstRecallRequest{.ids = ids}, {}, {.timeout = timeout});
  if (reply.ok()) return Status::Ok();
  channels_.Note(node, channel, reply.status());
  return std::move(reply).TakeStatus();
}

Status RpcBurstPeers::TakeDirectory(wire::NodeId node, wire::FileId dir, bool keep, Nanos timeout) {
  PERIGEE_ASSIGN(std::shared_ptr<rdma::Channel> channel, channels_.To(node));
  auto reply = rdma::Call<wire::Empty>(*channel, wire::Method::kBurstTakeDirectory,
                                       wire::BurstTakeDirectoryRequest{.dir = dir, .keep = keep},
                                       {}, {.timeout = timeout});
  if (reply.ok()) return Status::Ok();
  channels_.Note(node, channel, reply.status());
  return std::move(reply).TakeStatus();
}

Result<bool> RpcBurstPeers::Writes(wire::NodeId node, const wire::WriterOf& request,
                                   Nanos timeout) {
  PERIGEE_ASSIGN(std::shared_ptr<rdma::Channel> channel, channels_.To(node));
  auto reply = rdma::Call<wire::BurstWritesReply>(*channel, wire::Method::kBurstWrites, request, {},
                                                  {.timeout = timeout});
  if (reply.ok()) return reply->writes;
  channels_.Note(node, channel, reply.status());
  return std::move(reply).TakeStatus();
}

}  // namespace perigee::objectd
