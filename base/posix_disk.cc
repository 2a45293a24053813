#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/disk.h"
#include "base/io_ring.h"
#include "base/posix_file.h"

namespace perigee {
namespace {

Status ErrnoStatus(std::string_view what, const std::string& path) {
  return Status::FromErrno(errno, std::string(what) + " " + path);
}

int OpenRetrying(const std::string& path, int flags, mode_t mode = 0) {
  int fd;
  do fd = open(path.c_str(), flags | O_CLOEXEC, mode);
  while (fd < 0 && errno == EINTR);
  return fd;
}

class PosixDisk final : public Disk {
 public:
  explicit PosixDisk(bool ring) : ring_(ring) {}

  Result<std::unique_ptr<File>> Open(const std::string& path, OpenMode mode,
                                     Caching caching) override {
    int flags = O_RDWR;
    if (mode == OpenMode::kRead) flags = O_RDONLY;
    if (mode == OpenMode::kCreate) flags |= O_CREAT | O_EXCL;
    if (mode == OpenMode::kCreateOrOpen) flags |= O_CREAT;
    int fd = OpenRetrying(path, flags, 0600);
    if (fd < 0) return ErrnoStatus("open", path);
    // Set afterwards, because a refused open(O_CREAT | O_DIRECT) may leave the new file behind.
    bool direct = caching == Caching::kDirect && fcntl(fd, F_SETFL, O_DIRECT) == 0;
    return std::unique_ptr<File>(std::make_unique<PosixFile>(fd, path, direct));
  }

  void Run(std::span<IoOp> ops) override {
    if (ring_ && ops.size() > 1 && RunOnRing(ops)) return;
    for (IoOp& op : ops) RunInline(op);
  }

  Status Rename(const std::string& from, const std::string& to) override {
    if (rename(from.c_str(), to.c_str()) == 0) return Status::Ok();
    return ErrnoStatus("rename", from + " to " + to);
  }

  Status Unlink(const std::string& path) override {
    return unlink(path.c_str()) == 0 ? Status::Ok() : ErrnoStatus("unlink", path);
  }

  Status CreateDir(const std::string& path) override {
    return mkdir(path.c_str(), 0755) == 0 ? Status::Ok() : ErrnoStatus("create directory", path);
  }

  Status CreateDirs(const std::string& path) override {
    Status made = CreateDir(path);
    if (made.Is(Code::kNotFound) && ParentDir(path) != path) {
      PERIGEE_TRY(CreateDirs(ParentDir(path)));
      made = CreateDir(path);
    }
    if (made.Is(Code::kAlreadyExists)) {
      PERIGEE_ASSIGN(FileInfo info, Stat(path));
      if (!info.is_directory) return Status::FromErrno(ENOTDIR, "create directory " + path);
      return Status::Ok();
    }
    PERIGEE_TRY(made);
    return SyncDir(ParentDir(path));
  }

  Status RemoveDir(const std::string& path) override {
    return rmdir(path.c_str()) == 0 ? Status::Ok() : ErrnoStatus("remove directory", path);
  }

  Status SyncDir(const std::string& path) override {
    int fd = OpenRetrying(path, O_RDONLY | O_DIRECTORY);
    if (fd < 0) return ErrnoStatus("open", path);
    Status status = fsync(fd) == 0 ? Status::Ok() : ErrnoStatus("sync directory", path);
    close(fd);
    return status;
  }

  Result<std::vector<DirEntry>> List(const std::string& path) override {
    std::unique_ptr<DIR, int (*)(DIR*)> dir(opendir(path.c_str()), closedir);
    if (!dir) return ErrnoStatus("list", path);
    std::vector<DirEntry> entries;
    for (;;) {
      errno = 0;
      dirent* d = readdir(dir.get());
      if (d == nullptr) break;
      std::string name = d->d_name;
      if (name == "." || name == "..") continue;
      bool is_directory = d->d_type == DT_DIR;
      if (d->d_type == DT_UNKNOWN) {
        struct stat st;
        if (fstatat(dirfd(dir.get()), d->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0) {
          if (errno == ENOENT) continue;  // gone since
          return ErrnoStatus("stat", path + "/" + name);
        }
        is_directory = S_ISDIR(st.st_mode);
      }
      entries.push_back({std::move(name), is_directory});
    }
    if (errno != 0) return ErrnoStatus("list", path);
    std::sort(entries.begin(), entries.end(),
              [](const DirEntry& a, const DirEntry& b) { return a.name < b.name; });
    return entries;
  }

  Result<FileInfo> Stat(const std::string& path) override {
    struct stat st;
    if (stat(path.c_str(), &st) != 0) return ErrnoStatus("stat", path);
    return FileInfo{S_ISDIR(st.st_mode), static_cast<uint64_t>(st.st_size), st.st_ino};
  }

  Result<SpaceInfo> Space(const std::string& path) override {
    struct statvfs vfs;
    struct stat st;
    if (statvfs(path.c_str(), &vfs) != 0 || stat(path.c_str(), &st) != 0)
      return ErrnoStatus("space of", path);
    return SpaceInfo{vfs.f_blocks * vfs.f_frsize, vfs.f_bavail * vfs.f_frsize, st.st_dev};
  }

  std::string engine() const override { return ring_ ? "io_uring" : "pread"; }

 private:
  const bool ring_;
};

}  // namespace

std::unique_ptr<Disk> CreatePosixDisk(IoEngine engine) {
  return std::make_unique<PosixDisk>(engine == IoEngine::kAuto && IoRingWorks());
}

}  // namespace perigee
