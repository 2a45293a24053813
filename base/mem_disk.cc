// MemDisk: a tree of nodes in memory. Each directory keeps its names twice, as they are and as of its last SyncDir, and
// each file its pages (mem_pages.h); Crash() goes back to what was synced.

#include <algorithm>
#include <cerrno>
#include <limits>
#include <mutex>
#include <set>

#include "base/disk.h"
#include "base/mem_pages.h"
#include "base/random.h"

namespace perigee {
namespace {

struct Node {
  bool is_directory = false;
  uint64_t inode = 0;
  // Directories:
  std::map<std::string, std::shared_ptr<Node>> names;
  std::map<std::string, std::shared_ptr<Node>> synced_names;
  // Files:
  MemPages pages;
  uint64_t links = 0;  // live names
  uint64_t opens = 0;
};
using NodePtr = std::shared_ptr<Node>;

Status Errno(int err, std::string_view what, const std::string& path) {
  return Status::FromErrno(err, std::string(what) + " " + path);
}

// What the disk and its open files share; files may outlive the disk.
struct Core {
  explicit Core(uint64_t seed) : random(seed) {
    root->is_directory = true;
    root->inode = next_inode++;
    nodes.push_back(root);
  }
  ~Core() {
    // Synced and live names together may form a circle.
    for (auto& weak : nodes) {
      if (NodePtr node = weak.lock()) {
        node->names.clear();
        node->synced_names.clear();
      }
    }
  }

  // Calls the fault knob without the lock, because a fault may wait.
  Status Ask(std::string_view op, const std::string& path) {
    std::function<Status(std::string_view, const std::string&)> ask;
    {
      std::lock_guard lock(mu);
      ask = fault;
    }
    return ask ? ask(op, path) : Status::Ok();
  }

  NodePtr MakeNode(bool is_directory) {
    auto node = std::make_shared<Node>();
    node->is_directory = is_directory;
    node->inode = next_inode++;
    nodes.push_back(node);
    return node;
  }

  // Runs `change` on the pages of `file` and keeps the count of used bytes.
  template <class Change>
  void Account(Node& file, Change change) {
    uint64_t before = file.pages.allocated_bytes();
    change(file.pages);
    used += file.pages.allocated_bytes() - before;
  }

  bool Fits(const Node& file, uint64_t offset, uint64_t bytes) const {
    uint64_t more = file.pages.Missing(offset, bytes);
    return more == 0 || (used <= capacity && more <= capacity - used);
  }

  void DropLink(Node& node) {
    --node.links;
    FreeIfGone(node);
  }
  void FreeIfGone(Node& node) {
    if (node.links == 0 && node.opens == 0) used -= node.pages.allocated_bytes();
  }

  std::mutex mu;  // guards all
  Random random;
  uint64_t next_inode = 1;
  NodePtr root = std::make_shared<Node>();
  std::vector<std::weak_ptr<Node>> nodes;
  uint64_t generation = 0;  // counts crashes; files opened before are dead
  uint64_t capacity = uint64_t{1} << 40;
  uint64_t used = 0;
  std::function<Status(std::string_view, const std::string&)> fault;
};

class MemFile final : public File {
 public:
  MemFile(std::shared_ptr<Core> core, NodePtr node, std::string path, bool writable, bool direct)
      : core_(std::move(core)), node_(std::move(node)), path_(std::move(path)), generation_(core_->generation),
        writable_(writable), direct_(direct) {
    ++node_->opens;
  }
  ~MemFile() override {
    std::lock_guard lock(core_->mu);
    if (generation_ != core_->generation) return;
    --node_->opens;
    core_->FreeIfGone(*node_);
  }

  Result<size_t> ReadAt(uint64_t offset, MutableBytes data) override {
    PERIGEE_TRY(core_->Ask("read", path_));
    std::lock_guard lock(core_->mu);
    PERIGEE_TRY(Check("read", offset, data.size(), data.data()));
    return node_->pages.Read(offset, data);
  }

  Status WriteAt(uint64_t offset, ConstBytes data) override {
    return Change("write", offset, data.size(), data.data(), [&](MemPages& pages) { pages.Write(offset, data); });
  }

  Status SyncData() override {
    PERIGEE_TRY(core_->Ask("sync", path_));
    std::lock_guard lock(core_->mu);
    PERIGEE_TRY(CheckAlive("sync"));
    node_->pages.Sync();
    return Status::Ok();
  }

