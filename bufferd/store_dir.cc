#include "bufferd/store_dir.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>

#include "base/failpoint.h"
#include "base/log.h"

namespace perigee::bufferd {
namespace {

constexpr uint32_t kCreatesPerDir = 4096;
constexpr uint32_t kUnlinksPerDir = 256;
constexpr uint64_t kBallastBytes = 16 << 20;

int64_t NanosOf(const timespec& t) { return t.tv_sec * kSecond + t.tv_nsec; }

}  // namespace

std::string StoreDir::DirPath(uint32_t dir) const {
  return root_ + "/files/" + HexEncode64(dir).substr(14);
}
std::string StoreDir::Path(uint32_t dir, wire::BurstId burst) const {
  return DirPath(dir) + "/" + HexEncode64(burst);
}

Result<std::unique_ptr<StoreDir>> StoreDir::Open(Disk& disk, Clock& clock, std::string root) {
  std::unique_ptr<StoreDir> store(new StoreDir(disk, clock, std::move(root)));
  std::string files = store->root_ + "/files";
  PERIGEE_TRY(disk.CreateDirs(files));
  // ext4 then spreads the subdirectories over the block groups; other file systems refuse, which is
  // fine.
  if (int fd = ::open(files.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); fd >= 0) {
    int flags = 0;
    if (::ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0 && (flags & FS_TOPDIR_FL) == 0) {
      flags |= FS_TOPDIR_FL;
      (void)::ioctl(fd, FS_IOC_SETFLAGS, &flags);
    }
    ::close(fd);
  }
  bool made = false;
  for (uint32_t d = 0; d < kDirs; ++d) {
    Status s = disk.CreateDir(store->DirPath(d));
    if (s.ok())
      made = true;
    else if (!s.Is(Code::kAlreadyExists))
      return s;
  }
  if (made) {
    PERIGEE_FAILPOINT_STATUS(burst_store_before_sync);
    PERIGEE_TRY(disk.SyncDir(files));
    PERIGEE_TRY(disk.SyncDir(store->root_));
    PERIGEE_FAILPOINT_STATUS(burst_store_after_sync);
  }
  PERIGEE_TRY(store->Probe());
  // Not the directory of the last run: it is the one with the freshest unlinks.
  store->current_ = static_cast<uint32_t>(clock.Wall() / kSecond) % kDirs;
  PERIGEE_TRY(store->FillBallast());
  return store;
}

Status StoreDir::Probe() {
  std::string path = root_ + "/probe";
  if (Status s = disk_.Unlink(path); !s.ok() && !s.Is(Code::kNotFound)) return s;
  PERIGEE_ASSIGN(auto file, disk_.Open(path, OpenMode::kCreate));
  fine_timestamps_ = true;
  for (uint8_t i = 0; i < 4; ++i) {
    PERIGEE_TRY(file->WriteAt(0, ConstBytes(&i, 1)));
    PERIGEE_ASSIGN(FileStat before, Stat(*file));
    PERIGEE_TRY(file->WriteAt(0, ConstBytes(&i, 1)));
    PERIGEE_ASSIGN(FileStat after, Stat(*file));
    if (before.SameContent(after)) fine_timestamps_ = false;
  }
  file.reset();
  if (int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC); fd >= 0) {
    leases_ = ::fcntl(fd, F_SETLEASE, F_RDLCK) == 0;
    if (leases_) (void)::fcntl(fd, F_SETLEASE, F_UNLCK);
    ::close(fd);
  }
  return disk_.Unlink(path);
}

Status StoreDir::FillBallast() {
  std::string path = root_ + "/ballast";
  PERIGEE_ASSIGN(auto file, disk_.Open(path, OpenMode::kCreateOrOpen));
  PERIGEE_ASSIGN(uint64_t size, file->Size());
  if (size >= kBallastBytes) return Status::Ok();
  Status s = file->Allocate(0, kBallastBytes);
  // A full disk is a reason to go on without, not to refuse to start.
  return s.Is(Code::kNoSpace) ? Status::Ok() : s;
}

bool StoreDir::DropBallast() {
  auto file = disk_.Open(root_ + "/ballast", OpenMode::kReadWrite);
  if (!file.ok()) return false;
  auto size = (*file)->Size();
  if (!size.ok() || *size == 0) return false;
  log::Warn("ballast_dropped", {{"store", root_}, {"remedy", "free space on this file system"}});
  return (*file)->Truncate(0).ok();
}

void StoreDir::MoveOn() {
  uint32_t best = (current_ + 1) % kDirs;
  for (uint32_t i = 1; i < kDirs; ++i) {
    uint32_t d = (current_ + i) % kDirs;
    if (dirs_[d].last_unlink < dirs_[best].last_unlink) best = d;
  }
  current_ = best;
  created_here_ = 0;
  dirs_[best].unlinks = 0;
}

Result<uint32_t> StoreDir::Create(wire::BurstId burst) {
  uint32_t dir;
  {
    std::lock_guard lock(mu_);
    if (created_here_ >= kCreatesPerDir || dirs_[current_].unlinks >= kUnlinksPerDir) MoveOn();
    dir = current_;
    ++created_here_;
  }
  PERIGEE_ASSIGN(auto file, disk_.Open(Path(dir, burst), OpenMode::kCreate));
  if (::fchmod(file->fd(), 0600) != 0) return Status::FromErrno(errno, "chmod " + Path(dir, burst));
  std::lock_guard lock(mu_);
  ++dirs_[dir].created;
  return dir;
}

