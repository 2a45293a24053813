#include "objectd/volume/node_drives.h"

#include <algorithm>

#include "base/failpoint.h"
#include "base/log.h"
#include "base/random.h"
#include "objectd/volume/empty_dir.h"

namespace perigee::objectd {
namespace {

using wire::DriveState;

Superblock SuperblockOf(uint64_t cluster_id, const ClusterDrive& drive) {
  Superblock superblock;
  superblock.cluster_id = cluster_id;
  superblock.drive_id = drive.drive_id;
  superblock.slot = drive.slot;
  return superblock;
}

uint32_t NextSlot(const ClusterFile& file) {
  uint32_t next = 0;
  for (const ClusterDrive& drive : file.drives) next = std::max(next, drive.slot + 1);
  return next;
}

bool Knows(const ClusterFile& file, const std::string& dir) {
  return std::any_of(file.drives.begin(), file.drives.end(),
                     [&](const ClusterDrive& drive) { return drive.dir == dir && !drive.forming; });
}

DriveSlot SlotOf(const ClusterDrive& drive) {
  return {.drive_id = drive.drive_id, .slot = drive.slot, .dir = drive.dir};
}

}  // namespace

Result<std::unique_ptr<NodeDrives>> NodeDrives::Create(Options options, DriveDeps deps) {
  for (std::string& dir : options.dirs) dir = CleanPath(dir);
  std::vector<std::string> sorted = options.dirs;
  std::sort(sorted.begin(), sorted.end());
  if (auto twice = std::adjacent_find(sorted.begin(), sorted.end()); twice != sorted.end())
    return Status(Code::kInvalidArgument, "drive directory " + *twice + " is given twice");
  std::unique_ptr<NodeDrives> drives(new NodeDrives(std::move(options), deps));
  auto file = ReadClusterFile(*deps.disk, drives->options_.state_dir);
  if (file.ok() && file->node == 0) {
    return Status(Code::kPreconditionFailed,
                  drives->options_.state_dir + " is a namespace node's: start without --join");
  }
  if (file.ok()) {
    drives->file_ = std::move(*file);
    return drives;
  }
  if (file.code() != Code::kNotFound) return std::move(file).TakeStatus();
  drives->file_.node = SecretU64() | 1;
  PERIGEE_TRY(drives->Save(drives->file_));
  return drives;
}

uint64_t NodeDrives::cluster_id() const {
  std::lock_guard lock(mu_);
  return file_.cluster_id;
}

Status NodeDrives::Save(const ClusterFile& file) {
  PERIGEE_FAILPOINT_STATUS(node_drives_before_write);
  PERIGEE_TRY(WriteClusterFile(*deps_.disk, options_.state_dir, file));
  PERIGEE_FAILPOINT_STATUS(node_drives_after_write);
  std::lock_guard lock(mu_);
  file_ = file;
  return Status::Ok();
}

Status NodeDrives::Open(uint64_t cluster_id) {
  std::lock_guard change(change_mu_);
  ClusterFile file = file_;
  if (file.cluster_id != 0 && file.cluster_id != cluster_id) {
    return Status(Code::kPreconditionFailed,
                  "this node belongs to cluster " + HexEncode64(file.cluster_id) +
                      ", and the namespace node is of cluster " + HexEncode64(cluster_id));
  }
  file.cluster_id = cluster_id;
  PERIGEE_TRY(AddNew(&file));
  if (file != file_) PERIGEE_TRY(Save(file));
  PERIGEE_TRY(FormatNew(&file));
  if (file != file_) PERIGEE_TRY(Save(file));
  std::vector<DriveSlot> slots;
  for (const ClusterDrive& drive : file.drives) slots.push_back(SlotOf(drive));
  OpenSlots(&slots);
  std::lock_guard lock(mu_);
  slots_ = std::move(slots);
  return Status::Ok();
}

// Names what is in directories that the file does not know. Known drives are looked for in all of
// them: their directories may have been swapped.
Status NodeDrives::AddNew(ClusterFile* file) {
  auto superblocks = opener_.Superblocks(options_.dirs);
  for (const std::string& dir : options_.dirs) {
    auto found = superblocks.find(dir);
    const bool silent = found == superblocks.end();
    if (silent && Knows(*file, dir)) continue;
    if (silent) return Status(Code::kUnavailable, dir + ": " + kSilentDrive);
    const Result<Superblock>& superblock = found->second;
    if (superblock.code() == Code::kUnimplemented) return superblock.status().With(dir);
    if (superblock.ok() && superblock->cluster_id != file->cluster_id) {
      return Status(Code::kPreconditionFailed, dir + " belongs to cluster " +
                                                   HexEncode64(superblock->cluster_id) +
                                                   ", not to " + HexEncode64(file->cluster_id));
    }
    auto at = std::find_if(file->drives.begin(), file->drives.end(), [&](const ClusterDrive& d) {
      return superblock.ok() ? d.drive_id == superblock->drive_id : d.dir == dir;
    });
    if (at != file->drives.end()) {
      at->dir = dir;
      continue;
    }
    ClusterDrive drive{.slot = NextSlot(*file), .dir = dir};
    if (superblock.ok()) {
      drive.drive_id = superblock->drive_id;
    } else if (superblock.code() == Code::kNotFound) {
      PERIGEE_TRY(CheckFormattable(*deps_.disk, dir));
      drive.drive_id = SecretU64() | 1;
      drive.forming = true;
    } else {
      return superblock.status().With(dir);
    }
    file->drives.push_back(std::move(drive));
  }
  return Status::Ok();
}

Status NodeDrives::FormatNew(ClusterFile* file) {
  for (ClusterDrive& drive : file->drives) {
    if (!drive.forming) continue;
    Status formatted = Drive::Format(*deps_.disk, drive.dir, SuperblockOf(file->cluster_id, drive));
    if (!formatted.ok() && !formatted.Is(Code::kAlreadyExists)) return formatted;
    formatted.Ignore();  // a start before this one has done it
    drive.forming = false;
  }
  return Status::Ok();
}

bool NodeDrives::IsGiven(const DriveSlot& slot) const {
  return std::find(options_.dirs.begin(), options_.dirs.end(), slot.dir) != options_.dirs.end();
}

// What keeps a drive from being served is in its slot's `problem`.
void NodeDrives::OpenSlots(std::vector<DriveSlot>* slots) {
  std::vector<DriveOpener::Wanted> wanted;
  for (const DriveSlot& slot : *slots) {
    wanted.push_back(WantedIn(slot));
    if (!IsGiven(slot)) wanted.back().dir.clear();
  }
  auto opened = opener_.Open(wanted);
  for (size_t i = 0; i < slots->size(); ++i) {
    DriveSlot& slot = (*slots)[i];
    if (!IsGiven(slot))
      slot.problem = "its directory is not among --drive";
    else if (!opened[i])
      slot.problem = kSilentDrive;
    else if (!opened[i]->ok())
      slot.problem = opened[i]->status().message();
    else
      slot.drive = std::move(**opened[i]);
    if (slot.drive) continue;
    log::Error("drive_lost", {{"dir", slot.dir},
                              {"drive", HexEncode64(slot.drive_id)},
                              {"cause", slot.problem},
                              {"remedy", "perigee drive replace " + slot.dir}});
  }
}

std::shared_ptr<Drive> NodeDrives::Find(uint64_t drive_id) const {
  std::lock_guard lock(mu_);
  for (const DriveSlot& slot : slots_)
    if (slot.drive_id == drive_id) return slot.drive;
  return nullptr;
}

wire::NodeDrive NodeDrives::Describe(const DriveSlot& slot) const {
  wire::NodeDrive drive{.drive_id = slot.drive_id, .dir = slot.dir};
  if (!slot.drive) {
    drive.state = DriveState::kLost;
    drive.reason = slot.problem;
    return drive;
  }
  if (!slot.drive->online()) {
    drive.state = DriveState::kOffline;
    drive.reason = slot.drive->offline_reason();
  }
  auto space = slot.drive->Space();
  if (!space.ok()) {
    space.status().Ignore();  // an offline drive has none to give
    return drive;
  }
  drive.total_bytes = space->total_bytes;
  drive.free_bytes = space->free_bytes;
  return drive;
}

std::vector<wire::NodeDrive> NodeDrives::Report() const {
  std::vector<DriveSlot> slots;
  {
    std::lock_guard lock(mu_);
    slots = slots_;
  }
  std::vector<wire::NodeDrive> all;
  for (const DriveSlot& slot : slots) all.push_back(Describe(slot));
  return all;
}

void NodeDrives::Probe() {
  std::lock_guard change(change_mu_);
  std::vector<DriveSlot> slots;
  {
    std::lock_guard lock(mu_);
    slots = slots_;
  }
  for (DriveSlot& slot : slots) {
    if (slot.drive) {
      // Writes to unlinked files would succeed for ever: an emptied directory is noticed here.
      if (slot.drive->online() &&
          IsGone(slot.drive->StoredSuperblock(), file_.cluster_id, slot.drive_id))
        slot.drive->SetOffline("its superblock is gone from " + slot.dir);
      continue;
    }
    if (!IsGiven(slot)) continue;
    auto opened = opener_.Return(WantedIn(slot));
    if (!opened) continue;
    if (opened->ok()) {
      slot.drive = std::move(**opened);
      slot.problem.clear();
      log::Info("drive_returned", {{"dir", slot.dir}});
    } else if (!opened->status().Is(Code::kNotFound)) {
      log::Warn("drive_not_opened", {{"dir", slot.dir}, {"cause", opened->status()}});
    }
  }
  std::lock_guard lock(mu_);
  slots_ = std::move(slots);
}

Result<wire::NodeDrive> NodeDrives::Replace(const std::string& dir) {
  const std::string wanted = CleanPath(dir);
  std::lock_guard change(change_mu_);
  std::vector<DriveSlot> slots;
  {
    std::lock_guard lock(mu_);
    slots = slots_;
  }
  auto at = std::find_if(slots.begin(), slots.end(),
                         [&](const DriveSlot& slot) { return slot.dir == wanted; });
  if (at == slots.end())
    return Status(Code::kNotFound, wanted + " is not the directory of a drive of this node");
  PERIGEE_TRY(CheckReplaceable(*at, opener_.Silent(wanted)));
  auto there = ReadSuperblock(*deps_.disk, wanted);
  if (there.ok()) {
    return Status(Code::kPreconditionFailed,
                  wanted + " still holds drive " + HexEncode64(there->drive_id) +
                      "; restart to bring it back, or empty the directory to replace it");
  }
  if (there.code() != Code::kNotFound) return there.status().With("not replaced");
  PERIGEE_TRY(CheckFormattable(*deps_.disk, wanted));
  if (at->drive) at->drive->Stop();
  ClusterFile file = file_;
  std::erase_if(file.drives, [&](const ClusterDrive& d) { return d.drive_id == at->drive_id; });
  file.drives.push_back(
      {.drive_id = SecretU64() | 1, .slot = NextSlot(file), .dir = wanted, .forming = true});
  PERIGEE_TRY(Save(file));
  PERIGEE_TRY(FormatNew(&file));
  PERIGEE_TRY(Save(file));
  std::vector<DriveSlot> made{SlotOf(file.drives.back())};
  OpenSlots(&made);
  *at = std::move(made.front());
  log::Info("drive_replaced", {{"dir", wanted}, {"drive", HexEncode64(at->drive_id)}});
  wire::NodeDrive fresh = Describe(*at);
  std::lock_guard lock(mu_);
  slots_ = std::move(slots);
  return fresh;
}

void NodeDrives::Stop() {
  std::lock_guard lock(mu_);
  for (const DriveSlot& slot : slots_)
    if (slot.drive) slot.drive->Stop();
}

}  // namespace perigee::objectd