  Status Truncate(uint64_t size) override {
    return Change("truncate", size, 0, nullptr, [&](MemPages& pages) { pages.Truncate(size); });
  }

  Status Allocate(uint64_t offset, uint64_t bytes) override {
    if (bytes == 0) return Errno(EINVAL, "allocate", path_);
    return Change("allocate", offset, bytes, nullptr, [&](MemPages& pages) { pages.Allocate(offset, bytes); });
  }

  Status PunchHole(uint64_t offset, uint64_t bytes) override {
    if (bytes == 0) return Errno(EINVAL, "punch hole in", path_);
    PERIGEE_TRY(core_->Ask("write", path_));
    std::lock_guard lock(core_->mu);
    PERIGEE_TRY(CheckWritable("punch hole in"));
    core_->Account(*node_, [&](MemPages& pages) { pages.PunchHole(offset, bytes); });
    return Status::Ok();
  }

  Result<uint64_t> Size() override {
    std::lock_guard lock(core_->mu);
    PERIGEE_TRY(CheckAlive("stat"));
    return node_->pages.size();
  }

  Result<uint64_t> AllocatedBytes() override {
    std::lock_guard lock(core_->mu);
    PERIGEE_TRY(CheckAlive("stat"));
    return node_->pages.allocated_bytes();
  }

  int fd() const override { return -1; }

 private:
  template <class Fn>
  Status Change(std::string_view what, uint64_t offset, uint64_t bytes, const uint8_t* data, Fn change) {
    PERIGEE_TRY(core_->Ask("write", path_));
    std::lock_guard lock(core_->mu);
    PERIGEE_TRY(CheckWritable(what));
    // As the kernel does: no alignment is asked of what moves no bytes.
    if (data != nullptr) PERIGEE_TRY(Check(what, offset, bytes, data));
    constexpr uint64_t kSizeMax = std::numeric_limits<int64_t>::max();
    if (offset > kSizeMax || bytes > kSizeMax - offset) return Errno(EFBIG, what, path_);
    if (!core_->Fits(*node_, offset, bytes)) return Errno(ENOSPC, what, path_);
    core_->Account(*node_, change);
    return Status::Ok();
  }

  Status CheckAlive(std::string_view what) const {
    return generation_ == core_->generation ? Status::Ok() : Errno(EIO, what, path_);
  }
  Status CheckWritable(std::string_view what) const {
    PERIGEE_TRY(CheckAlive(what));
    return writable_ ? Status::Ok() : Errno(EBADF, what, path_);
  }
  Status Check(std::string_view what, uint64_t offset, size_t bytes, const void* data) const {
    PERIGEE_TRY(CheckAlive(what));
    bool aligned = offset % kPageBytes == 0 && bytes % kPageBytes == 0 && reinterpret_cast<uintptr_t>(data) % kPageBytes == 0;
    return aligned || !direct_ ? Status::Ok() : Errno(EINVAL, what, path_);
  }

  std::shared_ptr<Core> core_;
  NodePtr node_;
  const std::string path_;
  const uint64_t generation_;
  const bool writable_;
  const bool direct_;
};

// Relative paths start at the root, like absolute ones.
std::vector<std::string> Split(std::string_view path) {
  std::vector<std::string> parts;
  for (size_t at = 0; at < path.size();) {
    size_t slash = std::min(path.find('/', at), path.size());
    std::string_view part = path.substr(at, slash - at);
    at = slash + 1;
    if (part.empty() || part == ".") continue;
    if (part != "..") {
      parts.emplace_back(part);
    } else if (!parts.empty()) {
      parts.pop_back();
    }
  }
  return parts;
}

class MemDiskImpl final : public MemDisk {
 public:
  explicit MemDiskImpl(uint64_t seed) : core_(std::make_shared<Core>(seed)) {}

  Result<std::unique_ptr<File>> Open(const std::string& path, OpenMode mode, Caching caching) override {
    PERIGEE_TRY(core_->Ask("open", path));
    std::lock_guard lock(core_->mu);
    PERIGEE_ASSIGN(Place place, Find("open", path));
    NodePtr node = place.node;
    if (node && mode == OpenMode::kCreate) return Errno(EEXIST, "open", path);
    if (node && node->is_directory) return Errno(EISDIR, "open", path);
    if (!node) {
      if (mode == OpenMode::kRead || mode == OpenMode::kReadWrite) return Errno(ENOENT, "open", path);
      node = core_->MakeNode(false);
      node->links = 1;
      place.parent->names[place.name] = node;
    }
    return std::unique_ptr<File>(std::make_unique<MemFile>(core_, std::move(node), path, mode != OpenMode::kRead,
                                                           caching == Caching::kDirect));
  }

