#pragma once
// RpcBurstPeers: calls to the nodes' burst buffers: reading what they hold (kBurstRead), taking
// delegations back (kBurstRecall), what they made in directories they hold (kBurstTakeDirectory),
// whether they still write a file (kBurstWrites). Thread-safe; blocks.

#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "objectd/s3/burst_source.h"
#include "rdma/node_channels.h"

namespace perigee::objectd {

class RpcBurstPeers final : public BurstPeers {
 public:
  struct Options {
    Nanos timeout = 10 * kSecond;  // of one read of at most 4 MiB
  };
  // `lookup`: the node table; kNotFound for a node that never registered.
  RpcBurstPeers(rdma::Transport& transport, rdma::NodeChannels::Lookup lookup);
  RpcBurstPeers(rdma::Transport& transport, rdma::NodeChannels::Lookup lookup, Options options);

  // Besides the contract's: kUnavailable also for nodes that are not known.
  Result<rdma::Piece> Read(wire::NodeId node, wire::BurstId burst, wire::FileId id,
                           uint64_t generation, uint64_t offset, uint32_t length) override;
  Status Recall(wire::NodeId node, const std::vector<wire::FileId>& ids, Nanos timeout);
  Status TakeDirectory(wire::NodeId node, wire::FileId dir, bool keep, Nanos timeout);
  Result<bool> Writes(wire::NodeId node, const wire::WriterOf& request, Nanos timeout);
  std::vector<wire::LinkInfo> Links() const { return channels_.Links(); }

 private:
  template <class Reply, class Request>
  Result<Reply> Ask(wire::NodeId node, wire::Method method, const Request& request, Nanos timeout);

  const Options options_;
  rdma::NodeChannels channels_;
};

}  // namespace perigee::objectd
