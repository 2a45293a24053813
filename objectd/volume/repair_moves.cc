// The part of Repair that moves shard indexes of volumes to other drives.

#include <algorithm>

#include "base/log.h"
#include "objectd/volume/liveness.h"
#include "objectd/volume/reference_keys.h"
#include "objectd/volume/repair.h"

namespace perigee::objectd {
namespace {

using wire::DriveState;

// A lease that was being given while the drives changed is in the store by then.
constexpr Nanos kLeaseInFlight = 10 * kSecond;
constexpr Nanos kLeasesAge = kSecond;  // they are read no more often

}  // namespace

// Are the leases over from before the volume's drives last changed? At verify_after at the latest;
// earlier when the store has none of it that old.
Result<bool> Repair::LeasesOver(const VolumeRecord& volume) {
  const int64_t now = deps_.background->clock().Wall();
  if (volume.verify_after <= now) return true;
  const int64_t settled = volume.verify_after - deps_.table->lease() + kLeaseInFlight;
  if (volume.m == 0 || now < settled) return false;
  if (now - leases_.read_at >= kLeasesAge || leases_.read_at < settled) PERIGEE_TRY(ReadLeases());
  auto first = leases_.first_expiry.find(volume.volume);
  return first == leases_.first_expiry.end() || first->second > volume.verify_after;
}

// Once for all volumes that wait.
Status Repair::ReadLeases() {
  Leases fresh{.read_at = deps_.background->clock().Wall()};
  PERIGEE_TRY(ForEachLease(*deps_.store, [&](const IntentRow& row) {
    if (row.expires <= fresh.read_at) return Status::Ok();
    auto& first = fresh.first_expiry.try_emplace(row.volume, row.expires).first->second;
    first = std::min(first, row.expires);
    return Status::Ok();
  }));
  leases_ = std::move(fresh);
  return Status::Ok();
}

// Volumes whose drives changed not long ago: what was sent the old way since.
bool Repair::PickSettle() {
  for (const VolumeRecord& volume : deps_.table->Volumes()) {
    if (volume.left.empty() || volume.verify_after == 0) continue;
    for (uint32_t i = 0; i < volume.drives.size(); i++) {
      const uint64_t target = volume.drives[i];
      if (deps_.table->StateOf(target) != DriveState::kOnline || Postponed(target, volume.volume))
        continue;
      fill_ =
          Fill{.volume = volume.volume, .index = i, .target = target, .why = Fill::Why::kSettle};
      return true;
    }
  }
  return false;
}

void Repair::Clear(uint64_t drive_id) {
  {
    std::lock_guard lock(mu_);
    to_clear_.insert(drive_id);
  }
  Kick();
}

bool Repair::PickClear() {
  std::set<uint64_t> drives;
  {
    std::lock_guard lock(mu_);
    drives = to_clear_;
  }
  for (uint64_t id : drives) {
    const DriveState state = deps_.table->StateOf(id);
    if (state == DriveState::kRepairing || Postponed(id, 0)) continue;
    {
      std::lock_guard lock(mu_);
      to_clear_.erase(id);
    }
    if (state != DriveState::kOnline) continue;  // gone through as a whole when it comes back
    reconcile_ = Reconcile{.drive = id, .left = true};
    return true;
  }
  return false;
}

// What drives still have of volumes in whose places for it they are no more.
bool Repair::PickLeft() {
  const Nanos now = deps_.background->clock().Monotonic();
  for (const VolumeRecord& volume : deps_.table->Volumes()) {
    if (volume.verify_after != 0) continue;
    for (uint64_t id : volume.left) {
      auto last = last_look_.find({id, volume.volume});
      const bool looked = last != last_look_.end() && last->second > now;
      if (looked || Postponed(id, volume.volume)) continue;
      // One that is away is gone through as a whole when it comes back.
      if (deps_.table->StateOf(id) != DriveState::kOnline) {
        last_look_.erase({id, volume.volume});
        Status forgotten = deps_.table->ForgetLeft(volume.volume, id);
        if (!forgotten.ok()) log::Warn("left_drive_not_forgotten", {{"cause", forgotten}});
        return forgotten.ok();
      }
      reconcile_ = Reconcile{.drive = id,
                             .cursor = wire::BlobId{volume.volume, 0},
                             .volume = volume.volume,
                             .left = true};
      return true;
    }
  }
  return false;
}

bool Repair::PickMove() {
  bool any = false;
  const VolumeTable::Picture now = deps_.table->Now();
  auto drive = [&](uint64_t id) -> const PlanDrive* {
    for (const PlanDrive& d : now.drives)
      if (d.drive_id == id) return &d;
    return nullptr;
  };
  for (const VolumeRecord& volume : deps_.table->Volumes()) {
    for (const ShardMove& move : volume.moves) {
      any = true;
      const uint64_t from = volume.drives[move.index];
      const PlanDrive* source = drive(from);
      const PlanDrive* target = drive(move.to);
      const bool wanted = move.spread ? source && source->online : source && source->left;
      if (!wanted || target == nullptr || !target->takes) {
        Status cancelled = deps_.table->CancelMove(volume.volume, move.index);
        if (!cancelled.ok()) log::Warn("move_not_cancelled", {{"cause", cancelled}});
        return cancelled.ok();
      }
      if (Postponed(move.to, volume.volume)) continue;
      fill_ = Fill{.volume = volume.volume,
                   .index = move.index,
                   .target = move.to,
                   .replaces = from,
                   .why = Fill::Why::kMove,
                   .paced = move.spread};
      return true;
    }
  }
  return !any && PlanMove();
}

// One at a time: the next is decided when that is done.
bool Repair::PlanMove() {
  const VolumeTable::Picture now = deps_.table->Now();
  auto next = NextLeave(now.volumes, now.drives, options_.moves);
  // While shards are missing somewhere, nothing is moved for beauty.
  const bool whole = std::all_of(now.drives.begin(), now.drives.end(),
                                 [](const PlanDrive& d) { return d.online; });
  if (!next && whole) next = NextSpread(now.volumes, now.drives, options_.moves);
  if (!next) return false;
  Status started = deps_.table->StartMove(*next);
  if (!started.ok()) {
    log::Warn("move_not_started", {{"cause", started}});
    return false;
  }
  log::Info("shards_move", {{"volume", next->volume},
                            {"index", next->index},
                            {"to", HexEncode64(next->to)},
                            {"why", next->spread ? "spread" : "leave"}});
  return true;
}

// Without parity nothing but the drive that is left has what writers with older leases send there.
bool Repair::MayEnd(const Fill& fill) {
  auto volume = deps_.table->FindVolume(fill.volume);
  if (!volume) return false;
  if (volume->m > 0) return true;
  const int64_t now = deps_.background->clock().Wall();
  return std::all_of(volume->moves.begin(), volume->moves.end(), [&](const ShardMove& move) {
    return move.since + deps_.table->lease() < now;
  });
}

}  // namespace perigee::objectd
