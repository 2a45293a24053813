#include "client/blob/remote_cluster.h"

#include "rdma/rails/rail_channel.h"
#include "rdma/rpc.h"

namespace perigee::client {

Result<std::unique_ptr<RemoteCluster>> RemoteCluster::Create(Deps deps, Options options) {
  if (!deps.objectd) {
    PERIGEE_ASSIGN(deps.objectd, deps.transport->Connect(options.objectd_address));
  }
  return std::unique_ptr<RemoteCluster>(new RemoteCluster(std::move(deps), std::move(options)));
}

RemoteCluster::RemoteCluster(Deps deps, Options options)
    : deps_(std::move(deps)), options_(std::move(options)) {}

Result<std::shared_ptr<const VolumeMap>> RemoteCluster::FetchMap() {
  PERIGEE_ASSIGN(
      wire::VolumeMapReply reply,
      rdma::Call<wire::VolumeMapReply>(*deps_.objectd, wire::Method::kVolumeMap, wire::Empty{}, {},
                                       {.timeout = options_.control_timeout}));
  auto map = std::make_shared<VolumeMap>();
  map->epoch = reply.epoch;
  map->volumes = std::move(reply.volumes);
  map->drives = std::move(reply.drives);
  return std::shared_ptr<const VolumeMap>(std::move(map));
}

Result<std::shared_ptr<const VolumeMap>> RemoteCluster::Map(uint64_t not_older_than) {
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
                                      {.timeout = options_.control_timeout});
}

Result<uint64_t> RemoteCluster::AddExtents(const wire::AddExtentsRequest& request) {
  PERIGEE_ASSIGN(
      wire::AddExtentsReply reply,
      rdma::Call<wire::AddExtentsReply>(*deps_.objectd, wire::Method::kVolumeAddExtents, request,
                                        {}, {.timeout = options_.control_timeout}));
  return reply.list_id;
}

Result<wire::GetExtentsReply> RemoteCluster::GetExtents(const wire::GetExtentsRequest& request) {
  return rdma::Call<wire::GetExtentsReply>(*deps_.objectd, wire::Method::kMetaGetExtents, request,
                                           {}, {.timeout = options_.control_timeout});
}

Result<std::shared_ptr<rdma::Channel>> RemoteCluster::ChannelOf(uint64_t drive_id) {
  PERIGEE_ASSIGN(std::shared_ptr<const VolumeMap> map, Map());
  const wire::DriveInfo* drive = map->FindDrive(drive_id);
  if (!drive) {
    PERIGEE_ASSIGN(map, Map(map->epoch + 1));
    drive = map->FindDrive(drive_id);
    if (!drive)
      return Status(Code::kUnavailable,
                    "drive " + HexEncode64(drive_id) + " is not in the volume map");
  }
  if (drive->address.empty() || drive->address == options_.objectd_address) return deps_.objectd;
  std::lock_guard lock(mu_);
  std::shared_ptr<rdma::Channel>& channel = channels_[drive->address];
  if (channel) return channel;
  auto connected = deps_.transport->Connect(drive->address);
  if (connected.ok()) {
    channel = std::move(connected).value();
    return channel;
  }
  connected.status().Ignore();  // a provider that this process was not given: objectd may have it
  channels_.erase(drive->address);
  return deps_.objectd;
}

// A node that does not answer here may answer objectd, which passes the call on; and when it does
// not, objectd has recorded the drive as offline before a writer hears of it.
template <class Call>
auto RemoteCluster::OnDrive(uint64_t drive_id, const Call& call)
    -> decltype(call(std::declval<rdma::Channel&>())) {
  PERIGEE_ASSIGN(std::shared_ptr<rdma::Channel> channel, ChannelOf(drive_id));
  auto reply = call(*channel);
  if (channel == deps_.objectd ||
      (reply.code() != Code::kUnavailable && reply.code() != Code::kDeadlineExceeded))
    return reply;
  reply.status().Ignore();  // objectd's answer counts
  return call(*deps_.objectd);
}

Status RemoteCluster::WriteShard(uint64_t drive_id, const wire::ShardHeader& header,
                                 ConstBytes bytes) {
  wire::ShardWriteRequest request;
  request.drive_id = drive_id;
  request.shard = header;
  auto reply = OnDrive(drive_id, [&](rdma::Channel& channel) {
    return rdma::Call<wire::Empty>(channel, wire::Method::kShardWrite, request, bytes,
                                   {.timeout = options_.shard_timeout});
  });
  return reply.ok() ? Status::Ok() : std::move(reply).TakeStatus();
}

Result<ShardData> RemoteCluster::ReadShard(const wire::ShardReadRequest& request) {
  PERIGEE_ASSIGN(auto reply, OnDrive(request.drive_id, [&](rdma::Channel& channel) {
                   return rdma::CallFull<wire::ShardReadReply>(
                       channel, wire::Method::kShardRead, request, {},
                       {.timeout = options_.shard_timeout, .lent_reply = true});
                 }));
  return ShardData{std::move(reply.message.shard), std::move(reply.bulk)};
}

void RemoteCluster::Report(const wire::VolumeReportRequest& request) {
  // Nobody waits for it, and the scrubber finds what a lost report would have told.
  deps_.objectd->Call(wire::Method::kVolumeReport, wire::Encode(request), {},
                      {.timeout = options_.control_timeout},
                      [](Result<rdma::Payload> reply) { reply.status().Ignore(); });
}

std::vector<wire::LinkInfo> RemoteCluster::Links() {
  std::lock_guard lock(mu_);
  std::vector<wire::LinkInfo> links;
  for (const auto& [address, channel] : channels_) {
    wire::LinkInfo link{.to = "drives", .address = address, .connected = channel->Healthy()};
    link.rails = rdma::RailsOf(*channel);
    if (map_)
      for (const wire::DriveInfo& drive : map_->drives)
        if (drive.address == address) link.to = "drives of node " + HexEncode64(drive.node);
    links.push_back(std::move(link));
  }
  return links;
}

}  // namespace perigee::client
