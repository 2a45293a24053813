// How a DriveSet comes to be: new cluster, known cluster, or one whose state directory was lost.

#include <algorithm>

#include "base/log.h"
#include "base/random.h"
#include "client/ec/erasure_code.h"
#include "objectd/volume/drive_set.h"
#include "objectd/volume/empty_dir.h"

namespace perigee::objectd {
namespace {

std::string Joined(const std::vector<std::string>& names) {
  std::string out;
  for (const std::string& name : names) out += (out.empty() ? "" : ", ") + name;
  return out;
}

Status CheckProfile(Profile p, size_t drives) {
  if (p.k >= 1 && p.k <= client::kDataShardsMax && p.m <= client::kParityShardsMax &&
      p.k + p.m <= drives)
    return Status::Ok();
  return Status(Code::kInvalidArgument,
                "profile " + std::to_string(p.k) + "+" + std::to_string(p.m) + " does not fit " +
                    std::to_string(drives) +
                    " drives (1 to 16 data shards, 0 to 4 parity shards, " + "a drive for each)");
}

}  // namespace

Profile DefaultProfile(size_t drives) {
  if (drives <= 1) return {1, 0};
  if (drives == 2) return {1, 1};
  if (drives == 3) return {2, 1};
  return {static_cast<uint32_t>(std::min<size_t>(drives - 2, 8)), 2};
}

// Superblocks by directory. Absent, damaged and silent ones are left out; newer formats are
// refused.
Result<std::map<std::string, Superblock>> DriveSet::ReadSuperblocks() {
  std::map<std::string, Superblock> found;
  for (auto& [dir, superblock] : opener_.Superblocks(options_.dirs)) {
    if (superblock.ok()) {
      found[dir] = *superblock;
      continue;
    }
    if (superblock.code() == Code::kUnimplemented) return superblock.status().With(dir);
    if (superblock.code() != Code::kNotFound)
      log::Error("superblock_unreadable", {{"dir", dir}, {"cause", superblock.status()}});
  }
  return found;
}

Result<std::unique_ptr<DriveSet>> DriveSet::Open(Options options, DriveDeps deps) {
  for (std::string& dir : options.dirs) dir = CleanPath(dir);
  std::vector<std::string> sorted = options.dirs;
  std::sort(sorted.begin(), sorted.end());
  if (auto twice = std::adjacent_find(sorted.begin(), sorted.end()); twice != sorted.end())
    return Status(Code::kInvalidArgument, "drive directory " + *twice + " is given twice");
  if (sorted.empty()) return Status(Code::kInvalidArgument, "no drive directories are given");

  std::unique_ptr<DriveSet> set(new DriveSet(std::move(options), deps));
  auto file = ReadClusterFile(*deps.disk, set->options_.state_dir);
  if (!file.ok() && file.code() != Code::kNotFound && file.code() != Code::kCorrupt)
    return std::move(file).TakeStatus();
  PERIGEE_ASSIGN(auto found, set->ReadSuperblocks());
  if (file.ok() ? file->forming : found.empty()) PERIGEE_TRY(set->CheckAllAnswer());
  if (file.code() == Code::kCorrupt) {
    // Without a superblock nothing tells a new cluster from one whose drives are all away.
    if (found.empty()) return std::move(file).TakeStatus();
    log::Error("cluster_file_unreadable",
               {{"cause", file.status()}, {"remedy", "none: written anew"}});
  }
  if (file.ok() && file->node != 0) {
    return Status(Code::kPreconditionFailed,
                  set->options_.state_dir +
                      " is a storage node's: start with --join and the namespace node's address");
  }
  if (file.ok()) {
    set->cluster_id_ = file->cluster_id;
    set->profile_ = {file->k, file->m};
    for (const ClusterDrive& drive : file->drives)
      set->slots_.push_back({drive.drive_id, drive.slot, drive.dir, nullptr, ""});
    if (file->forming)
      PERIGEE_TRY(set->FormatAll());
    else
      PERIGEE_TRY(set->Match(found));
  } else if (found.empty()) {
    PERIGEE_TRY(set->Form());
  } else {
    PERIGEE_TRY(set->Recover(found));
  }
  const Options& o = set->options_;
  if (o.k + o.m != 0 && (o.k != set->k() || o.m != set->m())) {
    return Status(Code::kPreconditionFailed, "the cluster's profile is " +
                                                 std::to_string(set->k()) + "+" +
                                                 std::to_string(set->m()) + ", not " +
                                                 std::to_string(o.k) + "+" + std::to_string(o.m));
  }
  PERIGEE_TRY(set->OpenAll());
  return set;
}

// To be formatted. Logged here: the process ends only when the device has answered.
Status DriveSet::CheckAllAnswer() const {
  for (const std::string& dir : options_.dirs) {
    if (!opener_.Silent(dir)) continue;
    Status silent(Code::kUnavailable, dir + ": " + kSilentDrive);
    log::Error("cluster_not_formed", {{"cause", silent}});
    return silent;
  }
  return Status::Ok();
}

// A new cluster. The file comes first and says `forming`, so that a crash in between is finished,
// not taken for losses.
Status DriveSet::Form() {
  if (!options_.create_if_new)
    return Status(Code::kNotFound, "no cluster in " + Joined(options_.dirs));
  profile_ = options_.k + options_.m == 0 ? DefaultProfile(options_.dirs.size())
                                          : Profile{options_.k, options_.m};
  PERIGEE_TRY(CheckProfile(profile_, options_.dirs.size()));
  for (const std::string& dir : options_.dirs) PERIGEE_TRY(CheckFormattable(disk(), dir));
  cluster_id_ = SecretU64() | 1;
  for (const std::string& dir : options_.dirs)
    slots_.push_back({SecretU64() | 1, static_cast<uint32_t>(slots_.size()), dir, nullptr, ""});
  ClusterFile file = FileLocked();
  file.forming = true;
  PERIGEE_TRY(WriteClusterFile(disk(), options_.state_dir, file));
  return FormatAll();
}

Status DriveSet::FormatAll() {
  formed_now_ = true;
  mirror_epoch_ = 1;
  for (size_t i = 0; i < slots_.size() && i < profile_.m + 1; i++)
    mirrors_.push_back(slots_[i].drive_id);
  for (const DriveSlot& slot : slots_) {
    auto there = ReadSuperblock(disk(), slot.dir);
    if (there.ok() && there->cluster_id != cluster_id_) {
      return Status(Code::kPreconditionFailed,
                    slot.dir + " belongs to cluster " + HexEncode64(there->cluster_id) +
                        ", while cluster " + HexEncode64(cluster_id_) + " is being formed");
    }
    if (!there.ok()) PERIGEE_TRY(Drive::Format(disk(), slot.dir, SuperblockOfLocked(slot)));
    // Of an earlier attempt; nothing was stored in it.
    PERIGEE_TRY(ClearTree(disk(), slot.dir + "/meta"));
  }
  return Status::Ok();
}

Status DriveSet::ConfirmFormed() {
  if (!formed_now_) return Status::Ok();
  std::lock_guard change(change_mu_);
  ClusterFile file;
  {
    std::lock_guard lock(mu_);
    file = FileLocked();
  }
  PERIGEE_TRY(WriteClusterFile(disk(), options_.state_dir, file));
  log::Info("cluster_formed", {{"cluster", HexEncode64(cluster_id_)},
                               {"drives", file.drives.size()},
                               {"k", k()},
                               {"m", m()}});
  return Status::Ok();
}

// The state directory was lost: the drives know enough.
Status DriveSet::Recover(const std::map<std::string, Superblock>& found) {
  const Superblock* newest = nullptr;
  for (const auto& [dir, superblock] : found) {
    if (newest && superblock.cluster_id != newest->cluster_id)
      return Status(Code::kPreconditionFailed,
                    dir + " belongs to another cluster than the drives before it");
    if (!newest || superblock.mirror_epoch > newest->mirror_epoch) newest = &superblock;
  }
  cluster_id_ = newest->cluster_id;
  profile_ = {newest->k, newest->m};
  for (size_t i = 0; i < newest->drives.size(); i++)
    slots_.push_back({newest->drives[i], static_cast<uint32_t>(i), "", nullptr, ""});
  PERIGEE_TRY(Match(found));
  return WriteClusterFile(disk(), options_.state_dir, FileLocked());
}

// Finds each drive's directory by superblock; directories left over go to the drives left over, in
// order.
Status DriveSet::Match(const std::map<std::string, Superblock>& found) {
  std::vector<std::string> spare;
  size_t present = 0;
  std::vector<bool> matched(slots_.size(), false);
  for (const std::string& dir : options_.dirs) {
    auto it = found.find(dir);
    if (it == found.end()) {
      spare.push_back(dir);
      continue;
    }
    if (it->second.cluster_id != cluster_id_) {
      return Status(Code::kPreconditionFailed,
                    dir + " belongs to cluster " + HexEncode64(it->second.cluster_id) +
                        ", not to " + HexEncode64(cluster_id_) + ": it is not used");
    }
    auto slot = std::find_if(slots_.begin(), slots_.end(),
                             [&](const DriveSlot& s) { return s.drive_id == it->second.drive_id; });
    if (slot == slots_.end()) {
      log::Warn("drive_retired", {{"dir", dir}, {"drive", HexEncode64(it->second.drive_id)}});
      spare.push_back(dir);
      continue;
    }
    if (matched[slot - slots_.begin()])
      return Status(Code::kPreconditionFailed,
                    dir + " and " + slot->dir + " are copies of one drive");
    matched[slot - slots_.begin()] = true;
    slot->dir = dir;
    present++;
    if (it->second.mirror_epoch > mirror_epoch_) {
      mirror_epoch_ = it->second.mirror_epoch;
      mirrors_ = it->second.mirrors;
    }
  }
  // A lost drive keeps its directory when that was given; else it gets the next one that nobody
  // has.
  for (size_t i = 0; i < slots_.size(); i++) {
    if (matched[i]) continue;
    auto own = std::find(spare.begin(), spare.end(), slots_[i].dir);
    if (own != spare.end()) {
      spare.erase(own);
      matched[i] = true;
    }
  }
  for (size_t i = 0; i < slots_.size() && !spare.empty(); i++) {
    if (matched[i]) continue;
    slots_[i].dir = spare.front();
    spare.erase(spare.begin());
  }
  if (!spare.empty()) {
    return Status(Code::kPreconditionFailed,
                  Joined(spare) + ": not a drive of this cluster, which has " +
                      std::to_string(slots_.size()) + "; drives are not added yet");
  }
  if (present + profile_.m < slots_.size()) {
    std::vector<std::string> missing;
    for (const DriveSlot& slot : slots_)
      if (!found.contains(slot.dir))
        missing.push_back(slot.dir.empty() ? "drive " + HexEncode64(slot.drive_id) : slot.dir);
    return Status(Code::kUnavailable, "only " + std::to_string(present) + " of " +
                                          std::to_string(slots_.size()) + " drives are there, " +
                                          std::to_string(slots_.size() - profile_.m) +
                                          " are needed; missing: " + Joined(missing));
  }
  return Status::Ok();
}

// What keeps a drive from being served is in its slot's `problem`. An error: its format is newer.
Status DriveSet::OpenAll() {
  std::vector<DriveOpener::Wanted> wanted;
  for (const DriveSlot& slot : slots_) wanted.push_back(WantedIn(slot));
  auto opened = opener_.Open(wanted);
  for (size_t i = 0; i < slots_.size(); ++i) {
    DriveSlot& slot = slots_[i];
    if (opened[i] && opened[i]->code() == Code::kUnimplemented) return opened[i]->status();
    if (opened[i] && opened[i]->ok()) {
      slot.drive = std::move(**opened[i]);
      continue;
    }
    slot.problem = opened[i] ? opened[i]->status().message() : kSilentDrive;
    log::Error("drive_lost", {{"dir", slot.dir},
                              {"drive", HexEncode64(slot.drive_id)},
                              {"cause", slot.problem},
                              {"remedy", "perigee drive replace " + slot.dir}});
  }
  if (MirrorPlaces().empty()) {
    std::vector<std::string> dirs;
    for (const DriveSlot& slot : slots_)
      if (std::find(mirrors_.begin(), mirrors_.end(), slot.drive_id) != mirrors_.end())
        dirs.push_back(slot.dir);
    return Status(Code::kUnavailable,
                  "no in-sync mirror of the namespace is there; they are on " + Joined(dirs));
  }
  return EjectLost();
}

// Commits go on without the mirrors of lost drives. Said in the superblocks first, so that such a
// mirror is not taken for an up-to-date one when its drive returns and the others are away.
Status DriveSet::EjectLost() {
  std::lock_guard change(change_mu_);
  std::vector<uint64_t> mirrors;
  for (const kv::MirrorPlace& place : MirrorPlaces()) mirrors.push_back(place.drive_id);
  uint64_t epoch = 0;
  {
    std::lock_guard lock(mu_);
    if (mirrors.size() == mirrors_.size()) return Status::Ok();
    epoch = mirror_epoch_ + 1;
  }
  log::Warn("mirrors_ejected", {{"left", mirrors.size()}});
  return SpreadSuperblocks(epoch, mirrors);
}

}  // namespace perigee::objectd
