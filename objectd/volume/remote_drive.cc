#include "objectd/volume/remote_drive.h"

#include <algorithm>

#include "base/failpoint.h"

namespace perigee::objectd {
namespace {

using wire::Method;

constexpr Nanos kTimeout = 15 * kSecond;
constexpr size_t kListMax = 4096;

bool NotAnswered(const Status& status) {
  return status.Is(Code::kUnavailable) || status.Is(Code::kDeadlineExceeded);
}

}  // namespace

RemoteDrive::RemoteDrive(wire::NodeId node, uint64_t id, std::string dir,
                         std::shared_ptr<rdma::NodeChannels> channels,
                         std::shared_ptr<client::ShardBatcher> batcher)
    : node_(node),
      id_(id),
      dir_(std::move(dir)),
      channels_(std::move(channels)),
      batcher_(std::move(batcher)) {}

void RemoteDrive::Told(const wire::NodeDrive& report) {
  std::lock_guard lock(mu_);
  online_ = report.state == wire::DriveState::kOnline;
  reason_ = report.reason;
  if (report.total_bytes == 0) return;
  space_.total_bytes = report.total_bytes;
  space_.free_bytes = report.free_bytes;
}

bool RemoteDrive::online() const {
  std::lock_guard lock(mu_);
  return online_;
}

std::string RemoteDrive::offline_reason() const {
  std::lock_guard lock(mu_);
  return reason_;
}

void RemoteDrive::SetOffline(const std::string& reason) {
  std::lock_guard lock(mu_);
  if (!online_) return;
  online_ = false;
  reason_ = reason;
}

Status RemoteDrive::WriteSuperblock(const Superblock&) {
  return Status(Code::kUnimplemented, dir_ + ": the superblock is its node's own");
}

Result<Superblock> RemoteDrive::StoredSuperblock() {
  return Status(Code::kUnimplemented, dir_ + ": the superblock is its node's own");
}

template <class Call>
auto RemoteDrive::Reach(const Call& call)
    -> decltype(call(std::declval<const std::shared_ptr<rdma::Channel>&>())) {
  if (!online()) return Status(Code::kUnavailable, dir_ + " is offline: " + offline_reason());
  PERIGEE_ASSIGN(std::shared_ptr<rdma::Channel> channel, channels_->To(node_));
  auto reply = call(channel);
  if (!reply.ok()) {
    channels_->Note(node_, channel, reply.status());
    return std::move(reply).TakeStatus().With(dir_);
  }
  return reply;
}

template <class Reply, class Request>
Result<Reply> RemoteDrive::Ask(Method method, const Request& request) {
  return Reach([&](const std::shared_ptr<rdma::Channel>& channel) {
    return rdma::Call<Reply>(*channel, method, request, {},
                             {.timeout = kTimeout, .traffic = rdma::TrafficClass::kRepair});
  });
}

Result<client::ShardData> RemoteDrive::Run(const client::ShardOperation& operation,
                                           rdma::TrafficClass traffic) {
  return Reach([&](const std::shared_ptr<rdma::Channel>& channel) {
    return batcher_->Run(channel, operation, {.timeout = kTimeout, .traffic = traffic});
  });
}

Result<uint64_t> RemoteDrive::AskCount(Method method) {
  PERIGEE_ASSIGN(wire::DriveCount reply,
                 Ask<wire::DriveCount>(method, wire::DriveAskRequest{.drive_id = id_}));
  return reply.count;
}

Status RemoteDrive::WriteShard(const wire::ShardHeader& header, ConstBytes bytes,
                               const rdma::Piece* lent, rdma::TrafficClass traffic,
                               std::shared_ptr<const void>) {
  wire::ShardWriteRequest request{.drive_id = id_, .shard = header};
  PERIGEE_FAILPOINT_STATUS(remote_drive_before_write);
  auto reply = Run({&request, bytes}, traffic);
  if (reply.ok()) {
    // What was sent may not be what the peer meant: nothing of it counts then.
    if (lent != nullptr && !lent->Stands())
      return Status(Code::kUnavailable, "the shard's bytes were taken back while they were sent");
    return Status::Ok();
  }
  if (NotAnswered(reply.status())) SetOffline(reply.status().message());
  return std::move(reply).TakeStatus();
}

Result<client::ShardData> RemoteDrive::ReadShard(const wire::ShardReadRequest& request,
                                                 rdma::TrafficClass traffic) {
  return Run({&request}, traffic);
}

Result<wire::ShardHeader> RemoteDrive::ReadShardInto(const wire::ShardReadRequest& request,
                                                     MutableBytes to, rdma::TrafficClass traffic) {
  PERIGEE_ASSIGN(client::ShardData data, ReadShard(request, traffic));
  if (data.bytes.size() != to.size())
    return Status(Code::kCorrupt, dir_ + ": a reply of " + std::to_string(data.bytes.size()) +
                                      " bytes, not " + std::to_string(to.size()));
  std::copy_n(data.bytes.data(), to.size(), to.data());
  return std::move(data.header);
}

Status RemoteDrive::DeleteShard(const wire::BlobId& blob, uint32_t index) {
  const wire::ShardName name{.drive_id = id_, .blob = blob, .index = index};
  return Run({&name}, rdma::TrafficClass::kRepair).TakeStatus();
}

Result<std::vector<std::pair<wire::BlobId, uint32_t>>> RemoteDrive::ListShards(
    const wire::BlobId& first, size_t limit) {
  std::vector<std::pair<wire::BlobId, uint32_t>> all;
  wire::DriveListRequest request{.drive_id = id_, .first = first};
  request.limit = static_cast<uint32_t>(std::min(limit, kListMax));
  PERIGEE_ASSIGN(wire::DriveListReply list, Ask<wire::DriveListReply>(Method::kDriveList, request));
  if (list.blobs.size() != list.indexes.size() || list.blobs.size() > request.limit)
    return Status(Code::kCorrupt, dir_ + ": a list of shards that makes no sense");
  for (size_t i = 0; i < list.blobs.size(); i++) all.emplace_back(list.blobs[i], list.indexes[i]);
  return all;
}

Result<uint64_t> RemoteDrive::ShardBytes() { return AskCount(Method::kDriveBytes); }

Result<SpaceInfo> RemoteDrive::Space() {
  std::lock_guard lock(mu_);
  return space_;
}

Result<SegmentAudit> RemoteDrive::AuditSegment(uint32_t after) {
  PERIGEE_ASSIGN(wire::DriveAuditReply found,
                 Ask<wire::DriveAuditReply>(
                     Method::kDriveAudit, wire::DriveAskRequest{.drive_id = id_, .after = after}));
  if (found.unindexed.blobs.size() != found.unindexed.indexes.size())
    return Status(Code::kCorrupt, dir_ + ": an audit that makes no sense");
  SegmentAudit audit{.segment = found.segment, .records = found.records};
  for (size_t i = 0; i < found.unindexed.blobs.size(); i++)
    audit.unindexed.push_back({found.unindexed.blobs[i].volume, found.unindexed.blobs[i].seq,
                               found.unindexed.indexes[i]});
  return audit;
}

Result<bool> RemoteDrive::Reindex(const wire::BlobId& blob, uint32_t index) {
  PERIGEE_ASSIGN(
      wire::DriveCount reply,
      Ask<wire::DriveCount>(Method::kDriveReindex,
                            wire::ShardName{.drive_id = id_, .blob = blob, .index = index}));
  return reply.count != 0;
}

Result<uint32_t> RemoteDrive::MendHeaders() {
  PERIGEE_ASSIGN(uint64_t mended, AskCount(Method::kDriveMend));
  return static_cast<uint32_t>(mended);
}

}  // namespace perigee::objectd