  void Run(std::span<IoOp> ops) override {
    // In an order of its own, because callers may not count on any.
    std::vector<size_t> order(ops.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = i;
    {
      std::lock_guard lock(core_->mu);
      for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[core_->random.Below(i)]);
    }
    for (size_t i : order) RunInline(ops[i]);
  }

  Status Rename(const std::string& from, const std::string& to) override {
    std::string what = from + " to " + to;
    PERIGEE_TRY(core_->Ask("rename", from));
    std::lock_guard lock(core_->mu);
    PERIGEE_ASSIGN(Place source, Find("rename", from));
    PERIGEE_ASSIGN(Place target, Find("rename", to));
    if (!source.node) return Errno(ENOENT, "rename", what);
    if (!source.parent || !target.parent) return Errno(EBUSY, "rename", what);  // the root
    if (source.node == target.node) return Status::Ok();
    if (source.node->is_directory && IsWithin(from, to)) return Errno(EINVAL, "rename", what);
    if (target.node) {
      if (target.node->is_directory && !source.node->is_directory) return Errno(EISDIR, "rename", what);
      if (!target.node->is_directory && source.node->is_directory) return Errno(ENOTDIR, "rename", what);
      if (!target.node->names.empty()) return Errno(ENOTEMPTY, "rename", what);
      core_->DropLink(*target.node);
    }
    source.parent->names.erase(source.name);
    target.parent->names[target.name] = source.node;
    return Status::Ok();
  }

  Status Unlink(const std::string& path) override {
    PERIGEE_TRY(core_->Ask("unlink", path));
    std::lock_guard lock(core_->mu);
    PERIGEE_ASSIGN(Place place, Find("unlink", path));
    if (!place.node) return Errno(ENOENT, "unlink", path);
    if (place.node->is_directory) return Errno(EISDIR, "unlink", path);
    place.parent->names.erase(place.name);
    core_->DropLink(*place.node);
    return Status::Ok();
  }

  Status CreateDir(const std::string& path) override {
    PERIGEE_TRY(core_->Ask("create_dir", path));
    std::lock_guard lock(core_->mu);
    PERIGEE_ASSIGN(Place place, Find("create directory", path));
    if (place.node) return Errno(EEXIST, "create directory", path);
    AddDirectory(place);
    return Status::Ok();
  }

  Status CreateDirs(const std::string& path) override {
    PERIGEE_TRY(core_->Ask("create_dir", path));
    std::lock_guard lock(core_->mu);
    std::string at;
    for (const std::string& part : Split(path)) {
      at += "/" + part;
      PERIGEE_ASSIGN(Place place, Find("create directory", at));
      if (place.node && !place.node->is_directory) return Errno(ENOTDIR, "create directory", path);
      if (place.node) continue;
      place.parent->synced_names[place.name] = AddDirectory(place);
    }
    return Status::Ok();
  }

  Status RemoveDir(const std::string& path) override {
    PERIGEE_TRY(core_->Ask("remove_dir", path));
    std::lock_guard lock(core_->mu);
    PERIGEE_ASSIGN(Place place, Find("remove directory", path));
    if (!place.node) return Errno(ENOENT, "remove directory", path);
    if (!place.node->is_directory) return Errno(ENOTDIR, "remove directory", path);
    if (!place.parent) return Errno(EBUSY, "remove directory", path);
    if (!place.node->names.empty()) return Errno(ENOTEMPTY, "remove directory", path);
    place.parent->names.erase(place.name);
    core_->DropLink(*place.node);
    return Status::Ok();
  }

  Status SyncDir(const std::string& path) override {
    PERIGEE_TRY(core_->Ask("sync_dir", path));
    std::lock_guard lock(core_->mu);
    PERIGEE_ASSIGN(NodePtr node, FindDirectory("sync directory", path));
    node->synced_names = node->names;
    return Status::Ok();
  }

  Result<std::vector<DirEntry>> List(const std::string& path) override {
    PERIGEE_TRY(core_->Ask("list", path));
    std::lock_guard lock(core_->mu);
    PERIGEE_ASSIGN(NodePtr node, FindDirectory("list", path));
    std::vector<DirEntry> entries;
    for (const auto& [name, child] : node->names) entries.push_back({name, child->is_directory});
    return entries;
  }

