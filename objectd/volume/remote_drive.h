#pragma once
// RemoteDrive: a drive of another node, as Drive. Shards and questions go there by RPC; its state
// and space are what the node last reported. A write that the node does not answer takes it
// offline, until the next report, so that the writer may count without it; what else fails is only
// the request. Lists, deletions and audits are calls of kRepair. Its superblock is its node's own.
// Thread-safe; blocks.

#include <memory>
#include <mutex>
#include <string>

#include "objectd/drive/drive.h"
#include "rdma/node_channels.h"
#include "rdma/rpc.h"
#include "rdma/wire/node.h"

namespace perigee::objectd {

class RemoteDrive final : public Drive {
 public:
  RemoteDrive(wire::NodeId node, uint64_t id, std::string dir,
              std::shared_ptr<rdma::NodeChannels> channels);

  // What its node says of it.
  void Told(const wire::NodeDrive& report);

  uint64_t id() const override { return id_; }
  const std::string& dir() const override { return dir_; }
  bool online() const override;
  std::string offline_reason() const override;
  Superblock superblock() const override { return {}; }
  Status WriteSuperblock(const Superblock&) override;

  Status WriteShard(const wire::ShardHeader& header, ConstBytes bytes, const rdma::Piece* lent,
                    rdma::TrafficClass traffic) override;
  Result<client::ShardData> ReadShard(const wire::ShardReadRequest& request,
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
  template <class Reply, class Request>
  Result<rdma::TypedReply<Reply>> Ask(wire::Method method, const Request& request,
                                      rdma::TrafficClass traffic = rdma::TrafficClass::kRepair,
                                      ConstBytes bulk = {});
  Result<uint64_t> AskCount(wire::Method method);

  const wire::NodeId node_;
  const uint64_t id_;
  const std::string dir_;
  const std::shared_ptr<rdma::NodeChannels> channels_;
  mutable std::mutex mu_;  // guards what follows
  bool online_ = true;
  std::string reason_;
  SpaceInfo space_;
};

}  // namespace perigee::objectd
