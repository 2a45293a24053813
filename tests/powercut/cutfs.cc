#include "tests/powercut/cutfs.h"

#include <linux/falloc.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>

namespace perigee::powercut {

namespace {

// Enough that requests of one slow directory leave some for the others.
constexpr int kServers = 64;
constexpr double kForever = 3600;  // nobody but the kernel changes this file system

struct stat StatOf(Ino ino, const Attributes& a) {
  struct stat st {};
  st.st_ino = ino;
  st.st_mode = a.mode;
  st.st_nlink = a.links;
  st.st_uid = a.owner.uid;
  st.st_gid = a.owner.gid;
  st.st_rdev = a.device;
  st.st_size = static_cast<off_t>(a.size);
  st.st_blocks = static_cast<blkcnt_t>(a.bytes / 512);
  st.st_blksize = Image::kPage;
  st.st_atim = a.atime;
  st.st_mtim = a.mtime;
  st.st_ctim = a.ctime;
  return st;
}

Owner CallerOf(fuse_req_t req) {
  const fuse_ctx* c = fuse_req_ctx(req);
  return {c->uid, c->gid};
}

enum class Access { kNone, kRead, kWrite, kWriteDirect, kSync };

}  // namespace

// What libfuse calls. Every operation takes the lock, finds the power on, and replies under the
// lock: so no reply leaves once the power is off.
struct Operations {
  static CutFs& Of(fuse_req_t req) { return *static_cast<CutFs*>(fuse_req_userdata(req)); }

  template <typename F>
  static void With(fuse_req_t req, Ino ino, Access access, F run) {
    CutFs& fs = Of(req);
    std::unique_lock lock(fs.mu_);
    if (!fs.off_ && access != Access::kNone) {
      Fault fault = fs.FaultOf(ino);
      if (fault.delay_ms > 0 && access != Access::kWrite) {
        fs.AwaitDelay(lock, ino, fault.delay_ms);
      }
      int error = access == Access::kRead   ? fault.read_error
                  : access == Access::kSync ? fault.sync_error
                                            : fault.write_error;
      if (!fs.off_ && error != 0) {
        fuse_reply_err(req, error);
        return;
      }
    }
    if (fs.off_) {
      fuse_reply_none(req);  // frees it, and answers nothing
      return;
    }
    run(fs.image_);
  }

  static fuse_entry_param EntryOf(Image& image, Ino ino) {
    image.Remember(ino);
    fuse_entry_param e{};
    e.ino = ino;
    e.attr = StatOf(ino, image.Stat(ino));
    e.attr_timeout = e.entry_timeout = kForever;
    return e;
  }
  static void ReplyEntry(fuse_req_t req, Image& image, Ino ino) {
    fuse_entry_param e = EntryOf(image, ino);
    fuse_reply_entry(req, &e);
  }

