#include "fuse/file_system.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "base/log.h"
#include "fuse/attributes.h"
#include "fuse/kernel_abi.h"

namespace perigee::fuse {

void FileSystem::Stop() {
  closing_ = true;
  kept_.Stop();
}

Result<wire::Record> FileSystem::LookupRecord(wire::FileId parent, const std::string& name) {
  wire::LookupRequest q;
  q.parent = parent;
  q.name = name;
  PERIGEE_ASSIGN(wire::RecordReply reply, meta_->Lookup(q));
  return std::move(reply.record);
}

// What stat shows of `record`: where this mount holds the file open, the burst file knows better.
struct stat FileSystem::Attributes(const wire::Record& record, Node& node) {
  struct stat st = StatOf(record);
  std::lock_guard lock(node.mu);
  node.record = record;
  struct stat backing;
  if (node.write_opens > 0 && node.backing.get() >= 0 && fstat(node.backing.get(), &backing) == 0) {
    Overlay(backing, &st);
  }
  return st;
}

Result<FileSystem::Attr> FileSystem::GetAttr(Node& node, Handle* handle) {
  if (node.directory) return GetDirectoryAttr(node);
  PERIGEE_ASSIGN(struct stat st, GetFileAttr(node, handle));
  return Attr{st, options_.attr_timeout_s};
}

Result<FileSystem::Attr> FileSystem::GetDirectoryAttr(Node& node) {
  if (auto known = node.directory->Get())
    return Attr{known->st, static_cast<double>(known->valid) / kSecond};
  const auto asked = node.directory->Ask();
  PERIGEE_ASSIGN(wire::RecordReply reply, meta_->GetAttr({.id = node.file}));
  const struct stat st = StatOf(reply.record);
  node.directory->Learn(asked, st, static_cast<Nanos>(options_.attr_timeout_s * kSecond));
  return Attr{st, options_.attr_timeout_s};
}

void FileSystem::Changed(Node& node) {
  if (node.directory) node.directory->Changed();
}

void FileSystem::Changed(wire::FileId file) {
  if (auto node = nodes_.Current(file)) Changed(*node);
}

Result<struct stat> FileSystem::GetFileAttr(Node& node, Handle* handle) {
  if (auto record = Delegated(node)) return Attributes(*record, node);
  DropKept(node);
  wire::GetAttrRequest q;
  q.id = node.file;
  auto reply = meta_->GetAttr(q);
  if (!reply.ok()) {
    // Unlinked but open: fstat goes on to work, with no links.
    std::lock_guard lock(node.mu);
    bool gone = reply.code() == Code::kStale || reply.code() == Code::kNotFound;
    if (!gone || node.opens == 0) return std::move(reply).TakeStatus();
    struct stat st = StatOf(node.record);
    st.st_nlink = 0;
    struct stat backing;
    if (node.backing.get() >= 0 && fstat(node.backing.get(), &backing) == 0) Overlay(backing, &st);
    return st;
  }
  struct stat st = Attributes(reply->record, node);
  bool written_elsewhere = reply->record.writer.has_value();
  if (handle && handle->writer) written_elsewhere = false;
  if (written_elsewhere) {
    // Another process of this node may be writing (the Python client), or a writer has not been
    // sealed yet.
    wire::BurstTarget target;
    target.id = node.file;
    auto burst = burst_->Stat(target);
    if (burst.ok() && burst->state == wire::BurstState::kWriting) {
      st.st_size = static_cast<off_t>(burst->size);
      st.st_blocks = static_cast<blkcnt_t>((burst->allocated_bytes + 511) / 512);
      st.st_mtim = {burst->mtime / kSecond, burst->mtime % kSecond};
    }
  }
  return st;
}

Result<std::shared_ptr<Handle>> FileSystem::OpenFile(const std::shared_ptr<Node>& node, int flags,
                                                     uint32_t* open_flags) {
  bool write = (flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC);
  const bool keeps = !write && !(flags & O_DIRECT);
  if (keeps) {
    if (auto kept = OpenKept(*node, open_flags)) return kept;
  }
  DropKept(*node);
  wire::BurstOpenRequest q;
  q.want_delegation = keeps;
  q.known_page = keeps ? kept_.known_page() : 0;
  q.id = node->file;
  q.access = write ? wire::Access::kWrite : wire::Access::kRead;
  q.truncate = flags & O_TRUNC;
  q.wait_fill_ms = options_.wait_fill_ms;
  {
    std::lock_guard lock(node->mu);
    q.expect_burst = node->opens > 0 ? node->burst : 0;
    q.want_writable_fd =
        write && (!device->passthrough() || (flags & O_DIRECT) || node->mode == OpenMode::kCached);
  }
  auto opened = burst_->Open(q);
  if (!opened.ok()) {
    if (opened.code() == Code::kStale) {
      // Another burst file serves the name now: the kernel looks up again, once, and finds the
      // successor.
      ++stale_opens_;
      nodes_.Retire(*node);
    }
    return std::move(opened).TakeStatus();
  }
  auto kept = MakeKept(&*opened);
  auto handle = Admit(node, flags, std::move(*opened), open_flags);
  if (handle.ok() && kept) Keep(*handle, std::move(kept));
  return handle;
}

std::shared_ptr<Kept> FileSystem::MakeKept(client::OpenedBurst* opened) {
  if (!opened->delegation) return nullptr;
  auto kept = std::make_shared<Kept>();
  kept->page = kept_.Page(opened->delegation->page, opened->delegation_page);
  if (!kept->page) return nullptr;
  kept->delegation = std::move(*opened->delegation);
  kept->record = opened->record;
  kept->Use();
  return kept;
}

std::shared_ptr<Handle> FileSystem::OpenKept(Node& node, uint32_t* open_flags) {
  std::lock_guard lock(node.mu);
  if (!node.kept || !node.kept->kept->Holds()) return nullptr;
  node.kept->kept->Use();
  ++node.kept->users;
  ++opens_kept_;
  ++(node.mode == OpenMode::kPassthrough ? opens_passthrough_ : opens_cached_);
  *open_flags = AnswerFlags(node, false);
  return node.kept;
}

std::optional<wire::Record> FileSystem::Delegated(Node& node) {
  std::lock_guard lock(node.mu);
  if (!node.kept || !node.kept->kept->Holds()) return std::nullopt;
  return node.kept->kept->record;
}

// The kernel asks for security.capability before the first write to a file. Of one that is written
// here, nobody else changes that.
Result<wire::Record> FileSystem::ForXattr(Node& node, const std::string& name) {
  if (auto record = Delegated(node)) return std::move(*record);
  if (name == "security.capability") {
    std::lock_guard lock(node.mu);
    if (node.write_opens > 0) return node.record;
  }
  PERIGEE_ASSIGN(wire::RecordReply reply, meta_->GetAttr({.id = node.file}));
  return std::move(reply.record);
}

void FileSystem::Keep(const std::shared_ptr<Handle>& handle, std::shared_ptr<Kept> kept) {
  std::lock_guard lock(handle->node->mu);
  if (handle->node->kept || !kept_.Add(handle->node, kept)) return;
  handle->kept = std::move(kept);
  handle->node->kept = handle;
}

void FileSystem::DropKept(Node& node) {
  std::shared_ptr<Handle> dropped;
  {
    std::lock_guard lock(node.mu);
    if (!node.kept) return;
    dropped = std::move(node.kept);
    kept_.Remove(dropped->kept);
    if (dropped->users > 0) return;  // the last of them closes it
  }
  Close(*dropped);
}

uint32_t FileSystem::AnswerFlags(const Node& node, bool writer) const {
  return (writer ? 0 : kOpenNoFlush) | (node.mode == OpenMode::kPassthrough ? kOpenPassthrough : 0);
}

Result<std::shared_ptr<Handle>> FileSystem::Admit(const std::shared_ptr<Node>& node, int flags,
                                                  client::OpenedBurst opened,
                                                  uint32_t* open_flags) {
  auto handle = std::make_shared<Handle>();
  handle->node = node;
  handle->burst_handle = opened.handle;
  handle->writer = (flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC);
  handle->fd = std::move(opened.fd);
  handle->ensure = opened.kind == wire::OpenKind::kCached;
  if (handle->fd.get() >= 0) {
    int mode = fcntl(handle->fd.get(), F_GETFL);
    handle->writable_fd = mode >= 0 && (mode & O_ACCMODE) == O_RDWR;
  }
  bool usable = handle->fd.get() >= 0;
  bool may_pass = usable && device->passthrough() && !handle->ensure && !opened.low_space;
  bool stale = false;
  {
    std::lock_guard lock(node->mu);
    if (node->opens > 0 && node->burst != opened.burst) {
      stale = true;
    } else {
      if (node->opens == 0) {
        node->burst = opened.burst;
        node->record = opened.record;
        // Both fstat and the backing registration want a descriptor without write access.
        std::string path = "/proc/self/fd/" + std::to_string(handle->fd.get());
        node->backing.Reset(usable ? open(path.c_str(), O_RDONLY | O_CLOEXEC) : -1);
        node->mode = OpenMode::kCached;
        if (may_pass && node->backing.get() >= 0) {
          auto id = device->BackingOpen(node->backing.get());
          if (id.ok()) {
            node->backing_id = *id;
            node->mode = OpenMode::kPassthrough;
          } else {
            ++passthrough_refused_;
            std::lock_guard why(why_mu_);
            degraded_ = id.status().message();
          }
        }
      }
      ++node->opens;
      if (handle->writer) ++node->write_opens;
    }
  }
  if (stale) {
    burst_->Release(handle->burst_handle)
        .Ignore();  // bufferd releases it with the connection at the latest
    ++stale_opens_;
    nodes_.Retire(*node);
    return Status(Code::kStale, "another burst file serves this name");
  }

  uint32_t answer = AnswerFlags(*node, handle->writer);
  if (node->mode == OpenMode::kPassthrough) {
    if (flags & O_DIRECT) {
      // Unaligned direct I/O is EINVAL on the local file system: take it here, leave mmap to the
      // backing file.
      answer |= kOpenDirectIo;
      handle->direct = true;
      ++opens_direct_;
    } else {
      ++opens_passthrough_;
    }
  } else {
    handle->slow_writes = opened.low_space && handle->writer;
    ++opens_cached_;
  }
  *open_flags = answer;
  return handle;
}

void FileSystem::Release(const std::shared_ptr<Handle>& handle) {
  {
    std::lock_guard lock(handle->node->mu);
    if (--handle->users > 0 || handle->node->kept == handle) return;
  }
  Close(*handle);
}

void FileSystem::Close(Handle& handle) {
  int32_t backing_id = 0;
  {
    std::lock_guard lock(handle.node->mu);
    Node& node = *handle.node;
    PERIGEE_CHECK(node.opens > 0);
    --node.opens;
    if (handle.writer) --node.write_opens;
    if (node.opens == 0) {
      backing_id = node.backing_id;
      node.backing_id = 0;
      node.backing.Reset(-1);
      node.mode = OpenMode::kNone;
      node.burst = 0;
    }
  }
  if (backing_id != 0) device->BackingClose(backing_id);
  // The seal test needs every writable descriptor gone before bufferd hears of the release.
  handle.fd.Reset(-1);
  if (closing_) return;
  auto released = burst_->Release(handle.burst_handle);
  if (!released.ok()) {
    log::Warn("release_failed", {{"file", handle.node->file}, {"error", released}});
  }
}

Result<int> FileSystem::WritableFd(Handle& handle) {
  std::lock_guard lock(handle.node->mu);
  if (!handle.writable_fd) {
    std::string path = "/proc/self/fd/" + std::to_string(handle.fd.get());
    int fd = open(path.c_str(), O_RDWR | O_CLOEXEC);
    if (fd < 0) return Status::FromErrno(errno, "reopen the burst file for writing");
    // dup2 keeps the number, which other threads may be using right now.
    if (dup3(fd, handle.fd.get(), O_CLOEXEC) < 0) {
      Status st = Status::FromErrno(errno, "dup3");
      close(fd);
      return st;
    }
    close(fd);
    handle.writable_fd = true;
  }
  return handle.fd.get();
}

wire::FuseStatusReply FileSystem::Describe() const {
  wire::FuseStatusReply reply;
  reply.passthrough = device && device->passthrough();
  reply.why = device ? device->why() : "not mounted";
  {
    std::lock_guard lock(why_mu_);
    if (!degraded_.empty()) reply.why += "; refused for some files: " + degraded_;
  }
  auto add = [&](const char* name, uint64_t value) { reply.counters.push_back({name, value, {}}); };
  add("opens_passthrough", opens_passthrough_);
  add("opens_direct", opens_direct_);
  add("opens_cached", opens_cached_);
  add("opens_kept", opens_kept_);
  add("kept_open", kept_.size());
  add("read_requests", reads_);
  add("read_bytes", read_bytes_);
  add("write_requests", writes_);
  add("write_bytes", write_bytes_);
  add("passthrough_refused", passthrough_refused_);
  add("publishes", publishes_);
  add("stale_opens", stale_opens_);
  add("nodes", nodes_.size());
  return reply;
}

}  // namespace perigee::fuse
