// The low-level operations: each unpacks a request, calls FileSystem or bufferd, and replies
// exactly once.

#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <vector>

#include "base/failpoint.h"
#include "base/log.h"
#include "fuse/attributes.h"
#include "fuse/file_system.h"
#include "fuse/kernel_abi.h"

namespace perigee::fuse {

namespace {

constexpr size_t kDirPage = 512;  // entries fetched at once

void Fail(fuse_req_t req, const perigee::Status& status) {
  int err = ErrnoOf(status);
  if (err == EIO) log::Warn("mount_io_error", {{"error", status}});
  fuse_reply_err(req, err);
}

}  // namespace

struct Ops {
  static FileSystem& Fs(fuse_req_t req) {
    return *static_cast<FileSystem*>(static_cast<SessionData*>(fuse_req_userdata(req)));
  }
  static Handle* HandleOf(fuse_file_info* fi) {
    return fi && fi->fh ? reinterpret_cast<std::shared_ptr<Handle>*>(fi->fh)->get() : nullptr;
  }
  static DirHandle* DirOf(fuse_file_info* fi) { return reinterpret_cast<DirHandle*>(fi->fh); }

  // The node of a request, or nullptr after replying ESTALE.
  static std::shared_ptr<Node> NodeOf(fuse_req_t req, fuse_ino_t ino) {
    auto node = Fs(req).nodes_.Find(ino);
    if (!node) fuse_reply_err(req, ESTALE);
    return node;
  }

  static fuse_entry_param Entry(FileSystem& fs, const wire::Record& record) {
    auto node = fs.nodes_.Lookup(record);
    fuse_entry_param e{};
    e.ino = node->node_id;
    e.attr = fs.Attributes(record, *node);
    e.attr_timeout = fs.options_.attr_timeout_s;
    e.entry_timeout = fs.options_.entry_timeout_s;
    return e;
  }

  static void ReplyEntry(fuse_req_t req, Result<wire::RecordReply> reply) {
    if (!reply.ok()) return Fail(req, reply.status());
    FileSystem& fs = Fs(req);
    fuse_entry_param e = Entry(fs, reply->record);
    if (fuse_reply_entry(req, &e) == -ENOENT)
      fs.nodes_.Forget(e.ino, 1);  // interrupted: the kernel never saw it
  }

  // A name in `dir` was made, or was not.
  static void ReplyMade(fuse_req_t req, Node& dir, Result<wire::RecordReply> reply) {
    Fs(req).Changed(dir);
    ReplyEntry(req, std::move(reply));
  }

  static void Init(void* userdata, fuse_conn_info* conn) {
    auto& fs = *static_cast<FileSystem*>(static_cast<SessionData*>(userdata));
    conn->max_write = 1 << 20;
    conn->max_readahead = fs.options_.read_ahead_kib << 10;
    conn->max_background = 64;
    conn->congestion_threshold = 48;
    conn->time_gran = 1;
    // Passthrough and the writeback cache exclude each other.
    conn->want &= ~static_cast<unsigned>(FUSE_CAP_WRITEBACK_CACHE);
    conn->want |=
        conn->capable & (FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_ASYNC_READ | FUSE_CAP_ASYNC_DIO |
                         FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_READDIRPLUS |
                         FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_CACHE_SYMLINKS);
  }

  static void Lookup(fuse_req_t req, fuse_ino_t parent, const char* name) {
    auto dir = NodeOf(req, parent);
    if (!dir) return;
    FileSystem& fs = Fs(req);
    if (auto known = fs.kept_.Find(dir->file, name)) {
      if (auto record = fs.Delegated(*known))
        return ReplyEntry(req, wire::RecordReply{.record = std::move(*record)});
    }
    wire::LookupRequest q;
    q.parent = dir->file;
    q.name = name;
    ReplyEntry(req, fs.meta_->Lookup(q));
  }

  static void Forget(fuse_req_t req, fuse_ino_t ino, uint64_t count) {
    Fs(req).nodes_.Forget(ino, count);
    fuse_reply_none(req);
  }

  static void ForgetMulti(fuse_req_t req, size_t count, fuse_forget_data* forgets) {
    for (size_t i = 0; i < count; ++i) Fs(req).nodes_.Forget(forgets[i].ino, forgets[i].nlookup);
    fuse_reply_none(req);
  }

