// MemDisk: a tree of nodes in memory. Each directory keeps its names twice, as they are and as of
// its last SyncDir, and each file its pages (mem_pages.h); Crash() goes back to what was synced.

#include <algorithm>
#include <cerrno>
#include <mutex>
#include <set>

#include "base/disk.h"
#include "base/mem_file.h"

namespace perigee {
namespace {

using internal::MemError;
using internal::MemFile;
using internal::MemNode;
using internal::MemNodePtr;
using internal::MemTree;

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
  explicit MemDiskImpl(uint64_t seed) : tree_(std::make_shared<MemTree>(seed)) {}

  Result<std::unique_ptr<File>> Open(const std::string& path, OpenMode mode,
                                     Caching caching) override {
    PERIGEE_TRY(tree_->Ask("open", path));
    std::lock_guard lock(tree_->mu);
    PERIGEE_ASSIGN(Place place, Find("open", path));
    MemNodePtr node = place.node;
    if (node && mode == OpenMode::kCreate) return MemError(EEXIST, "open", path);
    if (node && node->is_directory) return MemError(EISDIR, "open", path);
    if (!node) {
      if (mode == OpenMode::kRead || mode == OpenMode::kReadWrite)
        return MemError(ENOENT, "open", path);
      node = tree_->MakeNode(false);
      node->links = 1;
      place.parent->names[place.name] = node;
    }
    return std::unique_ptr<File>(std::make_unique<MemFile>(
        tree_, std::move(node), path, mode != OpenMode::kRead, caching == Caching::kDirect));
  }

