// Mirror directories as a whole: cleared, replaced by a copy, recovered (mirror_copy.h).

#include <filesystem>

#include "base/disk.h"
#include "base/failpoint.h"
#include "base/log.h"
#include "objectd/kv/mirror_copy.h"

namespace perigee::objectd::kv {
namespace {

std::string CopyDir(const std::string& dir) { return dir + ".copy"; }
std::string OldDir(const std::string& dir) { return dir + ".old"; }

Result<bool> Exists(Disk& disk, const std::string& path) {
  Result<FileInfo> info = disk.Stat(path);
  if (info.ok()) return true;
  if (info.status().Is(Code::kNotFound)) return false;
  return info.status();
}

Status RemoveTree(const std::string& dir) {
  std::error_code error;
  std::filesystem::remove_all(dir, error);
  if (error) return Status::FromErrno(error.value(), "remove " + dir);
  return Status::Ok();
}

Status RenameDurably(Disk& disk, const std::string& from, const std::string& to) {
  PERIGEE_TRY(disk.Rename(from, to));
  return disk.SyncDir(ParentDir(to));
}

Status Swap(const std::string& dir) {
  std::unique_ptr<Disk> disk = CreatePosixDisk();
  PERIGEE_TRY(RemoveTree(OldDir(dir)));
  PERIGEE_FAILPOINT_STATUS(kv_copy_before_swap);
  PERIGEE_TRY(RenameDurably(*disk, dir, OldDir(dir)));
  PERIGEE_FAILPOINT_STATUS(kv_copy_between_swaps);
  PERIGEE_TRY(RenameDurably(*disk, CopyDir(dir), dir));
  PERIGEE_FAILPOINT_STATUS(kv_copy_after_swap);
  return RemoveTree(OldDir(dir));
}

}  // namespace

Status ClearMirrorDir(const std::string& dir) {
  std::unique_ptr<Disk> disk = CreatePosixDisk();
  PERIGEE_TRY(RemoveTree(dir));
  PERIGEE_TRY(disk->CreateDirs(dir));
  PERIGEE_FAILPOINT_STATUS(kv_clear_before_sync);
  PERIGEE_TRY(disk->SyncDir(ParentDir(dir)));
  PERIGEE_FAILPOINT_STATUS(kv_clear_after_sync);
  return Status::Ok();
}

Status RecoverMirrorDir(const std::string& dir) {
  std::unique_ptr<Disk> disk = CreatePosixDisk();
  PERIGEE_ASSIGN(bool have_old, Exists(*disk, OldDir(dir)));
  PERIGEE_ASSIGN(bool have_dir, Exists(*disk, dir));
  if (have_old && !have_dir) {
    log::Info("metadata_mirror_swap_undone", {{"dir", dir}});
    PERIGEE_FAILPOINT_STATUS(kv_recover_before_swap);
    PERIGEE_TRY(RenameDurably(*disk, OldDir(dir), dir));
    PERIGEE_FAILPOINT_STATUS(kv_recover_after_swap);
  } else if (have_old) {
    PERIGEE_TRY(RemoveTree(OldDir(dir)));
  }
  return RemoveTree(CopyDir(dir));
}

CopyOutcome ReplaceByCopy(std::shared_ptr<RocksMirror> source, std::shared_ptr<RocksEngine> engine,
                          const MirrorPlace& place) {
  auto blame_target = [](Status st) { return CopyOutcome{CopyFault::kTarget, std::move(st)}; };
  Status st = ClearMirrorDir(CopyDir(place.dir));
  if (!st.ok()) return blame_target(std::move(st));
  {
    Result<std::shared_ptr<RocksMirror>> copy =
        RocksMirror::Open(engine, {place.drive_id, CopyDir(place.dir)}, RocksEngine::Mode::kFresh);
    if (!copy.ok()) return blame_target(std::move(copy).TakeStatus());
    Result<std::shared_ptr<RocksView>> view = RocksView::Take(source);
    if (!view.ok()) return {CopyFault::kSource, std::move(view).TakeStatus()};
    CopyOutcome done = CopySnapshot(**view, **copy, nullptr);
    if (done.fault != CopyFault::kNone) return done;
  }
  st = Swap(place.dir);
  if (!st.ok()) return blame_target(std::move(st));
  return {};
}

}  // namespace perigee::objectd::kv