  static void GetAttr(fuse_req_t req, fuse_ino_t ino, fuse_file_info* fi) {
    auto node = NodeOf(req, ino);
    if (!node) return;
    auto attr = Fs(req).GetAttr(*node, HandleOf(fi));
    if (!attr.ok()) return Fail(req, attr.status());
    fuse_reply_attr(req, &attr->st, attr->timeout_s);
  }

  static void SetAttr(fuse_req_t req, fuse_ino_t ino, struct stat* attr, int to_set,
                      fuse_file_info* fi) {
    auto node = NodeOf(req, ino);
    if (!node) return;
    FileSystem& fs = Fs(req);
    Handle* handle = HandleOf(fi);
    if (to_set & FUSE_SET_ATTR_SIZE) {
      auto size = static_cast<uint64_t>(attr->st_size);
      auto done = handle && handle->writer ? fs.burst_->Truncate(handle->burst_handle, size)
                                           : fs.burst_->TruncateFile(node->file, size);
      if (!done.ok()) return Fail(req, done.status());
    }
    wire::SetAttrRequest q;
    q.id = node->file;
    auto ns = [](const timespec& t) { return t.tv_sec * kSecond + t.tv_nsec; };
    if (to_set & FUSE_SET_ATTR_MODE) q.set_mode = true, q.mode = attr->st_mode & 07777;
    if (to_set & FUSE_SET_ATTR_UID) q.set_uid = true, q.uid = attr->st_uid;
    if (to_set & FUSE_SET_ATTR_GID) q.set_gid = true, q.gid = attr->st_gid;
    if (to_set & (FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_ATIME_NOW)) {
      q.set_atime = true;
      q.atime = (to_set & FUSE_SET_ATTR_ATIME_NOW) ? 0 : ns(attr->st_atim);
    }
    if (to_set & (FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_MTIME_NOW)) {
      q.set_mtime = true;
      q.mtime = (to_set & FUSE_SET_ATTR_MTIME_NOW) ? 0 : ns(attr->st_mtim);
      // The next publish takes its time from the burst file.
      std::lock_guard lock(node->mu);
      if (node->write_opens > 0 && node->backing.get() >= 0) {
        timespec times[2] = {{0, UTIME_OMIT}, {0, UTIME_NOW}};
        if (!(to_set & FUSE_SET_ATTR_MTIME_NOW)) times[1] = attr->st_mtim;
        if (futimens(node->backing.get(), times) != 0) return fuse_reply_err(req, errno), void();
      }
    }
    if (q.set_mode || q.set_uid || q.set_gid || q.set_atime || q.set_mtime) {
      auto done = fs.meta_->SetAttr(q);
      fs.Changed(*node);
      if (!done.ok()) return Fail(req, done.status());
    }
    auto changed = fs.GetAttr(*node, handle);
    if (!changed.ok()) return Fail(req, changed.status());
    fuse_reply_attr(req, &changed->st, changed->timeout_s);
  }

  static void ReadLink(fuse_req_t req, fuse_ino_t ino) {
    auto node = NodeOf(req, ino);
    if (!node) return;
    wire::GetAttrRequest q;
    q.id = node->file;
    auto reply = Fs(req).meta_->GetAttr(q);
    if (!reply.ok()) return Fail(req, reply.status());
    fuse_reply_readlink(req, reply->record.symlink.c_str());
  }

  static wire::MakeRequest Make(fuse_req_t req, Node& dir, const char* name, mode_t mode) {
    wire::MakeRequest q;
    q.parent = dir.file;
    q.name = name;
    q.mode = mode & 07777;
    q.uid = fuse_req_ctx(req)->uid;
    q.gid = fuse_req_ctx(req)->gid;
    return q;
  }

  static void Mknod(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode, dev_t rdev) {
    auto dir = NodeOf(req, parent);
    if (!dir) return;
    auto q = Make(req, *dir, name, mode);
    q.rdev = rdev;
    switch (mode & S_IFMT) {
      case S_IFIFO:
        q.kind = wire::FileKind::kFifo;
        break;
      case S_IFSOCK:
        q.kind = wire::FileKind::kSocket;
        break;
      case S_IFCHR:
        q.kind = wire::FileKind::kCharDevice;
        break;
      case S_IFBLK:
        q.kind = wire::FileKind::kBlockDevice;
        break;
      default:
        return MknodFile(req, *dir, q);
    }
    ReplyMade(req, *dir, Fs(req).meta_->Mknod(q));
  }

