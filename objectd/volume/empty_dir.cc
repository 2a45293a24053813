#include "objectd/volume/empty_dir.h"

namespace perigee::objectd {

std::string CleanPath(std::string path) {
  while (path.size() > 1 && path.ends_with('/')) path.pop_back();
  return path;
}

namespace {

// What Drive::Format leaves behind when it is cut off: no content, and no superblock yet.
Result<bool> LeftByFormat(Disk& disk, const std::string& dir, const DirEntry& entry) {
  if (!entry.is_directory) return entry.name == "superblock.tmp";
  if (entry.name != "segments") return false;
  PERIGEE_ASSIGN(std::vector<DirEntry> segments, disk.List(dir + "/" + entry.name));
  return segments.empty();
}

}  // namespace

Status CheckFormattable(Disk& disk, const std::string& dir) {
  auto info = disk.Stat(dir);
  if (info.code() == Code::kNotFound) return Status::Ok();
  if (!info.ok()) return std::move(info).TakeStatus();
  if (!info->is_directory) return Status(Code::kPreconditionFailed, dir + " is not a directory");
  PERIGEE_ASSIGN(std::vector<DirEntry> entries, disk.List(dir));
  for (const DirEntry& entry : entries) {
    if (entry.name == "lost+found") continue;
    PERIGEE_ASSIGN(bool left_by_format, LeftByFormat(disk, dir, entry));
    if (left_by_format) continue;
    return Status(Code::kPreconditionFailed,
                  dir + " is not empty (" + entry.name + " is there): it is not formatted");
  }
  return Status::Ok();
}

Status ClearTree(Disk& disk, const std::string& dir) {
  auto entries = disk.List(dir);
  if (entries.code() == Code::kNotFound) return Status::Ok();
  if (!entries.ok()) return std::move(entries).TakeStatus();
  for (const DirEntry& entry : *entries) {
    const std::string path = dir + "/" + entry.name;
    if (entry.is_directory) {
      PERIGEE_TRY(ClearTree(disk, path));
      PERIGEE_TRY(disk.RemoveDir(path));
    } else {
      PERIGEE_TRY(disk.Unlink(path));
    }
  }
  return disk.SyncDir(dir);
}

}  // namespace perigee::objectd