  Result<FileInfo> Stat(const std::string& path) override {
    PERIGEE_TRY(core_->Ask("stat", path));
    std::lock_guard lock(core_->mu);
    PERIGEE_ASSIGN(Place place, Find("stat", path));
    if (!place.node) return Errno(ENOENT, "stat", path);
    return FileInfo{place.node->is_directory, place.node->pages.size(), place.node->inode};
  }

  Result<SpaceInfo> Space(const std::string& path) override {
    PERIGEE_TRY(core_->Ask("stat", path));
    std::lock_guard lock(core_->mu);
    PERIGEE_ASSIGN(Place place, Find("space of", path));
    if (!place.node) return Errno(ENOENT, "space of", path);
    uint64_t free = core_->capacity > core_->used ? core_->capacity - core_->used : 0;
    return SpaceInfo{core_->capacity, free, reinterpret_cast<uintptr_t>(core_.get())};
  }

  std::string engine() const override { return "memory"; }

  void Crash() override {
    std::lock_guard lock(core_->mu);
    ++core_->generation;
    for (auto& weak : core_->nodes) {
      if (NodePtr node = weak.lock()) node->links = node->opens = 0;
    }
    core_->used = 0;
    std::set<const Node*> seen;
    Revert(*core_->root, seen);
    std::erase_if(core_->nodes, [](const auto& weak) { return weak.expired(); });
  }

  void SetCapacity(uint64_t bytes) override {
    std::lock_guard lock(core_->mu);
    core_->capacity = bytes;
  }

  void SetFault(std::function<Status(std::string_view op, const std::string& path)> fault) override {
    std::lock_guard lock(core_->mu);
    core_->fault = std::move(fault);
  }

  Status FlipBit(const std::string& path, uint64_t bit) override {
    std::lock_guard lock(core_->mu);
    PERIGEE_ASSIGN(Place place, Find("flip a bit of", path));
    if (!place.node) return Errno(ENOENT, "flip a bit of", path);
    if (bit / 8 >= place.node->pages.size()) return Errno(EINVAL, "flip a bit of", path);
    core_->Account(*place.node, [&](MemPages& pages) { pages.FlipBit(bit); });
    return Status::Ok();
  }

 private:
  struct Place {
    NodePtr parent;  // null for the root
    std::string name;
    NodePtr node;    // null when there is none of that name
  };

  // The parent of `path` must be there, `path` need not.
  Result<Place> Find(std::string_view what, const std::string& path) const {
    Place place{nullptr, "", core_->root};
    if (path.empty()) return Errno(ENOENT, what, path);
    for (std::string& part : Split(path)) {
      if (!place.node) return Errno(ENOENT, what, path);
      if (!place.node->is_directory) return Errno(ENOTDIR, what, path);
      place.parent = place.node;
      auto it = place.parent->names.find(part);
      place.node = it == place.parent->names.end() ? nullptr : it->second;
      place.name = std::move(part);
    }
    return place;
  }

  Result<NodePtr> FindDirectory(std::string_view what, const std::string& path) const {
    PERIGEE_ASSIGN(Place place, Find(what, path));
    if (!place.node) return Errno(ENOENT, what, path);
    if (!place.node->is_directory) return Errno(ENOTDIR, what, path);
    return place.node;
  }

  NodePtr AddDirectory(Place& place) {
    place.node = core_->MakeNode(true);
    place.node->links = 1;
    place.parent->names[place.name] = place.node;
    return place.node;
  }

  static bool IsWithin(const std::string& directory, const std::string& path) {
    auto outer = Split(directory);
    auto inner = Split(path);
    return inner.size() > outer.size() && std::equal(outer.begin(), outer.end(), inner.begin());
  }

  void Revert(Node& directory, std::set<const Node*>& seen) {
    seen.insert(&directory);
    directory.names = directory.synced_names;
    for (auto& [name, child] : directory.names) {
      ++child->links;
      if (seen.contains(child.get())) continue;
      if (child->is_directory) {
        Revert(*child, seen);
      } else {
        seen.insert(child.get());
        child->pages.Crash(core_->random);
        core_->used += child->pages.allocated_bytes();
      }
    }
  }

  std::shared_ptr<Core> core_;
};

}  // namespace

std::unique_ptr<MemDisk> MemDisk::Create(uint64_t seed) { return std::make_unique<MemDiskImpl>(seed); }

}  // namespace perigee