  // A regular file by mknod(2): created, published empty, closed.
  static void MknodFile(fuse_req_t req, Node& dir, const wire::MakeRequest& q) {
    FileSystem& fs = Fs(req);
    auto created = fs.burst_->Create(CreateRequest(q));
    fs.Changed(dir);
    if (!created.ok()) return Fail(req, created.status());
    created->fd.Reset(-1);
    auto published = fs.burst_->Publish(created->handle);
    auto released = fs.burst_->Release(created->handle);
    if (!published.ok()) return Fail(req, published.status());
    if (!released.ok()) return Fail(req, released);
    wire::LookupRequest lookup;
    lookup.parent = q.parent;
    lookup.name = q.name;
    ReplyEntry(req, fs.meta_->Lookup(lookup));
  }

  static wire::BurstCreateRequest CreateRequest(const wire::MakeRequest& make) {
    wire::BurstCreateRequest q;
    q.parent = make.parent;
    q.name = make.name;
    q.mode = make.mode;
    q.uid = make.uid;
    q.gid = make.gid;
    return q;
  }

  static void Mkdir(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode) {
    auto dir = NodeOf(req, parent);
    if (!dir) return;
    auto q = Make(req, *dir, name, mode);
    Nanos began = RealClock::Get().Wall();
    auto reply = Fs(req).meta_->Mkdir(q);
    if (Returned(req, reply.status(), q.parent)) {
      reply = Fs(req).meta_->Mkdir(q);
      if (reply.code() == Code::kAlreadyExists) {
        wire::LookupRequest lookup;
        lookup.parent = q.parent;
        lookup.name = q.name;
        auto there = Fs(req).meta_->Lookup(lookup);
        bool made = there.ok() && there->record.kind == wire::FileKind::kDirectory &&
                    there->record.btime >= began;
        if (made) reply = std::move(there);
      }
    }
    ReplyMade(req, *dir, std::move(reply));
  }

  static void Symlink(fuse_req_t req, const char* target, fuse_ino_t parent, const char* name) {
    auto dir = NodeOf(req, parent);
    if (!dir) return;
    auto q = Make(req, *dir, name, 0777);
    q.symlink = target;
    q.kind = wire::FileKind::kSymlink;
    ReplyMade(req, *dir, Fs(req).meta_->Symlink(q));
  }

  static void Unlink(fuse_req_t req, fuse_ino_t parent, const char* name) {
    Remove(req, parent, name, false);
  }
  static void Rmdir(fuse_req_t req, fuse_ino_t parent, const char* name) {
    Remove(req, parent, name, true);
  }

  static void Remove(fuse_req_t req, fuse_ino_t parent, const char* name, bool directory) {
    auto dir = NodeOf(req, parent);
    if (!dir) return;
    wire::RemoveRequest q;
    q.parent = dir->file;
    q.name = name;
    auto remove = [&] { return directory ? Fs(req).meta_->Rmdir(q) : Fs(req).meta_->Unlink(q); };
    auto reply = remove();
    if (Returned(req, reply.status(), q.parent)) {
      reply = remove();
      if (reply.code() == Code::kNotFound) reply = wire::RecordReply{};
    }
    Fs(req).Changed(*dir);
    if (!reply.ok()) return Fail(req, reply.status());
    if (directory) Fs(req).Changed(reply->record.id);
    fuse_reply_err(req, 0);
  }

  // bufferd was lost under a call that changes something, and is back: the call may have been made,
  // so that what it finds when it is made again may be its own doing.
  static bool Returned(fuse_req_t req, const perigee::Status& status, wire::FileId directory) {
    if (!status.Is(Code::kUnavailable) || Fs(req).meta_->channel().Healthy()) return false;
    wire::GetAttrRequest q;
    q.id = directory;
    return Fs(req).meta_->GetAttr(q).ok();  // waits for it
  }

  static Status Sync(FileSystem& fs, wire::FileId parent, const char* name) {
    PERIGEE_ASSIGN(wire::Record record, fs.LookupRecord(parent, name));
    return fs.burst_->Sync(record.id);
  }