  void Run(std::span<IoOp> ops) override {
    // In an order of its own, because callers may not count on any.
    std::vector<size_t> order(ops.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = i;
    {
      std::lock_guard lock(tree_->mu);
      for (size_t i = order.size(); i > 1; --i)
        std::swap(order[i - 1], order[tree_->random.Below(i)]);
    }
    for (size_t i : order) RunInline(ops[i]);
  }

  Status Rename(const std::string& from, const std::string& to) override {
    std::string what = from + " to " + to;
    PERIGEE_TRY(tree_->Ask("rename", from));
    std::lock_guard lock(tree_->mu);
    PERIGEE_ASSIGN(Place source, Find("rename", from));
    PERIGEE_ASSIGN(Place target, Find("rename", to));
    if (!source.node) return MemError(ENOENT, "rename", what);
    if (!source.parent || !target.parent) return MemError(EBUSY, "rename", what);  // the root
    if (source.node == target.node) return Status::Ok();
    if (source.node->is_directory && IsWithin(from, to)) return MemError(EINVAL, "rename", what);
    if (target.node) {
      if (target.node->is_directory && !source.node->is_directory)
        return MemError(EISDIR, "rename", what);
      if (!target.node->is_directory && source.node->is_directory)
        return MemError(ENOTDIR, "rename", what);
      if (!target.node->names.empty()) return MemError(ENOTEMPTY, "rename", what);
      tree_->DropLink(*target.node);
    }
    source.parent->names.erase(source.name);
    target.parent->names[target.name] = source.node;
    return Status::Ok();
  }

  Status Unlink(const std::string& path) override {
    PERIGEE_TRY(tree_->Ask("unlink", path));
    std::lock_guard lock(tree_->mu);
    PERIGEE_ASSIGN(Place place, Find("unlink", path));
    if (!place.node) return MemError(ENOENT, "unlink", path);
    if (place.node->is_directory) return MemError(EISDIR, "unlink", path);
    place.parent->names.erase(place.name);
    tree_->DropLink(*place.node);
    return Status::Ok();
  }

  Status CreateDir(const std::string& path) override {
    PERIGEE_TRY(tree_->Ask("create_dir", path));
    std::lock_guard lock(tree_->mu);
    PERIGEE_ASSIGN(Place place, Find("create directory", path));
    if (place.node) return MemError(EEXIST, "create directory", path);
    AddDirectory(place);
    return Status::Ok();
  }

  Status CreateDirs(const std::string& path) override {
    PERIGEE_TRY(tree_->Ask("create_dir", path));
    std::lock_guard lock(tree_->mu);
    std::string at;
    for (const std::string& part : Split(path)) {
      at += "/" + part;
      PERIGEE_ASSIGN(Place place, Find("create directory", at));
      if (place.node && !place.node->is_directory)
        return MemError(ENOTDIR, "create directory", path);
      if (place.node) continue;
      place.parent->synced_names[place.name] = AddDirectory(place);
    }
    return Status::Ok();
  }

  Status RemoveDir(const std::string& path) override {
    PERIGEE_TRY(tree_->Ask("remove_dir", path));
    std::lock_guard lock(tree_->mu);
    PERIGEE_ASSIGN(Place place, Find("remove directory", path));
    if (!place.node) return MemError(ENOENT, "remove directory", path);
    if (!place.node->is_directory) return MemError(ENOTDIR, "remove directory", path);
    if (!place.parent) return MemError(EBUSY, "remove directory", path);
    if (!place.node->names.empty()) return MemError(ENOTEMPTY, "remove directory", path);
    place.parent->names.erase(place.name);
    tree_->DropLink(*place.node);
    return Status::Ok();
  }

  Status SyncDir(const std::string& path) override {
    PERIGEE_TRY(tree_->Ask("sync_dir", path));
    std::lock_guard lock(tree_->mu);
    PERIGEE_ASSIGN(MemNodePtr node, FindDirectory("sync directory", path));
    node->synced_names = node->names;
    return Status::Ok();
  }

  Result<std::vector<DirEntry>> List(const std::string& path) override {
    PERIGEE_TRY(tree_->Ask("list", path));
    std::lock_guard lock(tree_->mu);
    PERIGEE_ASSIGN(MemNodePtr node, FindDirectory("list", path));
    std::vector<DirEntry> entries;
    for (const auto& [name, child] : node->names) entries.push_back({name, child->is_directory});
    return entries;
  }

  Result<FileInfo> Stat(const std::string& path) override {
    PERIGEE_TRY(tree_->Ask("stat", path));
    std::lock_guard lock(tree_->mu);
    PERIGEE_ASSIGN(Place place, Find("stat", path));
    if (!place.node) return MemError(ENOENT, "stat", path);
    return FileInfo{place.node->is_directory, place.node->pages.size(), place.node->inode};
  }

  Result<SpaceInfo> Space(const std::string& path) override {
    PERIGEE_TRY(tree_->Ask("stat", path));
    std::lock_guard lock(tree_->mu);
    PERIGEE_ASSIGN(Place place, Find("space of", path));
    if (!place.node) return MemError(ENOENT, "space of", path);
    uint64_t free = tree_->capacity > tree_->used ? tree_->capacity - tree_->used : 0;
    return SpaceInfo{tree_->capacity, free, reinterpret_cast<uintptr_t>(tree_.get())};
  }

  std::string engine() const override { return "memory"; }

  void Crash() override {
    std::lock_guard lock(tree_->mu);
    ++tree_->generation;
    for (auto& weak : tree_->nodes) {
      if (MemNodePtr node = weak.lock()) node->links = node->opens = 0;
    }
    tree_->used = 0;
    std::set<const MemNode*> seen;
    Revert(*tree_->root, seen);
  }

  void SetCapacity(uint64_t bytes) override {
    std::lock_guard lock(tree_->mu);
    tree_->capacity = bytes;
  }

  void SetFault(
      std::function<Status(std::string_view op, const std::string& path)> fault) override {
    std::lock_guard lock(tree_->mu);
    tree_->fault = std::move(fault);
  }

  Status FlipBit(const std::string& path, uint64_t bit) override {
    std::lock_guard lock(tree_->mu);
    PERIGEE_ASSIGN(Place place, Find("flip a bit of", path));
    if (!place.node) return MemError(ENOENT, "flip a bit of", path);
    if (bit / 8 >= place.node->pages.size()) return MemError(EINVAL, "flip a bit of", path);
    tree_->Account(*place.node, [&](MemPages& pages) { pages.FlipBit(bit); });
    return Status::Ok();
  }

 private:
  struct Place {
    MemNodePtr parent;  // null for the root
    std::string name;
    MemNodePtr node;  // null when there is none of that name
  };

  // The parent of `path` must be there, `path` need not.
  Result<Place> Find(std::string_view what, const std::string& path) const {
    Place place{nullptr, "", tree_->root};
    if (path.empty()) return MemError(ENOENT, what, path);
    for (std::string& part : Split(path)) {
      if (!place.node) return MemError(ENOENT, what, path);
      if (!place.node->is_directory) return MemError(ENOTDIR, what, path);
      place.parent = place.node;
      auto it = place.parent->names.find(part);
      place.node = it == place.parent->names.end() ? nullptr : it->second;
      place.name = std::move(part);
    }
    return place;
  }

  Result<MemNodePtr> FindDirectory(std::string_view what, const std::string& path) const {
    PERIGEE_ASSIGN(Place place, Find(what, path));
    if (!place.node) return MemError(ENOENT, what, path);
    if (!place.node->is_directory) return MemError(ENOTDIR, what, path);
    return place.node;
  }

  MemNodePtr AddDirectory(Place& place) {
    place.node = tree_->MakeNode(true);
    place.node->links = 1;
    place.parent->names[place.name] = place.node;
    return place.node;
  }

  static bool IsWithin(const std::string& directory, const std::string& path) {
    auto outer = Split(directory);
    auto inner = Split(path);
    return inner.size() > outer.size() && std::equal(outer.begin(), outer.end(), inner.begin());
  }

  void Revert(MemNode& directory, std::set<const MemNode*>& seen) {
    seen.insert(&directory);
    directory.names = directory.synced_names;
    for (auto& [name, child] : directory.names) {
      ++child->links;
      if (seen.contains(child.get())) continue;
      if (child->is_directory) {
        Revert(*child, seen);
      } else {
        seen.insert(child.get());
        child->pages.Crash(tree_->random);
        tree_->used += child->pages.allocated_bytes();
      }
    }
  }

  std::shared_ptr<MemTree> tree_;
};

}  // namespace

std::unique_ptr<MemDisk> MemDisk::Create(uint64_t seed) {
  return std::make_unique<MemDiskImpl>(seed);
}

}  // namespace perigee
