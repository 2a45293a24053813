#include "bufferd/peers.h"

#include "rdma/rpc.h"

namespace perigee::bufferd {

RpcPeers::RpcPeers(rdma::Transport& transport, std::shared_ptr<rdma::Channel> objectd)
    : channels_(transport, RealClock::Get(), [objectd](wire::NodeId node) {
        return rdma::Call<wire::GetNodeReply>(*objectd, wire::Method::kMetaGetNode,
                                              wire::GetNodeRequest{.node = node});
      }) {}

Status RpcPeers::Read(wire::NodeId node, const wire::BurstReadRequest& request, MutableBytes out,
                      rdma::TrafficClass traffic) {
  PERIGEE_ASSIGN(auto channel, channels_.To(node));
  auto reply = rdma::CallFull<wire::Empty>(*channel, wire::Method::kBurstRead, request, {},
                                           {.traffic = traffic});
  if (!reply.ok()) {
    channels_.Note(node, channel, reply.status());
    return std::move(reply).TakeStatus();
  }
  if (reply->bulk.size() != out.size())
    return Status(Code::kCorrupt, "a node answered with fewer bytes than asked for");
  std::memcpy(out.data(), reply->bulk.data(), out.size());
  return Status::Ok();
}

}  // namespace perigee::bufferd
