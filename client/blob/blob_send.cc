#include "client/blob/blob_send.h"

#include <algorithm>
#include <string>

#include "base/failpoint.h"
#include "client/blob/busy_retry.h"

namespace perigee::client {

namespace {

// A drive under repair may take new shards already; only what it refuses is left to the repair.
bool Reachable(const VolumeMap& map, uint64_t drive_id) {
  const wire::DriveInfo* drive = map.FindDrive(drive_id);
  return drive && drive->state != wire::DriveState::kOffline &&
         drive->state != wire::DriveState::kLost;
}

bool Online(const VolumeMap& map, uint64_t drive_id) {
  const wire::DriveInfo* drive = map.FindDrive(drive_id);
  return drive && drive->state == wire::DriveState::kOnline;
}

std::string NameOf(const BlobPlace& place) {
  return "blob " + std::to_string(place.volume.volume) + "/" + std::to_string(place.seq);
}

}  // namespace

BlobSend::BlobSend(Cluster* cluster, BlobPlace place, std::unique_ptr<BlobBuffer> buffer,
                   uint64_t offset)
    : cluster_(cluster),
      place_(std::move(place)),
      buffer_(std::move(buffer)),
      offset_(offset),
      bytes_(buffer_->bytes()),
      geometry_(buffer_->geometry()) {}

BlobSend::~BlobSend() {
  // Judge has read them, or the writer was dropped and nobody wants to know.
  planned_.Ignore();
  for (Shard& s : shards_) s.status.Ignore();
}

uint32_t BlobSend::Needed() const { return std::min(geometry_.k + geometry_.m, geometry_.k + 1); }

uint32_t BlobSend::Count(Fate fate) const {
  return static_cast<uint32_t>(std::count_if(shards_.begin(), shards_.end(),
                                             [&](const Shard& s) { return s.fate == fate; }));
}

// Decides which shards can be sent at all.
Status BlobSend::Plan() {
  PERIGEE_ASSIGN(std::shared_ptr<const VolumeMap> map, cluster_->Map());
  const std::vector<uint64_t>& drives = place_.volume.drives;
  const uint32_t shards = geometry_.k + geometry_.m;
  bool known = std::all_of(drives.begin(), drives.end(),
                           [&](uint64_t id) { return map->FindDrive(id) != nullptr; });
  if (!known) {
    // The lease is of a volume younger than the map.
    PERIGEE_ASSIGN(map, cluster_->Map(map->epoch + 1));
  }
  map_epoch_ = map->epoch;
  for (uint32_t i = 0; i < shards; ++i) {
    if (Reachable(*map, drives[i])) shards_[i].fate = Fate::kSending;
  }
  uint32_t up = Count(Fate::kSending);
  if (up >= Needed()) return Status::Ok();
  for (Shard& s : shards_) s.fate = Fate::kSkipped;
  return Status(Code::kUnavailable, NameOf(place_) + ": only " + std::to_string(up) + " of " +
                                        std::to_string(shards) + " drives are up, " +
                                        std::to_string(Needed()) + " are needed");
}

void BlobSend::Start(Scheduler& pool, bool last_here, std::function<void()> finished) {
  finished_ = std::move(finished);
  if (!buffer_->encoded()) {
    // The caller goes on with its next blob meanwhile; a small one is not worth the way.
    bool small = bytes_ < buffer_->stripe_bytes();
    auto encode = [this, &pool] {
      buffer_->Encode();
      SendAll(pool, false);
    };
    if (!small && pool.Post(encode).ok()) return;
    buffer_->Encode();
  }
  SendAll(pool, last_here);
}

void BlobSend::SendAll(Scheduler& pool, bool last_here) {
  for (Shard& s : shards_) s.status.Ignore();  // of the place before
  shards_.clear();
  shards_.resize(geometry_.k + geometry_.m);
  planned_ = Plan();
  std::vector<uint32_t> to_send;
  for (uint32_t i = 0; i < shards_.size(); ++i) {
    if (shards_[i].fate == Fate::kSending) to_send.push_back(i);
  }
  // One more than the shards: this call itself, so that nothing ends while it still posts.
  pending_ = static_cast<uint32_t>(to_send.size()) + 1;
  for (uint32_t i : to_send) {
    bool here = last_here && i == to_send.back();
    // A full queue means that the pool is the bottleneck; the writer's own thread helps then.
    if (here || !pool.Post([this, i] { Send(i); }).ok()) Send(i);
  }
  ShardEnded();
}

void BlobSend::Send(uint32_t index) {
  wire::ShardHeader header;
  header.blob.volume = place_.volume.volume;
  header.blob.seq = place_.seq;
  header.index = index;
  header.k = geometry_.k;
  header.m = geometry_.m;
  header.blob_bytes = geometry_.blob_bytes;
  header.chunk_bytes = geometry_.chunk_bytes;
  header.chunk_crcs = buffer_->Crcs(index);
  PERIGEE_FAILPOINT(blob_before_shard_write);
  Status status = RetryBusy([&] {
    return cluster_->WriteShard(place_.volume.drives[index], header, buffer_->Shard(index),
                                buffer_->Owner(index));
  });
  PERIGEE_FAILPOINT(blob_after_shard_write);
  shards_[index].fate = status.ok() ? Fate::kSafe : Fate::kFailed;
  shards_[index].status = std::move(status);
  ShardEnded();
}

void BlobSend::ShardEnded() {
  if (pending_.fetch_sub(1) != 1) return;
  if (planned_.ok() && Count(Fate::kFailed) == 0) buffer_->Release();
  // `this` may be gone as soon as the writer knows.
  std::function<void()> finished = std::move(finished_);
  finished();
}

Status BlobSend::Judge() {
  if (!planned_.ok()) return planned_;
  if (Count(Fate::kFailed) == 0) return Status::Ok();
  wire::VolumeReportRequest report;
  report.blob.volume = place_.volume.volume;
  report.blob.seq = place_.seq;
  auto map = cluster_->Map(map_epoch_ + 1);
  Status first;
  for (uint32_t i = 0; i < shards_.size(); ++i) {
    if (shards_[i].fate != Fate::kFailed) continue;
    report.bad_shards.push_back(i);
    Status why = shards_[i].status.With(NameOf(place_) + " shard " + std::to_string(i));
    bool excused = map.ok() && !Online(**map, place_.volume.drives[i]);
    if (first.ok() || !excused) first = why;
    why.Ignore();  // the worst of them is told
    if (!excused) return first;
  }
  if (Count(Fate::kSafe) < Needed()) return first;
  report.reason = first.message();
  cluster_->Report(report);
  return Status::Ok();
}

}  // namespace perigee::client
