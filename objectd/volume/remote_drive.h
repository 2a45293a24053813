#pragma once
// RemoteDrive: a drive of another node, as Drive. Shards and questions go there by RPC, small
// shards of a busy node's drives together (client/blob/shard_batcher.h); its state and space are
// what the node last reported. A write that the node does not answer takes it offline, until the
// next report, so that the writer may count without it; what else fails is only the request. Lists,
// deletions and audits are calls of kRepair. Its superblock is its node's own. Thread-safe; blocks.

#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "client/blob/shard_batcher.h"
#include "objectd/drive/drive.h"
#include "rdma/node_channels.h"
#include "rdma/rpc.h"
#include "rdma/wire/node.h"

namespace perigee::objectd {

class RemoteDrive final : public Drive {
 public:
  RemoteDrive(wire::NodeId node, uint64_t id, std::string dir,
              std::shared_ptr<rdma::NodeChannels> channels,
              std::shared_ptr<client::ShardBatcher> batcher);

  // What its node says of it.
  void Told(const wire::NodeDrive& report);

  uint64_t id() const override { return id_; }
  const std::string& dir() const override { return dir_; }
  bool online() const override;
  std::string offline_reason() const override;
  Superblock superblock() const override { return {}; }
  Status WriteSuperblock(const Superblock&) override;
  Result<Superblock> StoredSuperblock() override;

  Status WriteShard(const wire::ShardHeader& header, ConstBytes bytes, const rdma::Piece* lent,
                    rdma::TrafficClass traffic, std::shared_ptr<const void> owner) override;
  Result<client::ShardData> ReadShard(const wire::ShardReadRequest& request,
                                      rdma::TrafficClass traffic) override;
  Result<wire::ShardHeader> ReadShardInto(const wire::ShardReadRequest& request, MutableBytes to,
                                          rdma::TrafficClass traffic) override;
  Status DeleteShard(const wire::BlobId& blob, uint32_t index) override;
  Result<std::vector<std::pair<wire::BlobId, uint32_t>>> ListShards(const wire::BlobId& first,
                                                                    size_t limit) override;
  Result<uint64_t> ShardBytes() override;
  Result<SpaceInfo> Space() override;
  Result<SegmentAudit> AuditSegment(uint32_t after) override;
  Result<bool> Reindex(const wire::BlobId& blob, uint32_t index) override;
  Result<uint32_t> MendHeaders() override;
  void SetOffline(const std::string& reason) override;
  void Stop() override {}

 private:
  template <class Call>
  auto Reach(const Call& call)
      -> decltype(call(std::declval<const std::shared_ptr<rdma::Channel>&>()));
  template <class Reply, class Request>
  Result<Reply> Ask(wire::Method method, const Request& request);
  Result<client::ShardData> Run(const client::ShardOperation& operation,
                                rdma::TrafficClass traffic);
  Result<uint64_t> AskCount(wire::Method method);

  const wire::NodeId node_;
  const uint64_t id_;
  const std::string dir_;
  const std::shared_ptr<rdma::NodeChannels> channels_;
  const std::shared_ptr<client::ShardBatcher> batcher_;  // of all drives of these channels
  mutable std::mutex mu_;                                // guards what follows
  bool online_ = true;
  std::string reason_;
  SpaceInfo space_;
};

}  // namespace perigee::objectd
