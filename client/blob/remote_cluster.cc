#include "client/blob/remote_cluster.h"

#include "rdma/rails/rail_channel.h"
#include "rdma/rpc.h"

namespace perigee::client {

namespace {
rdma::CallOptions Control(const RemoteCluster::Options& options) {
  return {.timeout = options.control_timeout, .traffic = options.traffic};
}
}  // namespace

Result<std::unique_ptr<RemoteCluster>> RemoteCluster::Create(Deps deps, Options options) {
  if (!deps.objectd) {
    PERIGEE_ASSIGN(deps.objectd, deps.transport->Connect(options.objectd_address));
  }
  return std::unique_ptr<RemoteCluster>(
      new RemoteCluster(std::move(deps), std::move(options), nullptr));
}

RemoteCluster::RemoteCluster(Deps deps, Options options, RemoteCluster* shared)
    : deps_(std::move(deps)),
      options_(std::move(options)),
      shared_(shared),
      batcher_(shared ? shared->batcher_ : ShardBatcher::Create(*deps_.clock, deps_.metrics)) {}

std::unique_ptr<RemoteCluster> RemoteCluster::In(rdma::TrafficClass traffic) {
  Options options = options_;
  options.traffic = traffic;
  return std::unique_ptr<RemoteCluster>(
      new RemoteCluster(deps_, std::move(options), shared_ ? shared_ : this));
}

Result<std::shared_ptr<const VolumeMap>> RemoteCluster::FetchMap() {
  PERIGEE_ASSIGN(wire::VolumeMapReply reply,
                 rdma::Call<wire::VolumeMapReply>(*deps_.objectd, wire::Method::kVolumeMap,
                                                  wire::Empty{}, {}, Control(options_)));
  auto map = std::make_shared<VolumeMap>();
  map->epoch = reply.epoch;
  map->volumes = std::move(reply.volumes);
  map->drives = std::move(reply.drives);
  return std::shared_ptr<const VolumeMap>(std::move(map));
}

Result<std::shared_ptr<const VolumeMap>> RemoteCluster::Map(uint64_t not_older_than) {
  if (shared_) return shared_->Map(not_older_than);
  std::unique_lock lock(mu_);
  // Only a fetch that begins after this call can show what the caller has just learnt.
  uint64_t mine = fetches_begun_ + 1;
  while (true) {
    bool new_enough = map_ && map_->epoch >= not_older_than;
    bool young = deps_.clock->Monotonic() - checked_at_ < options_.map_age_max;
    if (new_enough && (young || fetching_)) return map_;
    if (map_ && last_ended_ >= mine)
      return map_;  // asked, and there is none newer (or objectd is away)
    if (!fetching_) break;
    fetched_.Wait(lock);
  }
  fetching_ = true;
  uint64_t number = ++fetches_begun_;
  lock.unlock();
  Result<std::shared_ptr<const VolumeMap>> fresh = FetchMap();
  lock.lock();
  fetching_ = false;
  last_ended_ = number;
  checked_at_ = deps_.clock->Monotonic();
  if (fresh.ok() && (!map_ || (*fresh)->epoch >= map_->epoch)) map_ = *fresh;
  fetched_.NotifyAll();
  if (!map_) return std::move(fresh).TakeStatus().With("volume map");
  return map_;
}

Result<wire::LeaseReply> RemoteCluster::Lease(const wire::LeaseRequest& request) {
  return rdma::Call<wire::LeaseReply>(*deps_.objectd, wire::Method::kVolumeLease, request, {},
                                      Control(options_));
}

Result<uint64_t> RemoteCluster::AddExtents(const wire::AddExtentsRequest& request) {
  PERIGEE_ASSIGN(wire::AddExtentsReply reply,
                 rdma::Call<wire::AddExtentsReply>(*deps_.objectd, wire::Method::kVolumeAddExtents,
                                                   request, {}, Control(options_)));
  return reply.list_id;
}

Result<wire::GetExtentsReply> RemoteCluster::GetExtents(const wire::GetExtentsRequest& request) {
  return rdma::Call<wire::GetExtentsReply>(*deps_.objectd, wire::Method::kMetaGetExtents, request,
                                           {}, Control(options_));
}

// Null: its shards are reached over objectd's own channel.
Result<std::shared_ptr<StorageDoor>> RemoteCluster::DoorOf(uint64_t drive_id) {
  if (shared_) return shared_->DoorOf(drive_id);
  PERIGEE_ASSIGN(std::shared_ptr<const VolumeMap> map, Map());
  const wire::DriveInfo* drive = map->FindDrive(drive_id);
  if (!drive) {
    PERIGEE_ASSIGN(map, Map(map->epoch + 1));
    drive = map->FindDrive(drive_id);
    if (!drive)
      return Status(Code::kUnavailable,
                    "drive " + HexEncode64(drive_id) + " is not in the volume map");
  }
  if (drive->address.empty() || drive->address == options_.objectd_address)
    return std::shared_ptr<StorageDoor>();
  std::lock_guard lock(mu_);
  auto found = doors_.find(drive->address);
  if (found != doors_.end()) return found->second;
  auto connected = deps_.transport->Connect(drive->address);
  if (!connected.ok()) {
    connected.status().Ignore();  // a provider that this process was not given: objectd may have it
    return std::shared_ptr<StorageDoor>();
  }
  auto door = std::make_shared<StorageDoor>(drive->node, drive->address, std::move(*connected),
                                            deps_.clock);
  doors_.emplace(drive->address, door);
  return door;
}

// A node that does not answer here may answer objectd, which passes the call on; and when it does
// not, objectd has recorded the drive as offline before a writer hears of it.
Result<ShardData> RemoteCluster::OnDrive(uint64_t drive_id, const ShardOperation& operation) {
  const rdma::CallOptions options{
      .timeout = options_.shard_timeout, .lent_reply = true, .traffic = options_.traffic};
  PERIGEE_ASSIGN(std::shared_ptr<StorageDoor> door, DoorOf(drive_id));
  std::shared_ptr<rdma::Channel> channel = door ? door->Channel() : nullptr;
  if (!channel) return batcher_->Run(deps_.objectd, operation, options);
  auto outcome = batcher_->Run(channel, operation, options);
  door->Note(outcome.status());
  if (outcome.code() != Code::kUnavailable && outcome.code() != Code::kDeadlineExceeded)
    return outcome;
  outcome.status().Ignore();  // objectd's answer counts
  return batcher_->Run(deps_.objectd, operation, options);
}

std::vector<wire::LinkInfo> RemoteCluster::Links() const {
  std::map<std::string, std::shared_ptr<StorageDoor>> doors;
  {
    std::lock_guard lock(mu_);
    if (!map_) return {};
    for (const wire::DriveInfo& drive : map_->drives) {
      auto found = doors_.find(drive.address);
      if (found != doors_.end()) doors.insert(*found);
    }
  }
  std::vector<wire::LinkInfo> links;
  for (const auto& [address, door] : doors) links.push_back(door->Link());
  return links;
}

Status RemoteCluster::WriteShard(uint64_t drive_id, const wire::ShardHeader& header,
                                 ConstBytes bytes, std::shared_ptr<const void>) {
  wire::ShardWriteRequest request;
  request.drive_id = drive_id;
  request.shard = header;
  return OnDrive(drive_id, {&request, bytes}).TakeStatus();
}

Result<ShardData> RemoteCluster::ReadShard(const wire::ShardReadRequest& request) {
  return OnDrive(request.drive_id, {&request});
}

void RemoteCluster::Report(const wire::VolumeReportRequest& request) {
  // Nobody waits for it, and the scrubber finds what a lost report would have told.
  deps_.objectd->Call(wire::Method::kVolumeReport, wire::Encode(request), {}, Control(options_),
                      [](Result<rdma::Payload> reply) { reply.status().Ignore(); });
}

}  // namespace perigee::client
