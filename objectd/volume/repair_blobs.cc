// The part of Repair that works on single blobs: reports, and batches rebuilt by several workers.

#include <algorithm>
#include <utility>

#include "base/failpoint.h"
#include "base/log.h"
#include "objectd/volume/liveness.h"
#include "objectd/volume/repair.h"
#include "objectd/volume/shard_check.h"

namespace perigee::objectd {

using wire::DriveState;

void Repair::Report(const wire::VolumeReportRequest& report) {
  auto volume = deps_.table->FindVolume(report.blob.volume);
  if (!volume) return;
  bool added = false;
  {
    std::lock_guard lock(mu_);
    auto deaf = deaf_until_.find({report.blob.volume, report.blob.seq});
    if (deaf != deaf_until_.end() && deaf->second > deps_.background->clock().Monotonic()) return;
    for (uint32_t index : report.bad_shards) {
      if (index >= volume->drives.size() || reports_.size() >= options_.reports_max) continue;
      Item item{report.blob.volume, report.blob.seq, index, volume->drives[index], true};
      if (!reported_.insert(item).second) continue;
      reports_.push_back(item);
      added = true;
    }
  }
  if (added) Kick();
}

bool Repair::Unrepairable(const wire::BlobId& blob) const {
  std::lock_guard lock(mu_);
  return hopeless_.contains({blob.volume, blob.seq});
}

bool Repair::TakeReports(std::vector<Item>* items) {
  std::lock_guard lock(mu_);
  bool any = !reports_.empty();
  while (!reports_.empty() && items->size() < options_.blobs_per_slice) {
    items->push_back(reports_.front());
    reported_.erase(reports_.front());
    reports_.pop_front();
  }
  return any;
}

void Repair::StartBatch(std::vector<Item> items) {
  uint32_t workers = static_cast<uint32_t>(
      std::min<size_t>(std::max<uint32_t>(1, options_.blobs_in_flight), items.size()));
  {
    std::lock_guard lock(mu_);
    batch_ = std::move(items);
    next_ = 0;
    workers_ = workers;
    batch_rebuilt_ = batch_retries_ = 0;
  }
  // This task is one of them, so that a full pool only makes it slower.
  for (uint32_t i = 1; i < workers; i++) {
    if (PostInside(deps_.gate, *deps_.background, [this] { Work(); })) continue;
    std::lock_guard lock(mu_);
    workers_--;
  }
  Work();
}

void Repair::Work() {
  while (true) {
    Item item;
    {
      std::lock_guard lock(mu_);
      if (next_ >= batch_.size() || deps_.gate->closed()) {
        if (--workers_ > 0) return;
        break;
      }
      item = batch_[next_++];
    }
    Fate fate = RebuildOne(item);
    std::lock_guard lock(mu_);
    if (fate == Fate::kDone) batch_rebuilt_++;
    if (fate == Fate::kRetry) batch_retries_++;
  }
  EndBatch();
}

void Repair::EndBatch() {
  uint64_t rebuilt = 0, retries = 0, bytes = 0;
  bool reports = false;
  {
    std::lock_guard lock(mu_);
    rebuilt = batch_rebuilt_;
    retries = batch_retries_;
    bytes = std::exchange(batch_bytes_, 0);
    reports = !batch_.empty() && batch_.front().suspect;
    batch_.clear();
    next_ = 0;
  }
  if (fill_ && !reports) {
    fill_->rebuilt += rebuilt;
    fill_->retries += retries;
  }
  const bool paced = fill_ && fill_->paced && !reports;
  PostSlice(paced ? static_cast<Nanos>(static_cast<double>(bytes) * kSecond /
                                       static_cast<double>(options_.spread_rate))
                  : 0);
}

// A failed rebuild reports the shards it missed. Without this it would be its own next work, for
// ever.
void Repair::Deafen(const Item& item, Nanos time) {
  const Nanos now = deps_.background->clock().Monotonic();
  std::lock_guard lock(mu_);
  if (deaf_until_.size() >= options_.reports_max) {
    std::erase_if(deaf_until_, [&](const auto& entry) { return entry.second <= now; });
    if (deaf_until_.size() >= options_.reports_max) deaf_until_.erase(deaf_until_.begin());
  }
  deaf_until_[{item.volume, item.seq}] = now + time;
  std::erase_if(reports_, [&](const Item& other) {
    return other.volume == item.volume && other.seq == item.seq;
  });
  std::erase_if(reported_, [&](const Item& other) {
    return other.volume == item.volume && other.seq == item.seq;
  });
}

bool Repair::ShardIsGood(const Item& item, const VolumeRecord& volume) {
  auto target = deps_.drives->Find(item.target);
  return target && CheckShard(*target, volume, {item.volume, item.seq}, item.index).ok();
}

// Waiting would not help: no drive of the volume may still come back with a shard.
bool Repair::Hopeless(const VolumeRecord& volume, uint32_t index, const Status& why) {
  if (!why.Is(Code::kCorrupt) && !why.Is(Code::kNotFound) && !why.Is(Code::kUnavailable))
    return false;
  std::set<uint64_t> current;
  for (const DriveSlot& slot : deps_.drives->Slots()) current.insert(slot.drive_id);
  for (uint32_t i = 0; i < volume.drives.size(); i++) {
    if (i == index || !current.contains(volume.drives[i])) continue;
    auto drive = deps_.drives->Find(volume.drives[i]);
    if (!drive || !drive->online()) return false;
  }
  // With every remaining drive here, only what they answer counts; an unavailable one would have
  // been found offline.
  return !why.Is(Code::kUnavailable) ||
         std::any_of(volume.drives.begin(), volume.drives.end(),
                     [&](uint64_t id) { return !current.contains(id); });
}

// Of blobs kept as copies there are fewer shards than drives: none then.
Result<std::vector<client::ShardData>> Repair::Reproduce(const Item& item,
                                                         const VolumeRecord& volume) {
  // A drive that is left may have the shard: one read then, in place of k.
  std::vector<uint64_t> sources = volume.left;
  if (item.source != 0) sources.push_back(item.source);
  for (uint64_t id : sources) {
    auto source = deps_.drives->Find(id);
    if (!source || !source->online()) continue;
    auto shard = ReadCheckedShard(*source, volume, {item.volume, item.seq}, item.index);
    if (!shard.ok()) {
      shard.status().Ignore();  // the others tell
      continue;
    }
    std::vector<client::ShardData> out;
    out.push_back(std::move(*shard));
    return out;
  }
  wire::VolumeInfo info;
  info.volume = volume.volume;
  info.k = volume.k;
  info.m = volume.m;
  info.drives = volume.drives;
  return deps_.reader->Rebuild(info, item.seq, {item.index});
}

Repair::Fate Repair::RebuildOne(const Item& item) {
  auto volume = deps_.table->FindVolume(item.volume);
  if (!volume) return Fate::kNothing;
  auto target = deps_.drives->Find(item.target);
  if (!target || !target->online()) return item.suspect ? Fate::kNothing : Fate::kRetry;
  const std::string name = "blob " + std::to_string(item.volume) + "/" + std::to_string(item.seq);
  if (item.suspect) {
    auto wanted = IsReferenced(*deps_.store, item.volume, item.seq);
    if (!wanted.ok() || !*wanted || ShardIsGood(item, *volume)) return Fate::kNothing;
  }
  auto rebuilt = Reproduce(item, *volume);
  if (!rebuilt.ok()) {
    auto referenced = IsReferenced(*deps_.store, item.volume, item.seq);
    if (referenced.ok() && !*referenced) {
      Clear(item.target);  // an earlier attempt's write may have come late
      return Fate::kNothing;
    }
    if (!referenced.ok() || !Hopeless(*volume, item.index, rebuilt.status())) {
      Deafen(item, options_.retry_after);
      return Fate::kRetry;
    }
    Deafen(item, options_.hopeless_for);
    {
      std::lock_guard lock(mu_);
      if (hopeless_.size() >= options_.reports_max ||
          !hopeless_.insert({item.volume, item.seq}).second)
        return Fate::kNothing;
    }
    unrepairable_++;
    log::Error("blob_unrepairable", {{"blob", name}, {"cause", rebuilt.status()}});
    return Fate::kNothing;
  }
  if (rebuilt->empty()) return Fate::kNothing;
  auto shard = std::make_shared<const client::ShardData>(std::move(rebuilt->front()));
  PERIGEE_FAILPOINT(repair_before_write);
  Status written =
      deps_.cluster->WriteShard(item.target, shard->header, shard->bytes.span(), shard);
  PERIGEE_FAILPOINT(repair_after_write);
  if (!written.ok()) {
    log::Warn("repair_write_failed",
              {{"blob", name}, {"drive", HexEncode64(item.target)}, {"cause", written}});
    return Fate::kRetry;
  }
  // The collector may have freed the blob while it was rebuilt, and before the shard was there to
  // be deleted.
  auto referenced = IsReferenced(*deps_.store, item.volume, item.seq);
  if (!referenced.ok()) return Fate::kRetry;
  if (!*referenced) {
    if (!target->DeleteShard(shard->header.blob, item.index).ok()) Clear(item.target);
    return Fate::kNothing;
  }
  shards_rebuilt_++;
  bytes_rebuilt_ += shard->bytes.size();
  {
    std::lock_guard lock(mu_);
    batch_bytes_ += shard->bytes.size();
  }
  return Fate::kDone;
}

}  // namespace perigee::objectd