Result<std::unique_ptr<File>> StoreDir::Open(uint32_t dir, wire::BurstId burst,
                                             OpenMode mode) const {
  return disk_.Open(Path(dir, burst), mode);
}

Result<rdma::OwnedFd> StoreDir::Descriptor(uint32_t dir, wire::BurstId burst, bool writable) const {
  std::string path = Path(dir, burst);
  int fd = ::open(path.c_str(), (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0) return Status::FromErrno(errno, "open " + path);
  return rdma::OwnedFd(fd);
}

Status StoreDir::SyncName(uint32_t dir) {
  uint64_t created;
  {
    std::lock_guard lock(mu_);
    created = dirs_[dir].created;
    if (dirs_[dir].synced >= created) return Status::Ok();
  }
  PERIGEE_FAILPOINT_STATUS(burst_name_before_sync);
  PERIGEE_TRY(disk_.SyncDir(DirPath(dir)));
  PERIGEE_FAILPOINT_STATUS(burst_name_after_sync);
  std::lock_guard lock(mu_);
  dirs_[dir].synced = std::max(dirs_[dir].synced, created);
  return Status::Ok();
}

Status StoreDir::Unlink(uint32_t dir, wire::BurstId burst) {
  PERIGEE_TRY(disk_.Unlink(Path(dir, burst)));
  std::lock_guard lock(mu_);
  dirs_[dir].last_unlink = clock_.Monotonic();
  if (dir == current_) ++dirs_[dir].unlinks;
  return Status::Ok();
}

Status StoreDir::SetAside(uint32_t dir, wire::BurstId burst) {
  const std::string lost = root_ + "/lost";
  PERIGEE_TRY(disk_.CreateDirs(lost));
  PERIGEE_FAILPOINT_STATUS(burst_aside_before_rename);
  PERIGEE_TRY(disk_.Rename(Path(dir, burst), lost + "/" + HexEncode64(burst)));
  PERIGEE_TRY(disk_.SyncDir(lost));
  PERIGEE_TRY(disk_.SyncDir(DirPath(dir)));
  PERIGEE_FAILPOINT_STATUS(burst_aside_after_rename);
  return Status::Ok();
}

Result<uint64_t> StoreDir::CountAside() const {
  auto entries = disk_.List(root_ + "/lost");
  if (entries.status().Is(Code::kNotFound)) return uint64_t{0};
  if (!entries.ok()) return std::move(entries).TakeStatus();
  return entries->size();
}

Result<std::vector<StoreDir::Found>> StoreDir::List() const {
  std::vector<Found> found;
  for (uint32_t d = 0; d < kDirs; ++d) {
    PERIGEE_ASSIGN(auto entries, disk_.List(DirPath(d)));
    for (const DirEntry& e : entries) {
      char* end = nullptr;
      uint64_t burst = std::strtoull(e.name.c_str(), &end, 16);
      if (e.is_directory || e.name.size() != 16 || end != e.name.c_str() + 16) {
        log::Warn("foreign_file_in_store", {{"name", DirPath(d) + "/" + e.name}});
        continue;
      }
      found.push_back({d, burst});
    }
  }
  return found;
}

Result<FileStat> StoreDir::Stat(const File& file) {
  struct stat st;
  if (::fstat(file.fd(), &st) != 0) return Status::FromErrno(errno, "stat burst file");
  return FileStat{static_cast<uint64_t>(st.st_size), NanosOf(st.st_mtim), NanosOf(st.st_ctim),
                  static_cast<uint64_t>(st.st_blocks) * 512};
}

Status StoreDir::SetMtime(const File& file, int64_t mtime) {
  timespec times[2];
  times[0].tv_sec = 0;
  times[0].tv_nsec = UTIME_OMIT;
  times[1].tv_sec = mtime / kSecond;
  times[1].tv_nsec = mtime % kSecond;
  if (times[1].tv_nsec < 0) {
    times[1].tv_nsec += kSecond;
    --times[1].tv_sec;
  }
  if (::futimens(file.fd(), times) != 0) return Status::FromErrno(errno, "set times of burst file");
  return Status::Ok();
}

Result<bool> StoreDir::Unwritten(uint32_t dir, wire::BurstId burst) const {
  return Leased(dir, burst, F_RDLCK);
}

Result<bool> StoreDir::Unopened(uint32_t dir, wire::BurstId burst) const {
  if (!leases_) return false;
  return Leased(dir, burst, F_WRLCK);
}

Result<bool> StoreDir::Leased(uint32_t dir, wire::BurstId burst, int lease) const {
  PERIGEE_ASSIGN(rdma::OwnedFd fd, Descriptor(dir, burst, false));
  if (::fcntl(fd.get(), F_SETLEASE, lease) != 0) {
    if (errno == EAGAIN || errno == EBUSY) return false;
    return Status::FromErrno(errno, "test lease on burst file");
  }
  if (::fcntl(fd.get(), F_SETLEASE, F_UNLCK) != 0)
    return Status::FromErrno(errno, "give up test lease");
  return true;
}

}  // namespace perigee::bufferd