  static void Init(void*, fuse_conn_info* conn) {
    conn->want &= ~static_cast<unsigned>(FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_WRITEBACK_CACHE);
    conn->max_background = kServers;  // else a few that hang hold back all others
  }
  static void Lookup(fuse_req_t req, fuse_ino_t parent, const char* name) {
    With(req, parent, Access::kNone, [&](Image& image) {
      Ino ino = image.Find(parent, name);
      if (ino == 0)
        fuse_reply_err(req, ENOENT);
      else
        ReplyEntry(req, image, ino);
    });
  }
  static void Forget(fuse_req_t req, fuse_ino_t ino, uint64_t times) {
    CutFs& fs = Of(req);
    {
      std::lock_guard lock(fs.mu_);
      if (!fs.off_) fs.image_.Forget(ino, times);
    }
    fuse_reply_none(req);
  }
  static void GetAttr(fuse_req_t req, fuse_ino_t ino, fuse_file_info*) {
    With(req, ino, Access::kNone, [&](Image& image) {
      struct stat st = StatOf(ino, image.Stat(ino));
      fuse_reply_attr(req, &st, kForever);
    });
  }
  static void SetAttr(fuse_req_t req, fuse_ino_t ino, struct stat* to, int set, fuse_file_info*) {
    With(req, ino, Access::kWrite, [&](Image& image) {
      if (set & FUSE_SET_ATTR_SIZE) image.Truncate(ino, static_cast<uint64_t>(to->st_size));
      Attributes& a = image.Change(ino);
      timespec now;
      clock_gettime(CLOCK_REALTIME, &now);
      if (set & FUSE_SET_ATTR_MODE) a.mode = (a.mode & S_IFMT) | (to->st_mode & ~S_IFMT);
      if (set & FUSE_SET_ATTR_UID) a.owner.uid = to->st_uid;
      if (set & FUSE_SET_ATTR_GID) a.owner.gid = to->st_gid;
      if (set & FUSE_SET_ATTR_ATIME) a.atime = (set & FUSE_SET_ATTR_ATIME_NOW) ? now : to->st_atim;
      if (set & FUSE_SET_ATTR_MTIME) a.mtime = (set & FUSE_SET_ATTR_MTIME_NOW) ? now : to->st_mtim;
      a.ctime = now;
      struct stat st = StatOf(ino, a);
      fuse_reply_attr(req, &st, kForever);
    });
  }
  static void ReadLink(fuse_req_t req, fuse_ino_t ino) {
    With(req, ino, Access::kNone,
         [&](Image& image) { fuse_reply_readlink(req, image.Target(ino).c_str()); });
  }
  static void Make(fuse_req_t req, Ino parent, const char* name, uint32_t mode, uint64_t device,
                   const char* target) {
    With(req, parent, Access::kWrite, [&](Image& image) {
      Ino made = 0;
      int error = image.Make(parent, name, mode, CallerOf(req), &made, device, target);
      if (error != 0)
        fuse_reply_err(req, error);
      else
        ReplyEntry(req, image, made);
    });
  }
  static void MkNod(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode,
                    dev_t device) {
    Make(req, parent, name, mode, device, "");
  }
  static void MkDir(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode) {
    Make(req, parent, name, S_IFDIR | mode, 0, "");
  }
  static void SymLink(fuse_req_t req, const char* target, fuse_ino_t parent, const char* name) {
    Make(req, parent, name, S_IFLNK | 0777, 0, target);
  }
  static void Unlink(fuse_req_t req, fuse_ino_t parent, const char* name) {
    With(req, parent, Access::kWrite,
         [&](Image& image) { fuse_reply_err(req, image.Unlink(parent, name)); });
  }
  static void RmDir(fuse_req_t req, fuse_ino_t parent, const char* name) {
    With(req, parent, Access::kWrite,
         [&](Image& image) { fuse_reply_err(req, image.RemoveDir(parent, name)); });
  }
  static void Rename(fuse_req_t req, fuse_ino_t parent, const char* name, fuse_ino_t to_parent,
                     const char* to_name, unsigned flags) {
    With(req, to_parent, Access::kWrite, [&](Image& image) {
      if (flags & ~static_cast<unsigned>(RENAME_NOREPLACE))
        fuse_reply_err(req, EINVAL);
      else
        fuse_reply_err(req, image.Rename(parent, name, to_parent, to_name, flags == 0));
    });
  }
  static void Link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char* name) {
    With(req, parent, Access::kWrite, [&](Image& image) {
      int error = image.Link(ino, parent, name);
      if (error != 0)
        fuse_reply_err(req, error);
      else
        ReplyEntry(req, image, ino);
    });
  }
  static void Open(fuse_req_t req, fuse_ino_t ino, fuse_file_info* fi) {
    bool cut = (fi->flags & O_TRUNC) != 0;
    With(req, ino, cut ? Access::kWrite : Access::kNone, [&](Image& image) {
      if (cut) image.Truncate(ino, 0);
      fi->keep_cache = !cut;
      fuse_reply_open(req, fi);
    });
  }
  static void Create(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode,
                     fuse_file_info* fi) {
    With(req, parent, Access::kWrite, [&](Image& image) {
      Ino made = 0;
      int error = image.Make(parent, name, S_IFREG | mode, CallerOf(req), &made);
      if (error != 0) {
        fuse_reply_err(req, error);
        return;
      }
      fuse_entry_param e = EntryOf(image, made);
      fi->keep_cache = 1;
      fuse_reply_create(req, &e, fi);
    });
  }
  static void Release(fuse_req_t req, fuse_ino_t ino, fuse_file_info*) {
    With(req, ino, Access::kNone, [&](Image&) { fuse_reply_err(req, 0); });
  }
  static void Read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, fuse_file_info*) {
    With(req, ino, Access::kRead, [&](Image& image) {
      std::string data(size, '\0');
      size_t n = image.Read(ino, static_cast<uint64_t>(offset), data);
      fuse_reply_buf(req, data.data(), n);
    });
  }
  static void Write(fuse_req_t req, fuse_ino_t ino, const char* data, size_t size, off_t offset,
                    fuse_file_info* fi) {
    const bool direct = (fi->flags & O_DIRECT) != 0;
    With(req, ino, direct ? Access::kWriteDirect : Access::kWrite, [&](Image& image) {
      image.Write(ino, static_cast<uint64_t>(offset), {data, size});
      fuse_reply_write(req, size);
    });
  }
  static void FSync(fuse_req_t req, fuse_ino_t ino, int, fuse_file_info*) {
    Of(req).Sync(req, ino);
  }
  static void FAllocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t bytes,
                        fuse_file_info*) {
    With(req, ino, Access::kWrite, [&](Image& image) {
      uint64_t at = static_cast<uint64_t>(offset), n = static_cast<uint64_t>(bytes);
      if (mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) {
        fuse_reply_err(req, EOPNOTSUPP);
        return;
      }
      if (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) image.Punch(ino, at, n);
      if (!(mode & FALLOC_FL_KEEP_SIZE) && at + n > image.Stat(ino).size)
        image.Truncate(ino, at + n);
      fuse_reply_err(req, 0);
    });
  }
  static void LSeek(fuse_req_t req, fuse_ino_t ino, off_t offset, int whence, fuse_file_info*) {
    With(req, ino, Access::kNone, [&](Image& image) {
      auto at = image.Seek(ino, static_cast<uint64_t>(offset), whence == SEEK_DATA);
      if (!at)
        fuse_reply_err(req, ENXIO);
      else
        fuse_reply_lseek(req, static_cast<off_t>(*at));
    });
  }
  static void OpenDir(fuse_req_t req, fuse_ino_t ino, fuse_file_info* fi) {
    CutFs& fs = Of(req);
    With(req, ino, Access::kNone, [&](Image& image) {
      fi->fh = fs.next_listing_++;
      fs.listings_[fi->fh] = image.List(ino);
      fuse_reply_open(req, fi);
    });
  }
  static void ReadDir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
                      fuse_file_info* fi) {
    CutFs& fs = Of(req);
    With(req, ino, Access::kRead, [&](Image& image) {
      auto& entries = fs.listings_[fi->fh];
      if (offset == 0) entries = image.List(ino);  // after rewinddir
      std::string out(size, '\0');
      size_t used = 0;
      // "." and ".." are made by no one: the kernel does not need them, nor does a daemon.
      for (size_t i = static_cast<size_t>(offset); i < entries.size(); ++i) {
        struct stat st {};
        st.st_ino = entries[i].ino;
        st.st_mode = image.Find(ino, entries[i].name) == entries[i].ino
                         ? image.Stat(entries[i].ino).mode
                         : 0;
        size_t need = fuse_add_direntry(req, out.data() + used, size - used,
                                        entries[i].name.c_str(), &st, static_cast<off_t>(i + 1));
        if (need > size - used) break;
        used += need;
      }
      fuse_reply_buf(req, out.data(), used);
    });
  }
  static void ReleaseDir(fuse_req_t req, fuse_ino_t ino, fuse_file_info* fi) {
    CutFs& fs = Of(req);
    With(req, ino, Access::kNone, [&](Image&) {
      fs.listings_.erase(fi->fh);
      fuse_reply_err(req, 0);
    });
  }
  static void StatFs(fuse_req_t req, fuse_ino_t ino) {
    CutFs& fs = Of(req);
    With(req, ino, Access::kNone, [&](Image& image) {
      const uint64_t free = fs.free_ - std::min(fs.free_, image.bytes());
      struct statvfs st {};
      st.f_bsize = st.f_frsize = Image::kPage;
      st.f_blocks = fs.total_ / Image::kPage;
      st.f_bfree = st.f_bavail = free / Image::kPage;
      st.f_files = st.f_ffree = st.f_favail = 1 << 20;
      st.f_namemax = 255;
      fuse_reply_statfs(req, &st);
    });
  }

  static fuse_lowlevel_ops Table() {
    fuse_lowlevel_ops ops{};
    ops.init = Init;
    ops.lookup = Lookup;
    ops.forget = Forget;
    ops.getattr = GetAttr;
    ops.setattr = SetAttr;
    ops.readlink = ReadLink;
    ops.mknod = MkNod;
    ops.mkdir = MkDir;
    ops.symlink = SymLink;
    ops.unlink = Unlink;
    ops.rmdir = RmDir;
    ops.rename = Rename;
    ops.link = Link;
    ops.open = Open;
    ops.create = Create;
    ops.release = Release;
    ops.read = Read;
    ops.write = Write;
    ops.fsync = FSync;
    ops.fsyncdir = FSync;
    ops.fallocate = FAllocate;
    ops.lseek = LSeek;
    ops.opendir = OpenDir;
    ops.readdir = ReadDir;
    ops.releasedir = ReleaseDir;
    ops.statfs = StatFs;
    return ops;
  }
};