  static void Rename(fuse_req_t req, fuse_ino_t parent, const char* name, fuse_ino_t new_parent,
                     const char* new_name, unsigned flags) {
    auto from = NodeOf(req, parent);
    if (!from) return;
    auto to = NodeOf(req, new_parent);
    if (!to) return;
    if (flags & ~(wire::kRenameNoReplace | wire::kRenameExchange))
      return fuse_reply_err(req, EINVAL), void();
    wire::RenameRequest q;
    q.parent = from->file;
    q.name = name;
    q.new_parent = to->file;
    q.new_name = new_name;
    q.flags = flags | wire::kRenameCareful;
    FileSystem& fs = Fs(req);
    auto reply = fs.meta_->Rename(q);
    if (reply.code() == Code::kPreconditionFailed) {
      if (Status synced = Sync(fs, q.parent, name); !synced.ok()) return Fail(req, synced);
      q.flags = flags;
      reply = fs.meta_->Rename(q);
    }
    if (Returned(req, reply.status(), q.parent)) {
      reply = fs.meta_->Rename(q);
      // Not where it was: moved by the call that was lost, if anything is where it goes.
      if (reply.code() == Code::kNotFound && fs.LookupRecord(q.new_parent, new_name).ok())
        reply = wire::RenameReply{};
    }
    fs.Changed(*from);
    fs.Changed(*to);
    if (!reply.ok()) return Fail(req, reply.status());
    fs.Changed(reply->moved.id);
    if (reply->replaced) fs.Changed(reply->replaced->id);
    fuse_reply_err(req, 0);
  }

  static void Link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t new_parent, const char* new_name) {
    auto node = NodeOf(req, ino);
    if (!node) return;
    auto dir = NodeOf(req, new_parent);
    if (!dir) return;
    wire::LinkRequest q;
    q.id = node->file;
    q.new_parent = dir->file;
    q.new_name = new_name;
    ReplyMade(req, *dir, Fs(req).meta_->Link(q));
  }

  static void ReplyOpen(fuse_req_t req, std::shared_ptr<Handle> handle, uint32_t open_flags) {
    FileSystem& fs = Fs(req);
    auto* held = new std::shared_ptr<Handle>(handle);
    OpenOut out{reinterpret_cast<uint64_t>(held), open_flags, 0};
    if (open_flags & kOpenPassthrough) out.backing_id = handle->node->backing_id;
    if (fuse_reply_buf(req, reinterpret_cast<char*>(&out), sizeof out) == -ENOENT) {
      delete held;
      fs.Release(handle);
    }
  }

  static void Open(fuse_req_t req, fuse_ino_t ino, fuse_file_info* fi) {
    auto node = NodeOf(req, ino);
    if (!node) return;
    uint32_t open_flags = 0;
    auto handle = Fs(req).OpenFile(node, fi->flags, &open_flags);
    if (!handle.ok()) return Fail(req, handle.status());
    ReplyOpen(req, std::move(*handle), open_flags);
  }

  static void Create(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode,
                     fuse_file_info* fi) {
    auto dir = NodeOf(req, parent);
    if (!dir) return;
    FileSystem& fs = Fs(req);
    auto q = CreateRequest(Make(req, *dir, name, mode));
    q.want_writable_fd = !fs.device->passthrough() || (fi->flags & O_DIRECT);
    uint32_t open_flags = 0;
    std::shared_ptr<Handle> handle;
    std::shared_ptr<Node> node;
    wire::Record record;
    auto created =
        fs.burst_->Create(q, (fi->flags & O_EXCL) ? client::BurstSession::Exclusive::kYes
                                                  : client::BurstSession::Exclusive::kNo);
    if (created.ok()) {
      record = created->record;
      dir->directory->Created(record);
      node = fs.nodes_.Lookup(record);
      // O_TRUNC was satisfied by creating; a create opens for writing whatever access it asked for.
      auto admitted =
          fs.Admit(node, (fi->flags & ~O_ACCMODE) | O_RDWR, std::move(*created), &open_flags);
      if (!admitted.ok()) return fs.nodes_.Forget(node->node_id, 1), Fail(req, admitted.status());
      handle = std::move(*admitted);
    } else if (created.code() == Code::kAlreadyExists && !(fi->flags & O_EXCL)) {
      // Somebody made it between the kernel's lookup and now: open that one.
      auto found = fs.LookupRecord(dir->file, name);
      if (!found.ok()) return Fail(req, found.status());
      record = std::move(*found);
      if (record.kind == wire::FileKind::kDirectory) return fuse_reply_err(req, EISDIR), void();
      node = fs.nodes_.Lookup(record);
      auto opened = fs.OpenFile(node, fi->flags, &open_flags);
      if (!opened.ok()) return fs.nodes_.Forget(node->node_id, 1), Fail(req, opened.status());
      handle = std::move(*opened);
    } else {
      fs.Changed(*dir);  // perhaps
      return Fail(req, created.status());
    }
    struct stat st = fs.Attributes(record, *node);
    auto* held = new std::shared_ptr<Handle>(handle);
    CreateOut out{};
    out.entry.nodeid = node->node_id;
    auto whole = static_cast<uint64_t>(fs.options_.entry_timeout_s);
    out.entry.entry_valid = whole;
    out.entry.entry_valid_nsec =
        static_cast<uint32_t>((fs.options_.entry_timeout_s - static_cast<double>(whole)) * 1e9);
    out.entry.attr_valid = out.entry.entry_valid;
    out.entry.attr_valid_nsec = out.entry.entry_valid_nsec;
    FillAttr(st, &out.entry.attr);
    out.open = {reinterpret_cast<uint64_t>(held), open_flags, 0};
    if (open_flags & kOpenPassthrough) out.open.backing_id = node->backing_id;
    if (fuse_reply_buf(req, reinterpret_cast<char*>(&out), sizeof out) == -ENOENT) {
      delete held;
      fs.Release(handle);
      fs.nodes_.Forget(node->node_id, 1);
    }
  }

