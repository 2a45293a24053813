#pragma once
// RpcPeers: reads of other nodes' burst buffers by RPC. A node's address is asked of objectd
// (kMetaGetNode). Thread-safe.

#include <memory>
#include <vector>

#include "bufferd/core.h"
#include "rdma/node_channels.h"

namespace perigee::bufferd {

class RpcPeers final : public PeerPort {
 public:
  RpcPeers(rdma::Transport& transport, std::shared_ptr<rdma::Channel> objectd);
  Status Read(wire::NodeId node, const wire::BurstReadRequest& request, MutableBytes out,
              rdma::TrafficClass traffic) override;
  std::vector<wire::LinkInfo> Links() const { return channels_.Links(); }
  void Close() { channels_.Close(); }

 private:
  rdma::NodeChannels channels_;
};

}  // namespace perigee::bufferd