CutFs::CutFs(std::string mount_point, std::set<std::string> kept, OffHook on_off)
    : mount_point_(std::move(mount_point)), on_off_(std::move(on_off)), image_(std::move(kept)) {}

CutFs::~CutFs() { Unmount(); }

Fault CutFs::FaultOf(Ino ino) const {
  if (faults_.empty()) return {};
  std::string path = image_.Path(ino) + "/";
  for (const auto& [prefix, fault] : faults_)
    if (path.compare(0, prefix.size(), prefix) == 0) return fault;
  return {};
}

// Ends early when the fault is taken back.
void CutFs::AwaitDelay(std::unique_lock<std::mutex>& lock, Ino ino, uint32_t delay_ms) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(delay_ms);
  while (!off_ && FaultOf(ino).delay_ms > 0 && std::chrono::steady_clock::now() < end)
    faults_changed_.wait_until(lock, end);
}

void CutFs::SetFault(const std::string& path, Fault fault) {
  std::lock_guard lock(mu_);
  std::string prefix = path.ends_with('/') ? path : path + "/";
  if (fault.delay_ms == 0 && fault.read_error == 0 && fault.write_error == 0 &&
      fault.sync_error == 0) {
    faults_.erase(prefix);
  } else {
    faults_[prefix] = fault;
  }
  faults_changed_.notify_all();
}