  static void FillAttr(const struct stat& st, Attr* attr) {
    attr->ino = st.st_ino;
    attr->size = static_cast<uint64_t>(st.st_size);
    attr->blocks = static_cast<uint64_t>(st.st_blocks);
    attr->atime = static_cast<uint64_t>(st.st_atim.tv_sec);
    attr->mtime = static_cast<uint64_t>(st.st_mtim.tv_sec);
    attr->ctime = static_cast<uint64_t>(st.st_ctim.tv_sec);
    attr->atimensec = static_cast<uint32_t>(st.st_atim.tv_nsec);
    attr->mtimensec = static_cast<uint32_t>(st.st_mtim.tv_nsec);
    attr->ctimensec = static_cast<uint32_t>(st.st_ctim.tv_nsec);
    attr->mode = st.st_mode;
    attr->nlink = static_cast<uint32_t>(st.st_nlink);
    attr->uid = st.st_uid;
    attr->gid = st.st_gid;
    attr->rdev = static_cast<uint32_t>(st.st_rdev);
    attr->blksize = static_cast<uint32_t>(st.st_blksize);
  }

  static void Read(fuse_req_t req, fuse_ino_t, size_t size, off_t offset, fuse_file_info* fi) {
    FileSystem& fs = Fs(req);
    Handle& handle = *HandleOf(fi);
    ++fs.reads_;
    if (handle.ensure) {
      auto ready = fs.burst_->Ensure(handle.burst_handle, static_cast<uint64_t>(offset), size);
      if (!ready.ok()) return Fail(req, ready);
    }
    thread_local std::vector<char> buffer;
    if (buffer.size() < size) buffer.resize(size);
    size_t done = 0;
    while (done < size) {
      ssize_t n = pread(handle.fd.get(), buffer.data() + done, size - done,
                        offset + static_cast<off_t>(done));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return fuse_reply_err(req, errno), void();
      if (n == 0) break;
      done += static_cast<size_t>(n);
    }
    fs.read_bytes_ += done;
    fuse_reply_buf(req, buffer.data(), done);
  }

  static void Write(fuse_req_t req, fuse_ino_t, const char* data, size_t size, off_t offset,
                    fuse_file_info* fi) {
    FileSystem& fs = Fs(req);
    Handle& handle = *HandleOf(fi);
    ++fs.writes_;
    if (handle.slow_writes) {
      auto done = fs.burst_->Write(handle.burst_handle, static_cast<uint64_t>(offset),
                                   AsBytes({data, size}));
      if (!done.ok()) return Fail(req, done);
    } else {
      auto fd = fs.WritableFd(handle);
      if (!fd.ok()) return Fail(req, fd.status());
      size_t done = 0;
      while (done < size) {
        ssize_t n = pwrite(*fd, data + done, size - done, offset + static_cast<off_t>(done));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return fuse_reply_err(req, errno), void();
        done += static_cast<size_t>(n);
      }
    }
    fs.write_bytes_ += size;
    fuse_reply_write(req, size);
  }

