// The part of VolumeTable that changes which drives a volume is on.

#include <algorithm>
#include <set>

#include "base/failpoint.h"
#include "objectd/volume/volume_table.h"

namespace perigee::objectd {

using wire::DriveState;

namespace {

bool Left(const VolumeRecord& record, uint64_t drive_id) {
  return std::find(record.left.begin(), record.left.end(), drive_id) != record.left.end();
}

void Leave(VolumeRecord* record, uint64_t drive_id) {
  if (!Left(*record, drive_id)) record->left.push_back(drive_id);
}

}  // namespace

Status VolumeTable::ChangeVolume(uint32_t volume,
                                 const std::function<Status(VolumeRecord*)>& change) {
  Turn turn(this);
  Changes changes;
  {
    std::lock_guard lock(mu_);
    auto it = volumes_.find(volume);
    if (it == volumes_.end()) return Status(Code::kNotFound, "no volume " + std::to_string(volume));
    VolumeRecord record = it->second;
    PERIGEE_TRY(change(&record));
    changes.volumes.push_back(std::move(record));
  }
  PERIGEE_FAILPOINT_STATUS(volume_move_before_commit);
  PERIGEE_TRY(Commit(std::move(changes)));
  PERIGEE_FAILPOINT(volume_move_after_commit);
  return Status::Ok();
}

Status VolumeTable::SwapDrive(uint32_t volume, uint64_t from, uint64_t to) {
  PERIGEE_FAILPOINT_STATUS(repair_before_swap);
  PERIGEE_TRY(ChangeVolume(volume, [&](VolumeRecord* record) -> Status {
    auto at = std::find(record->drives.begin(), record->drives.end(), from);
    if (at == record->drives.end())
      return Status(Code::kStale, "the volume does not have that drive any more");
    *at = to;
    std::erase_if(record->moves, [&](const ShardMove& move) { return move.to == to; });
    std::erase(record->left, to);
    Leave(record, from);
    record->epoch = 0;  // Commit gives it the new one
    record->verify_after = LeasesOver();
    return Status::Ok();
  }));
  PERIGEE_FAILPOINT(repair_after_swap);
  return Status::Ok();
}

Status VolumeTable::StartMove(const PlannedMove& move) {
  return ChangeVolume(move.volume, [&](VolumeRecord* record) -> Status {
    if (move.index >= record->drives.size() || !record->moves.empty())
      return Status(Code::kStale, "the volume has changed");
    record->moves.push_back(
        {.index = move.index, .to = move.to, .spread = move.spread, .since = clock_->Wall()});
    return Status::Ok();
  });
}

Status VolumeTable::CancelMove(uint32_t volume, uint32_t index) {
  return ChangeVolume(volume, [&](VolumeRecord* record) -> Status {
    auto move = std::find_if(record->moves.begin(), record->moves.end(),
                             [&](const ShardMove& m) { return m.index == index; });
    if (move == record->moves.end()) return Status(Code::kStale, "there is no such move");
    Leave(record, move->to);
    record->moves.erase(move);
    return Status::Ok();
  });
}

Status VolumeTable::AddLeft(uint32_t volume, uint64_t drive_id) {
  auto now = FindVolume(volume);
  if (now && Left(*now, drive_id)) return Status::Ok();
  return ChangeVolume(volume, [&](VolumeRecord* record) -> Status {
    Leave(record, drive_id);
    return Status::Ok();
  });
}

Status VolumeTable::ForgetLeft(uint32_t volume, uint64_t drive_id) {
  return ChangeVolume(volume, [&](VolumeRecord* record) -> Status {
    std::erase(record->left, drive_id);
    return Status::Ok();
  });
}

Status VolumeTable::CoverDrives() {
  const std::vector<PlacedDrive> usable = UsableDrives();
  std::vector<uint64_t> ids;
  for (const PlacedDrive& drive : usable) ids.push_back(drive.drive_id);
  const Nanos now = clock_->Monotonic();
  {
    std::lock_guard lock(mu_);
    if (ids != usable_) {
      usable_ = std::move(ids);
      usable_since_ = now;
    }
    if (now - usable_since_ < options_.cover_after) return Status::Ok();
    std::set<uint64_t> used;
    for (const auto& [id, volume] : volumes_) {
      used.insert(volume.drives.begin(), volume.drives.end());
      for (const ShardMove& move : volume.moves) used.insert(move.to);
    }
    if (std::all_of(usable_.begin(), usable_.end(), [&](uint64_t id) { return used.contains(id); }))
      return Status::Ok();
  }
  const uint32_t k = WidestData(drives_->k(), drives_->m(), usable.size());
  if (k == 0) return Status::Ok();
  Turn turn(this);
  return CreateVolumes(k, usable);
}

VolumeTable::Picture VolumeTable::Now() const {
  Picture picture;
  const int64_t away_since = clock_->Wall() - options_.repair_after;
  std::lock_guard lock(mu_);
  for (const auto& [id, record] : records_) {
    PlanDrive drive{.drive_id = id, .node = record.node};
    const bool away = record.state == DriveState::kOffline || record.state == DriveState::kLost;
    auto place = places_.find(id);
    drive.online = record.state == DriveState::kOnline;
    drive.takes = drive.online && place != places_.end() && !place->second.closed;
    drive.left = (place != places_.end() && place->second.leaving) ||
                 (away && record.node != 0 && record.since < away_since);
    if (auto space = space_.find(id); space != space_.end()) {
      drive.total_bytes = space->second.total_bytes;
      drive.free_bytes = space->second.free_bytes;
    }
    picture.drives.push_back(drive);
  }
  for (const auto& [id, record] : volumes_) {
    PlanVolume volume{.volume = id, .drives = record.drives, .barred = record.left};
    volume.moves = !record.moves.empty();
    volume.unverified = record.verify_after != 0;
    picture.volumes.push_back(std::move(volume));
    picture.m_of_volume.push_back(record.m);
  }
  return picture;
}

}  // namespace perigee::objectd
