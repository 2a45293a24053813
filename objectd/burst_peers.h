#pragma once
// RpcBurstPeers: calls to the nodes' burst buffers: reading what they hold (kBurstRead), taking
// delegations back (kBurstRecall). One channel per node, kept. A node's address may change when it
// comes back: an address that does not answer is looked up again by the next read. Thread-safe;
// blocks.

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "base/clock.h"
#include "objectd/s3/burst_source.h"
#include "rdma/transport.h"

namespace perigee::objectd {

class RpcBurstPeers final : public BurstPeers {
 public:
  // The node table: kNotFound for a node that never registered.
  using AddressOf = std::function<Result<std::string>(wire::NodeId node)>;
  struct Options {
    Nanos timeout = 10 * kSecond;  // of one read of at most 4 MiB
  };

  // `transport_for` gives the transport for an address ("local:...", "tls:..."), or null.
  RpcBurstPeers(std::function<rdma::Transport*(const std::string& address)> transport_for,
                AddressOf address_of, Options options);
  RpcBurstPeers(rdma::Transport& transport,
                AddressOf address_of);  // one transport for all, default options

  // Besides the contract's: kUnavailable also for nodes that are not known.
  Result<rdma::Piece> Read(wire::NodeId node, wire::BurstId burst, wire::FileId id,
                           uint64_t generation, uint64_t offset, uint32_t length) override;
  Status Recall(wire::NodeId node, const std::vector<wire::FileId>& ids, Nanos timeout);

 private:
  Result<std::shared_ptr<rdma::Channel>> ChannelTo(wire::NodeId node);
  void Forget(wire::NodeId node, const std::shared_ptr<rdma::Channel>& channel);

  const std::function<rdma::Transport*(const std::string&)> transport_for_;
  const AddressOf address_of_;
  const Options options_;
  std::mutex mu_;  // guards channels_
  std::map<wire::NodeId, std::shared_ptr<rdma::Channel>> channels_;
};

}  // namespace perigee::objectd