  // close(2): what was written is visible through every door when it returns.
  static void Flush(fuse_req_t req, fuse_ino_t, fuse_file_info* fi) {
    FileSystem& fs = Fs(req);
    Handle& handle = *HandleOf(fi);
    if (!handle.writer) return fuse_reply_err(req, 0), void();
    ++fs.publishes_;
    auto done = fs.burst_->Publish(handle.burst_handle);
    if (!done.ok()) return Fail(req, done.status());
    fuse_reply_err(req, 0);
  }

  static void Release(fuse_req_t req, fuse_ino_t, fuse_file_info* fi) {
    auto* held = reinterpret_cast<std::shared_ptr<Handle>*>(fi->fh);
    Fs(req).Release(*held);
    delete held;
    fuse_reply_err(req, 0);
  }

  static void Fsync(fuse_req_t req, fuse_ino_t, int, fuse_file_info* fi) {
    auto done = Fs(req).burst_->Fsync(HandleOf(fi)->burst_handle, wire::Durability::kLocal);
    if (!done.ok()) return Fail(req, done.status());
    fuse_reply_err(req, 0);
  }

  static void Fallocate(fuse_req_t req, fuse_ino_t, int mode, off_t offset, off_t length,
                        fuse_file_info* fi) {
    Handle& handle = *HandleOf(fi);
    auto fd = Fs(req).WritableFd(handle);
    if (!fd.ok()) return Fail(req, fd.status());
    fuse_reply_err(req, fallocate(*fd, mode, offset, length) == 0 ? 0 : errno);
  }

  static void Lseek(fuse_req_t req, fuse_ino_t, off_t offset, int whence, fuse_file_info* fi) {
    Handle& handle = *HandleOf(fi);
    if (handle.ensure) {
      // Holes of a file that is not resident are not known here: all of it counts as data.
      struct stat st;
      if (fstat(handle.fd.get(), &st) != 0) return fuse_reply_err(req, errno), void();
      if (offset >= st.st_size) return fuse_reply_err(req, ENXIO), void();
      return fuse_reply_lseek(req, whence == SEEK_DATA ? offset : st.st_size), void();
    }
    off_t at = lseek(handle.fd.get(), offset, whence);
    if (at < 0) return fuse_reply_err(req, errno), void();
    fuse_reply_lseek(req, at);
  }

  static void OpenDir(fuse_req_t req, fuse_ino_t ino, fuse_file_info* fi) {
    auto node = NodeOf(req, ino);
    if (!node) return;
    auto* dir = new DirHandle;
    dir->node = node;
    dir->page_after.push_back("");
    fi->fh = reinterpret_cast<uint64_t>(dir);
    if (fuse_reply_open(req, fi) == -ENOENT) delete dir;
  }

  static void ReleaseDir(fuse_req_t req, fuse_ino_t, fuse_file_info* fi) {
    delete DirOf(fi);
    fuse_reply_err(req, 0);
  }

  // Makes `items` hold page p; pages are fetched in order, so page p's cursor is known when p - 1
  // was read.
  static perigee::Status LoadPage(FileSystem& fs, DirHandle& dir, size_t p) {
    // The first page is always asked for anew: rewinddir shows what has changed.
    if (dir.page == p && p != 0) return perigee::Status::Ok();
    wire::ReadDirRequest q;
    q.dir = dir.node->file;
    q.limit = kDirPage;
    q.after = dir.page_after[p];
    PERIGEE_ASSIGN(wire::ReadDirReply reply, fs.meta_->ReadDir(q));
    dir.page = p;
    dir.items = std::move(reply.items);
    dir.end = reply.end;
    dir.page_after.resize(p + 1);
    if (!dir.end && !dir.items.empty()) dir.page_after.push_back(dir.items.back().key);
    return perigee::Status::Ok();
  }

