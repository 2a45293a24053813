#include "objectd/volume/repair.h"

#include <algorithm>

#include "base/log.h"
#include "objectd/volume/liveness.h"

namespace perigee::objectd {
namespace {

using wire::DriveState;

constexpr size_t kRowsPerPage = 1000;
constexpr size_t kShardsPerPage = 500;
constexpr uint32_t kMovePassesMax = 3;

// The shard is neither on its drive nor on the one that it moves to.
bool Misplaced(const VolumeRecord& volume, uint64_t drive_id, uint32_t index) {
  if (index < volume.drives.size() && volume.drives[index] == drive_id) return false;
  return std::none_of(volume.moves.begin(), volume.moves.end(), [&](const ShardMove& move) {
    return move.to == drive_id && move.index == index;
  });
}

}  // namespace

Repair::Repair(Options options, Deps deps) : options_(options), deps_(std::move(deps)) {}

void Repair::Kick() {
  {
    std::lock_guard lock(mu_);
    kicked_ = true;
    if (running_) return;
    running_ = true;
  }
  PostSlice();
}

void Repair::PostSlice(Nanos rest) {
  auto gate = deps_.gate;
  const Nanos pause = std::max(options_.pause, rest);
  if (pause > 0) {
    Scheduler::TimerId timer = deps_.background->PostAfter(pause, [this, gate] {
      if (!gate->Enter()) return;
      Slice();
      gate->Leave();
    });
    if (timer != 0) return;
  } else if (PostInside(gate, *deps_.background, [this] { Slice(); })) {
    return;
  }
  std::lock_guard lock(mu_);
  running_ = false;  // stopping, or the pool is full: the next Kick tries again
}

void Repair::Slice() {
  {
    std::lock_guard lock(mu_);
    kicked_ = false;
  }
  std::vector<Item> items;
  Status outcome;
  bool worked = !(fill_ && reports_last_) && TakeReports(&items);
  reports_last_ = worked;
  if (!worked && (fill_ || reconcile_ || PickJob())) {
    worked = true;
    if (fill_)
      outcome = fill_->pass_ended ? EndPass() : FillPage(&items);
    else if (reconcile_)
      outcome = ReconcilePage();
  }
  if (!outcome.ok()) {
    log::Warn("repair_postponed", {{"cause", outcome}});
    Postpone();
  }
  if (!items.empty()) {
    StartBatch(std::move(items));
    return;
  }
  {
    std::lock_guard lock(mu_);
    if (!worked && !kicked_) {
      running_ = false;
      return;
    }
  }
  PostSlice();
}

// What failed is tried again later, the rest goes on.
void Repair::Postpone() {
  const Nanos then = deps_.background->clock().Monotonic() + options_.retry_after;
  if (fill_) later_[{fill_->target, fill_->volume}] = then;
  if (reconcile_) later_[{reconcile_->drive, reconcile_->volume}] = then;
  if (reconcile_ && reconcile_->clears()) {
    std::lock_guard lock(mu_);
    to_clear_.insert(reconcile_->drive);
  }
  fill_.reset();
  reconcile_.reset();
}

// Finds what a drive in repair still needs. `complete`: nothing, not even later.
bool Repair::PickFill(const DriveRecord& drive, bool* complete) {
  std::map<uint64_t, uint32_t> slot_of;
  std::set<uint64_t> current;
  for (const DriveRecord& record : deps_.table->Drives()) slot_of[record.drive_id] = record.slot;
  for (const DriveSlot& slot : deps_.drives->Slots()) current.insert(slot.drive_id);
  *complete = true;
  for (const VolumeRecord& volume : deps_.table->Volumes()) {
    for (uint32_t i = 0; i < volume.drives.size(); i++) {
      const uint64_t occupant = volume.drives[i];
      const bool own = occupant == drive.drive_id;
      auto slot = slot_of.find(occupant);
      const bool predecessor = !own && !current.contains(occupant) && slot != slot_of.end() &&
                               slot->second == drive.slot;
      if (!own && !predecessor) continue;
      if (own && filled_.contains({drive.drive_id, volume.volume})) continue;
      *complete = false;
      if (Postponed(drive.drive_id, volume.volume)) continue;
      fill_ = Fill{.volume = volume.volume,
                   .index = i,
                   .target = drive.drive_id,
                   .replaces = predecessor ? occupant : 0};
      return true;
    }
  }
  return false;
}

bool Repair::Postponed(uint64_t drive, uint32_t volume) const {
  auto later = later_.find({drive, volume});
  return later != later_.end() && later->second > deps_.background->clock().Monotonic();
}

bool Repair::PickVerify() {
  for (const VolumeRecord& volume : deps_.table->Volumes()) {
    if (volume.verify_after == 0) continue;
    auto over = LeasesOver(volume);
    if (!over.ok()) log::Warn("leases_not_read", {{"cause", over.status()}});
    if (!over.ok() || !*over) continue;
    bool online = std::all_of(volume.drives.begin(), volume.drives.end(), [&](uint64_t id) {
      return deps_.table->StateOf(id) == DriveState::kOnline;
    });
    if (!online) continue;
    const uint32_t index = verified_[volume.volume];
    if (Postponed(volume.drives[index], volume.volume)) continue;
    fill_ = Fill{.volume = volume.volume,
                 .index = index,
                 .target = volume.drives[index],
                 .why = Fill::Why::kVerify};
    return true;
  }
  return false;
}

bool Repair::PickJob() {
  for (const DriveRecord& drive : deps_.table->Drives()) {
    if (drive.state != DriveState::kRepairing) continue;
    auto handle = deps_.drives->Find(drive.drive_id);
    if (!handle || !handle->online()) continue;
    bool complete = false;
    if (PickFill(drive, &complete)) return true;
    if (!complete || Postponed(drive.drive_id, 0)) continue;
    reconcile_ = Reconcile{.drive = drive.drive_id};
    return true;
  }
  return PickVerify() || PickSettle() || PickClear() || PickLeft() || PickMove();
}

// The next blobs whose shard the target does not have.
Status Repair::FillPage(std::vector<Item>* items) {
  auto target = deps_.drives->Find(fill_->target);
  if (!target)
    return Status(Code::kUnavailable, "drive " + HexEncode64(fill_->target) + " is away");
  while (items->size() < options_.blobs_per_slice) {
    PERIGEE_ASSIGN(BlobPage page,
                   ReferencedBlobs(*deps_.store, fill_->volume, fill_->cursor, kRowsPerPage));
    std::set<uint64_t> have;
    wire::BlobId from{fill_->volume, fill_->cursor};
    while (!page.seqs.empty()) {
      PERIGEE_ASSIGN(auto shards, target->ListShards(from, kShardsPerPage));
      for (const auto& [blob, index] : shards)
        if (blob.volume == fill_->volume && index == fill_->index) have.insert(blob.seq);
      if (shards.size() < kShardsPerPage) break;
      const wire::BlobId& last = shards.back().first;
      if (last.volume != fill_->volume || last.seq > page.seqs.back()) break;
      from = wire::BlobId{last.volume, last.seq + 1};
    }
    for (uint64_t seq : page.seqs) {
      if (have.contains(seq)) continue;
      if (items->size() == options_.blobs_per_slice) {
        fill_->cursor = seq;
        return Status::Ok();
      }
      items->push_back(Item{.volume = fill_->volume,
                            .seq = seq,
                            .index = fill_->index,
                            .target = fill_->target,
                            .source = fill_->replaces});
    }
    fill_->cursor = page.next;
    if (page.end) {
      fill_->pass_ended = true;
      return Status::Ok();
    }
  }
  return Status::Ok();
}

Status Repair::EndPass() {
  if (fill_->retries > 0)
    return Status(Code::kUnavailable, std::to_string(fill_->retries) + " blobs of volume " +
                                          std::to_string(fill_->volume) + " cannot be rebuilt now");
  // Blobs may have been written meanwhile. A move does not wait for them for ever: what is sent the
  // old way for as long as leases last is found afterwards.
  const bool settles = fill_->why == Fill::Why::kMove && ++fill_->passes >= kMovePassesMax;
  if (fill_->rebuilt > 0 && !settles) {
    fill_->cursor = 0;
    fill_->pass_ended = false;
    fill_->rebuilt = 0;
    return Status::Ok();
  }
  const Fill done = *fill_;
  if (done.why == Fill::Why::kMove && !MayEnd(done)) {
    later_[{done.target, done.volume}] =
        deps_.background->clock().Monotonic() + options_.settle_every;
    fill_.reset();
    return Status::Ok();
  }
  if (done.replaces != 0) {
    PERIGEE_TRY(deps_.table->SwapDrive(done.volume, done.replaces, done.target));
    log::Info(
        done.why == Fill::Why::kMove ? "shards_moved" : "volume_repaired",
        {{"volume", done.volume}, {"index", done.index}, {"drive", HexEncode64(done.target)}});
  }
  switch (done.why) {
    case Fill::Why::kDrive:
      filled_.insert({done.target, done.volume});
      break;
    case Fill::Why::kVerify:
      reconcile_ = Reconcile{done.target, wire::BlobId{done.volume, 0}, done.volume};
      break;
    case Fill::Why::kSettle:
      later_[{done.target, done.volume}] =
          deps_.background->clock().Monotonic() + options_.settle_every;
      break;
    case Fill::Why::kMove:
      break;
  }
  fill_.reset();
  return Status::Ok();
}

Status Repair::FinishVerify(uint32_t id) {
  auto volume = deps_.table->FindVolume(id);
  if (!volume || ++verified_[id] < volume->drives.size()) return Status::Ok();
  verified_.erase(id);
  return deps_.table->SetVerify({id}, 0);
}

// A write that was sent before its lease was given back may still arrive: looked through twice.
Status Repair::FinishLeft(uint64_t drive_id, uint32_t volume) {
  const Nanos now = deps_.background->clock().Monotonic();
  auto [look, first] = last_look_.try_emplace({drive_id, volume}, now + options_.stray_after);
  if (first || look->second > now) return Status::Ok();
  PERIGEE_TRY(deps_.table->ForgetLeft(volume, drive_id));
  last_look_.erase(look);
  return Status::Ok();
}

// Order of the looks: liveness.h.
Status Repair::ReconcilePage() {
  auto drive = deps_.drives->Find(reconcile_->drive);
  if (!drive)
    return Status(Code::kUnavailable, "drive " + HexEncode64(reconcile_->drive) + " is away");
  PERIGEE_ASSIGN(auto shards, drive->ListShards(reconcile_->cursor, kShardsPerPage));
  PERIGEE_ASSIGN(LeasedRanges leased, LeasedRanges::Read(*deps_.store));
  const uint32_t only = reconcile_->volume;
  bool past = false;
  for (const auto& [blob, index] : shards) {
    past = only != 0 && blob.volume != only;
    if (past) break;
    auto volume = deps_.table->FindVolume(blob.volume);
    const bool misplaced = volume && Misplaced(*volume, drive->id(), index);
    // Until the volume is verified, writers with older leases may have no other shard than this.
    if (!misplaced || volume->verify_after != 0) {
      bool alive = leased.Covers(blob.volume, blob.seq);
      if (!alive) {
        PERIGEE_ASSIGN(alive, IsReferenced(*deps_.store, blob.volume, blob.seq));
      }
      if (misplaced && alive) {
        PERIGEE_TRY(deps_.table->AddLeft(blob.volume, drive->id()));
        reconcile_->kept_misplaced = true;
      }
      if (alive) continue;
    }
    PERIGEE_TRY(drive->DeleteShard(blob, index));
    garbage_removed_++;
  }
  if (!past && shards.size() == kShardsPerPage) {
    // The last blob's other shards may be on the next page: looked at again, which is harmless.
    const wire::BlobId last = shards.back().first;
    const bool stuck = last == reconcile_->cursor;
    reconcile_->cursor = stuck ? wire::BlobId{last.volume, last.seq + 1} : last;
    return Status::Ok();
  }
  if (reconcile_->left && only != 0 && !reconcile_->kept_misplaced)
    PERIGEE_TRY(FinishLeft(reconcile_->drive, only));
  else if (!reconcile_->left)
    PERIGEE_TRY(only != 0 ? FinishVerify(only) : FinishDrive(reconcile_->drive));
  reconcile_.reset();
  return Status::Ok();
}

Status Repair::FinishDrive(uint64_t drive_id) {
  std::vector<uint32_t> volumes;
  for (const VolumeRecord& volume : deps_.table->Volumes())
    if (std::find(volume.drives.begin(), volume.drives.end(), drive_id) != volume.drives.end())
      volumes.push_back(volume.volume);
  // Writers with older leases may have left the drive out: looked at again when those are over.
  PERIGEE_TRY(deps_.table->SetVerify(volumes, deps_.table->LeasesOver()));
  PERIGEE_TRY(deps_.table->SetDriveState(drive_id, DriveState::kOnline, ""));
  PERIGEE_TRY(deps_.table->ForgetRetired());
  std::erase_if(filled_, [&](const auto& pair) { return pair.first == drive_id; });
  log::Info("drive_repaired",
            {{"drive", HexEncode64(drive_id)}, {"shards_rebuilt", shards_rebuilt_.load()}});
  return Status::Ok();
}

Repair::Figures Repair::figures() const {
  Figures f;
  for (const VolumeRecord& volume : deps_.table->Volumes()) {
    bool online = std::all_of(volume.drives.begin(), volume.drives.end(), [&](uint64_t id) {
      return deps_.table->StateOf(id) == DriveState::kOnline;
    });
    f.volumes_to_repair += online ? 0 : 1;
  }
  f.shards_rebuilt = shards_rebuilt_;
  f.bytes_rebuilt = bytes_rebuilt_;
  f.blobs_unrepairable = unrepairable_;
  f.garbage_removed = garbage_removed_;
  std::lock_guard lock(mu_);
  f.running = running_;
  f.blobs_to_repair = reports_.size() + (batch_.size() - std::min(next_, batch_.size()));
  return f;
}

}  // namespace perigee::objectd
