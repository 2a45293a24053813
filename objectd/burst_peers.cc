#include "objectd/burst_peers.h"

#include "rdma/rpc.h"
#include "rdma/wire/burst.h"

namespace perigee::objectd {

RpcBurstPeers::RpcBurstPeers(std::function<rdma::Transport*(const std::string&)> transport_for,
                             AddressOf address_of, Options options)
    : transport_for_(std::move(transport_for)),
      address_of_(std::move(address_of)),
      options_(options) {}

RpcBurstPeers::RpcBurstPeers(rdma::Transport& transport, AddressOf address_of)
    : RpcBurstPeers([&transport](const std::string&) { return &transport; }, std::move(address_of),
                    Options()) {}

Result<rdma::Piece> RpcBurstPeers::Read(wire::NodeId node, wire::BurstId burst, wire::FileId id,
                                        uint64_t generation, uint64_t offset, uint32_t length) {
  PERIGEE_ASSIGN(std::shared_ptr<rdma::Channel> channel, ChannelTo(node));
  wire::BurstReadRequest request;
  request.burst = burst;
  request.id = id;
  request.generation = generation;
  request.offset = offset;
  request.length = length;
  auto reply = rdma::CallFull<wire::Empty>(*channel, wire::Method::kBurstRead, request, {},
                                           {.timeout = options_.timeout});
  if (!reply.ok()) {
    Code code = reply.code();
    if (code == Code::kUnavailable || code == Code::kDeadlineExceeded) Forget(node, channel);
    // A node that knows nothing of the file cannot be told from one that lost it: neither means
    // that the object is gone.
    if (code == Code::kNotFound) return Status(Code::kUnavailable, reply.status().message());
    return reply.status().With("burst file on node " + std::to_string(node));
  }
  if (reply->bulk.size() != length)
    return Status(Code::kUnavailable,
                  "node " + std::to_string(node) + " sent another length than asked for");
  return std::move(reply->bulk);
}

Status RpcBurstPeers::Recall(wire::NodeId node, const std::vector<wire::FileId>& ids,
                             Nanos timeout) {
  PERIGEE_ASSIGN(std::shared_ptr<rdma::Channel> channel, ChannelTo(node));
  auto reply =
      rdma::Call<wire::Empty>(*channel, wire::Method::kBurstRecall,
                              wire::BurstRecallRequest{.ids = ids}, {}, {.timeout = timeout});
  if (reply.code() == Code::kUnavailable || reply.code() == Code::kDeadlineExceeded)
    Forget(node, channel);
  return reply.ok() ? Status::Ok() : std::move(reply).TakeStatus();
}

Result<std::shared_ptr<rdma::Channel>> RpcBurstPeers::ChannelTo(wire::NodeId node) {
  {
    std::lock_guard lock(mu_);
    auto found = channels_.find(node);
    if (found != channels_.end()) return found->second;
  }
  Result<std::string> address = address_of_(node);
  if (!address.ok())
    return Status(Code::kUnavailable,
                  "node " + std::to_string(node) + ": " + address.status().message());
  rdma::Transport* transport = transport_for_(*address);
  if (!transport) return Status(Code::kUnavailable, "no transport for " + *address);
  PERIGEE_ASSIGN(std::shared_ptr<rdma::Channel> channel, transport->Connect(*address));
  std::lock_guard lock(mu_);
  return channels_.emplace(node, std::move(channel)).first->second;
}

void RpcBurstPeers::Forget(wire::NodeId node, const std::shared_ptr<rdma::Channel>& channel) {
  std::lock_guard lock(mu_);
  auto found = channels_.find(node);
  if (found != channels_.end() && found->second == channel) channels_.erase(found);
}

}  // namespace perigee::objectd
