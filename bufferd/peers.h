#pragma once
// RpcPeers: reads of other nodes' burst buffers by RPC. A node's address is asked of objectd
// (kMetaGetNode) and kept until a read fails. Thread-safe.

#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "bufferd/core.h"

namespace perigee::bufferd {

class RpcPeers final : public PeerPort {
 public:
  RpcPeers(rdma::Transport* transport, std::shared_ptr<rdma::Channel> objectd)
      : transport_(transport), objectd_(std::move(objectd)) {}
  Status Read(wire::NodeId node, const wire::BurstReadRequest& request, MutableBytes out) override;
  void Close();

 private:
  Result<std::shared_ptr<rdma::Channel>> ChannelOf(wire::NodeId node);

  rdma::Transport* const transport_;
  const std::shared_ptr<rdma::Channel> objectd_;
  std::mutex mu_;  // guards channels_
  std::map<wire::NodeId, std::shared_ptr<rdma::Channel>> channels_;
};

}  // namespace perigee::bufferd