void CutFs::SetSpace(uint64_t total, uint64_t free) {
  std::lock_guard lock(mu_);
  total_ = total;
  free_ = free;
}

void CutFs::Arm(uint64_t count, When when, std::string part) {
  std::lock_guard lock(mu_);
  armed_ = count;
  when_ = when;
  part_ = std::move(part);
}

void CutFs::PowerOff() {
  std::lock_guard lock(mu_);
  off_ = true;
  faults_changed_.notify_all();
}

void CutFs::Sync(fuse_req_t req, Ino ino) {
  std::string why;
  Operations::With(req, ino, Access::kSync, [&](Image& image) {
    ++syncs_;
    bool now = armed_ > 0 && image.Path(ino).find(part_) != std::string::npos && --armed_ == 0;
    if (!now || when_ == When::kAfter) image.Sync(ino);
    if (!now) {
      fuse_reply_err(req, 0);
      return;
    }
    off_ = true;
    why = (when_ == When::kBefore ? "before the sync of " : "after the sync of ") + image.Path(ino);
    fuse_reply_none(req);
  });
  if (!why.empty()) on_off_(why);
}

Status CutFs::Mount() {
  static const fuse_lowlevel_ops kOps = Operations::Table();
  fuse_args args = FUSE_ARGS_INIT(0, nullptr);
  fuse_opt_add_arg(&args, "cutfs");
  fuse_opt_add_arg(&args, "-oallow_other,default_permissions,fsname=cutfs");
  session_ = fuse_session_new(&args, &kOps, sizeof kOps, this);
  fuse_opt_free_args(&args);
  if (session_ == nullptr) return Status(Code::kIo, "fuse_session_new");
  if (fuse_session_mount(session_, mount_point_.c_str()) != 0) {
    fuse_session_destroy(session_);
    session_ = nullptr;
    return Status(Code::kIo, "mount " + mount_point_);
  }
  for (int i = 0; i < kServers; ++i) servers_.emplace_back([this] { Serve(); });
  return Status::Ok();
}

void CutFs::Serve() {
  fuse_buf buf{};
  while (!fuse_session_exited(session_)) {
    int n = fuse_session_receive_buf(session_, &buf);
    if (n == -EINTR) continue;
    if (n <= 0) break;
    fuse_session_process_buf(session_, &buf);
  }
  std::free(buf.mem);
}

void CutFs::Unmount() {
  if (session_ == nullptr) return;
  PowerOff();
  // Forced: it fails what waits. Detached: also where something is still mounted below.
  umount2(mount_point_.c_str(), MNT_FORCE);
  umount2(mount_point_.c_str(), MNT_DETACH);
  for (std::thread& t : servers_) t.join();
  servers_.clear();
  fuse_session_unmount(session_);
  fuse_session_destroy(session_);
  session_ = nullptr;
}

Status CutFs::PowerOn(uint64_t seed) {
  Unmount();
  {
    std::lock_guard lock(mu_);
    image_.Cut(seed);
    listings_.clear();
    armed_ = 0;
    off_ = false;
  }
  return Mount();
}

}  // namespace perigee::powercut