  // Offsets: 1 and 2 follow "." and ".."; entry i of page p is followed by 2 + p * kDirPage + i
  // + 1. Pages may hold fewer than kDirPage entries (hidden ones are left out), never more.
  static void List(fuse_req_t req, size_t size, off_t offset, fuse_file_info* fi, bool plus) {
    FileSystem& fs = Fs(req);
    DirHandle& dir = *DirOf(fi);
    std::vector<char> buffer(size);
    size_t used = 0;
    std::vector<fuse_ino_t> looked_up;
    std::lock_guard lock(dir.mu);
    auto add = [&](const char* name, const wire::Record* record, wire::FileId id, uint32_t type,
                   off_t next) {
      fuse_entry_param e{};
      size_t need;
      if (plus) {
        e.attr.st_ino = id;
        e.attr.st_mode = type;
        if (record) e.attr = StatOf(*record);
        need = fuse_add_direntry_plus(req, nullptr, 0, name, nullptr, 0);
        if (used + need > size) return false;
        if (record) {
          e = Entry(fs, *record);
          looked_up.push_back(e.ino);
        }
        used += fuse_add_direntry_plus(req, buffer.data() + used, size - used, name, &e, next);
      } else {
        struct stat st {};
        st.st_ino = id;
        st.st_mode = type;
        need = fuse_add_direntry(req, nullptr, 0, name, nullptr, 0);
        if (used + need > size) return false;
        used += fuse_add_direntry(req, buffer.data() + used, size - used, name, &st, next);
      }
      return true;
    };
    bool room = true;
    if (offset == 0) room = add(".", nullptr, dir.node->file, S_IFDIR, 1), offset = 1;
    if (room && offset == 1) room = add("..", nullptr, dir.node->file, S_IFDIR, 2), offset = 2;
    size_t index = static_cast<size_t>(offset - 2) % kDirPage;
    size_t page = static_cast<size_t>(offset - 2) / kDirPage;
    bool fresh = dir.page != page || (page == 0 && index == 0);
    while (room) {
      if (page >= dir.page_after.size()) break;
      if (fresh) {
        auto loaded = LoadPage(fs, dir, page);
        if (!loaded.ok()) {
          if (used > 0) break;
          return Fail(req, loaded);
        }
        fresh = false;
      }
      while (room && index < dir.items.size()) {
        const wire::DirItem& item = dir.items[index];
        auto next = static_cast<off_t>(2 + page * kDirPage + index + 1);
        // The last of a page points at the next page's first, also when the page is short.
        if (index + 1 == dir.items.size()) next = static_cast<off_t>(2 + (page + 1) * kDirPage);
        room =
            add(item.name.c_str(), &item.record, item.record.id, TypeBits(item.record.kind), next);
        if (room) ++index;
      }
      if (!room || dir.end) break;
      ++page;
      index = 0;
      fresh = true;
    }
    if (fuse_reply_buf(req, buffer.data(), used) == -ENOENT) {
      for (auto ino : looked_up) fs.nodes_.Forget(ino, 1);
    }
  }

  static void ReadDir(fuse_req_t req, fuse_ino_t, size_t size, off_t offset, fuse_file_info* fi) {
    List(req, size, offset, fi, false);
  }
  static void ReadDirPlus(fuse_req_t req, fuse_ino_t, size_t size, off_t offset,
                          fuse_file_info* fi) {
    List(req, size, offset, fi, true);
  }

  // A directory is as durable as the namespace: everything visible now is on stable storage.
  static void FsyncDir(fuse_req_t req, fuse_ino_t, int, fuse_file_info*) {
    auto done = Fs(req).meta_->Sync();
    if (!done.ok()) return Fail(req, done);
    fuse_reply_err(req, 0);
  }

  static void StatFs(fuse_req_t req, fuse_ino_t) {
    auto reply = Fs(req).meta_->StatFs();
    if (!reply.ok()) return Fail(req, reply.status());
    struct statvfs st {};
    st.f_bsize = st.f_frsize = 4096;
    st.f_blocks = reply->total_bytes / 4096;
    st.f_bfree = st.f_bavail = reply->free_bytes / 4096;
    st.f_files = reply->files + (uint64_t{1} << 32);
    st.f_ffree = st.f_favail = uint64_t{1} << 32;
    st.f_namemax = 255;
    fuse_reply_statfs(req, &st);
  }

  // "system." holds ACLs: storing one as plain bytes would let chmod-by-ACL (cp -a) believe that it
  // worked.
  static bool RefuseSystem(fuse_req_t req, const char* name) {
    if (std::strncmp(name, "system.", 7) != 0) return false;
    fuse_reply_err(req, EOPNOTSUPP);
    return true;
  }

