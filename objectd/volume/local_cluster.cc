#include "objectd/volume/local_cluster.h"

namespace perigee::objectd {

Result<std::shared_ptr<const client::VolumeMap>> LocalCluster::Map(uint64_t) {
  // There is none newer: changes are in it before anyone can ask for them.
  return table_->Map();
}

Result<std::shared_ptr<Drive>> LocalCluster::Find(uint64_t drive_id) const {
  std::shared_ptr<Drive> drive = drives_->Find(drive_id);
  if (!drive) return Status(Code::kUnavailable, "drive " + HexEncode64(drive_id) + " is lost");
  return drive;
}

Status LocalCluster::WriteTo(uint64_t drive_id, const wire::ShardHeader& header, ConstBytes bytes,
                             const rdma::Piece* lent, rdma::TrafficClass traffic,
                             std::shared_ptr<const void> owner) {
  PERIGEE_ASSIGN(std::shared_ptr<Drive> drive, Find(drive_id));
  Status outcome = drive->WriteShard(header, bytes, lent, traffic, std::move(owner));
  if (outcome.ok() || drive->online()) return outcome;
  Status recorded =
      table_->SetDriveState(drive_id, wire::DriveState::kOffline, drive->offline_reason());
  // Not recorded: the map still has it online, and the writer must not count the blob as written.
  recorded.Ignore();
  return outcome;
}

Result<client::ShardData> LocalCluster::ReadFor(const wire::ShardReadRequest& request,
                                                rdma::TrafficClass traffic) {
  PERIGEE_ASSIGN(std::shared_ptr<Drive> drive, Find(request.drive_id));
  return drive->ReadShard(request, traffic);
}

Result<wire::ShardHeader> LocalCluster::ReadInto(const wire::ShardReadRequest& request,
                                                 MutableBytes to, rdma::TrafficClass traffic) {
  PERIGEE_ASSIGN(std::shared_ptr<Drive> drive, Find(request.drive_id));
  return drive->ReadShardInto(request, to, traffic);
}

void LocalCluster::Report(const wire::VolumeReportRequest& request) {
  if (reporter_) reporter_(request);
}

}  // namespace perigee::objectd
