#include "objectd/volume/drive_set.h"

#include <algorithm>
#include <set>

#include "base/failpoint.h"
#include "base/log.h"
#include "base/random.h"
#include "objectd/volume/empty_dir.h"

namespace perigee::objectd {

std::vector<DriveSlot> DriveSet::Slots() const {
  std::lock_guard lock(mu_);
  return slots_;
}

std::shared_ptr<Drive> DriveSet::Find(uint64_t drive_id) const {
  std::lock_guard lock(mu_);
  for (const DriveSlot& slot : slots_)
    if (slot.drive_id == drive_id) return slot.drive;
  return nullptr;
}

uint32_t DriveSet::mirrors_wanted() const {
  std::lock_guard lock(mu_);
  return std::min<uint32_t>(static_cast<uint32_t>(slots_.size()), profile_.m + 1);
}

uint32_t DriveSet::superblocks_needed() const {
  std::lock_guard lock(mu_);
  uint32_t n = static_cast<uint32_t>(slots_.size());
  return std::max<uint32_t>(1, std::min(profile_.m + 1, n - profile_.m));
}

std::vector<kv::MirrorPlace> DriveSet::MirrorPlaces() const {
  std::lock_guard lock(mu_);
  std::vector<kv::MirrorPlace> places;
  for (const DriveSlot& slot : slots_) {
    if (slot.drive && std::find(mirrors_.begin(), mirrors_.end(), slot.drive_id) != mirrors_.end())
      places.push_back(PlaceOf(*slot.drive));
  }
  return places;
}

std::vector<uint64_t> DriveSet::MirrorIds() const {
  std::lock_guard lock(mu_);
  return mirrors_;
}

Superblock DriveSet::SuperblockOfLocked(const DriveSlot& slot) const {
  Superblock s;
  s.cluster_id = cluster_id_;
  s.drive_id = slot.drive_id;
  s.slot = slot.slot;
  s.k = profile_.k;
  s.m = profile_.m;
  s.drive_count = static_cast<uint32_t>(slots_.size());
  s.mirror_epoch = mirror_epoch_;
  s.mirrors = mirrors_;
  for (const DriveSlot& other : slots_) s.drives.push_back(other.drive_id);
  return s;
}

ClusterFile DriveSet::FileLocked() const {
  ClusterFile file;
  file.cluster_id = cluster_id_;
  file.k = profile_.k;
  file.m = profile_.m;
  for (const DriveSlot& slot : slots_) {
    ClusterDrive drive;
    drive.drive_id = slot.drive_id;
    drive.slot = slot.slot;
    drive.dir = slot.dir;
    file.drives.push_back(std::move(drive));
  }
  return file;
}

Status DriveSet::Eject(uint64_t drive_id, const std::string&) {
  return ChangeMirrors(drive_id, false);
}

Status DriveSet::Admit(uint64_t drive_id) { return ChangeMirrors(drive_id, true); }

Status DriveSet::ChangeMirrors(uint64_t drive_id, bool in_sync) {
  std::lock_guard change(change_mu_);
  std::vector<uint64_t> mirrors;
  uint64_t epoch = 0;
  {
    std::lock_guard lock(mu_);
    mirrors = mirrors_;
    epoch = mirror_epoch_ + 1;
  }
  auto at = std::find(mirrors.begin(), mirrors.end(), drive_id);
  if ((at != mirrors.end()) == in_sync) return Status::Ok();
  if (in_sync)
    mirrors.push_back(drive_id);
  else
    mirrors.erase(at);
  return SpreadSuperblocks(epoch, mirrors);
}

// change_mu_ is held. Writes the new set to all drives that take it; durable when enough did.
Status DriveSet::SpreadSuperblocks(uint64_t epoch, const std::vector<uint64_t>& mirrors) {
  std::vector<std::pair<std::shared_ptr<Drive>, Superblock>> writes;
  const uint32_t needed = superblocks_needed();
  {
    std::lock_guard lock(mu_);
    // Grows even if this fails half-way: two different sets must never have one epoch.
    mirror_epoch_ = epoch;
    for (const DriveSlot& slot : slots_) {
      if (!slot.drive || !slot.drive->online()) continue;
      Superblock superblock = SuperblockOfLocked(slot);
      superblock.mirrors = mirrors;
      writes.emplace_back(slot.drive, std::move(superblock));
    }
  }
  PERIGEE_FAILPOINT_STATUS(mirror_epoch_before_write);
  uint32_t written = 0;
  std::string failures;
  for (auto& [drive, superblock] : writes) {
    Status outcome = drive->WriteSuperblock(superblock);
    if (outcome.ok())
      written++;
    else
      failures += "; " + outcome.message();
  }
  PERIGEE_FAILPOINT(mirror_epoch_after_write);
  if (written < needed) {
    return Status(Code::kUnavailable, "the mirror set is on " + std::to_string(written) +
                                          " drives, " + std::to_string(needed) + " are needed" +
                                          failures);
  }
  std::lock_guard lock(mu_);
  mirrors_ = mirrors;
  return Status::Ok();
}

Result<DriveSlot> DriveSet::Replace(const std::string& dir) {
  const std::string wanted = CleanPath(dir);
  std::lock_guard change(change_mu_);
  size_t at = 0;
  std::shared_ptr<Drive> old;
  DriveSlot fresh;
  ClusterFile file;
  std::vector<uint64_t> mirrors;
  {
    std::lock_guard lock(mu_);
    while (at < slots_.size() && slots_[at].dir != wanted) at++;
    if (at == slots_.size())
      return Status(Code::kNotFound, wanted + " is not the directory of a drive of this cluster");
    PERIGEE_TRY(CheckReplaceable(slots_[at], opener_.Silent(wanted)));
    old = slots_[at].drive;
    fresh.slot = slots_[at].slot;
    fresh.dir = wanted;
    fresh.drive_id = SecretU64() | 1;
    file = FileLocked();
    file.drives[at].drive_id = fresh.drive_id;
    mirrors = mirrors_;
    std::erase(mirrors, slots_[at].drive_id);
    if (mirrors.empty())
      return Status(Code::kUnavailable,
                    "the last in-sync mirror of the namespace was on " + wanted);
  }
  auto there = ReadSuperblock(disk(), wanted);
  if (there.ok()) {
    return Status(Code::kPreconditionFailed,
                  wanted + " still holds drive " + HexEncode64(there->drive_id) +
                      "; restart to bring it back, or empty the directory to replace it");
  }
  if (there.code() != Code::kNotFound) return there.status().With("not replaced");
  PERIGEE_TRY(CheckFormattable(disk(), wanted));
  if (old) old->Stop();

  // The file first: a crash behind it leaves a lost drive with the new name, which can be replaced
  // again.
  PERIGEE_TRY(WriteClusterFile(disk(), options_.state_dir, file));
  Superblock superblock;
  uint64_t epoch = 0;
  {
    std::lock_guard lock(mu_);
    slots_[at].drive_id = fresh.drive_id;
    slots_[at].drive = nullptr;
    slots_[at].problem = "being formatted";
    superblock = SuperblockOfLocked(slots_[at]);
    superblock.mirrors = mirrors;
    epoch = mirror_epoch_ + 1;
  }
  PERIGEE_FAILPOINT_STATUS(drive_replace_before_format);
  PERIGEE_TRY(Drive::Format(disk(), wanted, superblock));
  PERIGEE_FAILPOINT(drive_replace_after_format);
  PERIGEE_ASSIGN(std::unique_ptr<Drive> drive,
                 Drive::Open(wanted, cluster_id_, options_.drive, deps_));
  fresh.drive = std::move(drive);
  {
    std::lock_guard lock(mu_);
    slots_[at].drive = fresh.drive;
    slots_[at].problem.clear();
  }
  PERIGEE_TRY(SpreadSuperblocks(epoch, mirrors));
  log::Info("drive_replaced", {{"dir", wanted}, {"drive", HexEncode64(fresh.drive_id)}});
  return fresh;
}

void DriveSet::Probe() {
  for (const DriveSlot& slot : Slots()) {
    if (slot.drive) {
      if (!slot.drive->online()) continue;
      auto superblock = slot.drive->StoredSuperblock();
      // Writes to unlinked files would succeed for ever: an emptied directory is noticed here.
      if (IsGone(superblock, cluster_id_, slot.drive_id))
        slot.drive->SetOffline("its superblock is gone from " + slot.dir);
      else if (slot.drive->online() && superblock.code() == Code::kCorrupt)
        MendSuperblock(*slot.drive, superblock.status());
      continue;
    }
    std::lock_guard change(change_mu_);
    auto opened = opener_.Return(WantedIn(slot));
    if (!opened) continue;
    if (!opened->ok()) {
      if (!opened->status().Is(Code::kNotFound))
        log::Warn("drive_not_opened", {{"dir", slot.dir}, {"cause", opened->status()}});
      continue;
    }
    std::lock_guard lock(mu_);
    for (DriveSlot& mine : slots_) {
      if (mine.drive_id != slot.drive_id || mine.drive) continue;
      mine.drive = std::move(**opened);
      mine.problem.clear();
      log::Info("drive_returned", {{"dir", slot.dir}, {"drive", HexEncode64(slot.drive_id)}});
      break;
    }
  }
}

// A block that rotted: the next start would take the drive for lost.
void DriveSet::MendSuperblock(Drive& drive, const Status& cause) {
  std::lock_guard change(change_mu_);
  Status outcome = drive.WriteSuperblock(drive.superblock());
  log::Error("superblock_mended", {{"dir", drive.dir()}, {"cause", cause}, {"outcome", outcome}});
}

bool DriveSet::SharesFileSystem() const {
  std::set<uint64_t> systems;
  for (const DriveSlot& slot : Slots()) {
    if (!slot.drive) continue;
    auto space = disk().Space(slot.dir);
    if (space.ok() && !systems.insert(space->file_system).second) return true;
  }
  return false;
}

void DriveSet::Stop() {
  for (const DriveSlot& slot : Slots())
    if (slot.drive) slot.drive->Stop();
}

}  // namespace perigee::objectd