  static void SetXattr(fuse_req_t req, fuse_ino_t ino, const char* name, const char* value,
                       size_t size, int flags) {
    if (RefuseSystem(req, name)) return;
    auto node = NodeOf(req, ino);
    if (!node) return;
    wire::XattrRequest q;
    q.id = node->file;
    q.name = name;
    q.value.assign(value, size);
    q.flags = static_cast<uint32_t>(flags);
    auto reply = Fs(req).meta_->SetXattr(q);
    Fs(req).Changed(*node);
    if (!reply.ok()) return Xattr(req, reply.status());
    Fs(req).Attributes(reply->record, *node);
    fuse_reply_err(req, 0);
  }

  static void Xattr(fuse_req_t req, const perigee::Status& status) {
    if (status.Is(Code::kNotFound)) return fuse_reply_err(req, ENODATA), void();
    if (status.Is(Code::kTooLarge)) return fuse_reply_err(req, ENOSPC), void();
    Fail(req, status);
  }

  // Replies with `value`, or with its size when the caller only asked for that.
  static void ReplyValue(fuse_req_t req, const std::string& value, size_t size) {
    if (size == 0) return fuse_reply_xattr(req, value.size()), void();
    if (value.size() > size) return fuse_reply_err(req, ERANGE), void();
    fuse_reply_buf(req, value.data(), value.size());
  }

  static void GetXattr(fuse_req_t req, fuse_ino_t ino, const char* name, size_t size) {
    if (RefuseSystem(req, name)) return;
    auto node = NodeOf(req, ino);
    if (!node) return;
    auto record = Fs(req).ForXattr(*node, name);
    if (!record.ok()) return Fail(req, record.status());
    for (const auto& x : record->xattrs) {
      if (x.name == name) return ReplyValue(req, x.value, size);
    }
    fuse_reply_err(req, ENODATA);
  }

  static void ListXattr(fuse_req_t req, fuse_ino_t ino, size_t size) {
    auto node = NodeOf(req, ino);
    if (!node) return;
    wire::GetAttrRequest q;
    q.id = node->file;
    auto reply = Fs(req).meta_->GetAttr(q);
    if (!reply.ok()) return Fail(req, reply.status());
    std::string names;
    for (const auto& x : reply->record.xattrs) names.append(x.name).push_back('\0');
    ReplyValue(req, names, size);
  }

  static void RemoveXattr(fuse_req_t req, fuse_ino_t ino, const char* name) {
    if (RefuseSystem(req, name)) return;
    auto node = NodeOf(req, ino);
    if (!node) return;
    wire::XattrRequest q;
    q.id = node->file;
    q.name = name;
    auto reply = Fs(req).meta_->RemoveXattr(q);
    Fs(req).Changed(*node);
    if (!reply.ok()) return Xattr(req, reply.status());
    Fs(req).Attributes(reply->record, *node);
    fuse_reply_err(req, 0);
  }
};

const fuse_lowlevel_ops& FileSystem::Operations() {
  static const fuse_lowlevel_ops ops = [] {
    fuse_lowlevel_ops o{};
    o.init = Ops::Init;
    o.lookup = Ops::Lookup;
    o.forget = Ops::Forget;
    o.forget_multi = Ops::ForgetMulti;
    o.getattr = Ops::GetAttr;
    o.setattr = Ops::SetAttr;
    o.readlink = Ops::ReadLink;
    o.mknod = Ops::Mknod;
    o.mkdir = Ops::Mkdir;
    o.unlink = Ops::Unlink;
    o.rmdir = Ops::Rmdir;
    o.symlink = Ops::Symlink;
    o.rename = Ops::Rename;
    o.link = Ops::Link;
    o.open = Ops::Open;
    o.create = Ops::Create;
    o.read = Ops::Read;
    o.write = Ops::Write;
    o.flush = Ops::Flush;
    o.release = Ops::Release;
    o.fsync = Ops::Fsync;
    o.fallocate = Ops::Fallocate;
    o.lseek = Ops::Lseek;
    o.opendir = Ops::OpenDir;
    o.releasedir = Ops::ReleaseDir;
    o.readdir = Ops::ReadDir;
    o.readdirplus = Ops::ReadDirPlus;
    o.fsyncdir = Ops::FsyncDir;
    o.statfs = Ops::StatFs;
    o.setxattr = Ops::SetXattr;
    o.getxattr = Ops::GetXattr;
    o.listxattr = Ops::ListXattr;
    o.removexattr = Ops::RemoveXattr;
    return o;
  }();
  return ops;
}

}  // namespace perigee::fuse
