#pragma once
// LocalCluster: client::Cluster over this process's own drives and volume table: for the S3
// endpoint, repair, and the shard calls of other nodes (volume_service.h). A drive that fails a
// write is recorded offline, durably, before the caller learns of it: a writer may count its blob
// without that drive at once. Calls to other nodes' drives are of the class that was given.
// Thread-safe; blocks.

#include <functional>

#include "client/blob/shard_io.h"
#include "objectd/volume/volume_table.h"

namespace perigee::objectd {

class LocalCluster final : public client::Cluster {
 public:
  using Reporter = std::function<void(const wire::VolumeReportRequest&)>;
  LocalCluster(DriveCatalog* drives, VolumeTable* table,
               rdma::TrafficClass traffic = rdma::TrafficClass::kForeground)
      : drives_(drives), table_(table), traffic_(traffic) {}
  void SetReporter(Reporter reporter) { reporter_ = std::move(reporter); }  // before use

  Result<std::shared_ptr<const client::VolumeMap>> Map(uint64_t not_older_than = 0) override;
  Result<wire::LeaseReply> Lease(const wire::LeaseRequest& request) override {
    return table_->Lease(request);
  }
  Result<uint64_t> AddExtents(const wire::AddExtentsRequest& request) override {
    return table_->AddExtents(request);
  }
  Result<wire::GetExtentsReply> GetExtents(const wire::GetExtentsRequest& request) override {
    return table_->GetExtents(request);
  }
  Status WriteShard(uint64_t drive_id, const wire::ShardHeader& header, ConstBytes bytes,
                    std::shared_ptr<const void> owner) override {
    return WriteTo(drive_id, header, bytes, nullptr, traffic_, std::move(owner));
  }
  // The same for memory that may be lent (Drive::WriteShard), for a caller of this class.
  Status WriteLent(uint64_t drive_id, const wire::ShardHeader& header, ConstBytes bytes,
                   std::shared_ptr<const rdma::Piece> lent, rdma::TrafficClass traffic) {
    return WriteTo(drive_id, header, bytes, lent.get(), traffic, lent);
  }
  Result<client::ShardData> ReadShard(const wire::ShardReadRequest& request) override {
    return ReadFor(request, traffic_);
  }
  Result<client::ShardData> ReadFor(const wire::ShardReadRequest& request,
                                    rdma::TrafficClass traffic);
  // Drive::ReadShardInto.
  Result<wire::ShardHeader> ReadInto(const wire::ShardReadRequest& request, MutableBytes to,
                                     rdma::TrafficClass traffic);
  void Report(const wire::VolumeReportRequest& request) override;

 private:
  Status WriteTo(uint64_t drive_id, const wire::ShardHeader& header, ConstBytes bytes,
                 const rdma::Piece* lent, rdma::TrafficClass traffic,
                 std::shared_ptr<const void> owner);
  Result<std::shared_ptr<Drive>> Find(uint64_t drive_id) const;
  DriveCatalog* const drives_;
  VolumeTable* const table_;
  const rdma::TrafficClass traffic_;
  Reporter reporter_;
};

}  // namespace perigee::objectd
