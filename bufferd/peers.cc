#include "bufferd/peers.h"

#include "rdma/rpc.h"

namespace perigee::bufferd {

Result<std::shared_ptr<rdma::Channel>> RpcPeers::ChannelOf(wire::NodeId node) {
  {
    std::lock_guard lock(mu_);
    if (auto it = channels_.find(node); it != channels_.end()) return it->second;
  }
  auto where = rdma::Call<wire::GetNodeReply>(*objectd_, wire::Method::kMetaGetNode,
                                              wire::GetNodeRequest{.node = node});
  if (!where.ok()) {
    return Status(Code::kUnavailable, "the address of node " + HexEncode64(node) +
                                          " is not known: " + where.status().message());
  }
  PERIGEE_ASSIGN(std::shared_ptr<rdma::Channel> channel, transport_->Connect(where->address));
  std::lock_guard lock(mu_);
  return channels_.emplace(node, channel).first->second;
}

Status RpcPeers::Read(wire::NodeId node, const wire::BurstReadRequest& request, MutableBytes out) {
  PERIGEE_ASSIGN(auto channel, ChannelOf(node));
  auto reply = rdma::CallFull<wire::Empty>(*channel, wire::Method::kBurstRead, request);
  if (!reply.ok()) {
    if (reply.code() == Code::kUnavailable) {
      // It may have come back elsewhere.
      std::lock_guard lock(mu_);
      channels_.erase(node);
    }
    return std::move(reply).TakeStatus();
  }
  if (reply->bulk.size() != out.size())
    return Status(Code::kCorrupt, "a node answered with fewer bytes than asked for");
  std::memcpy(out.data(), reply->bulk.data(), out.size());
  return Status::Ok();
}

void RpcPeers::Close() {
  std::lock_guard lock(mu_);
  for (auto& [node, channel] : channels_) channel->Close();
  channels_.clear();
}

}  // namespace perigee::bufferd
