#include "tests/powercut/image.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace perigee::powercut {

namespace {

// Beyond these the oldest changes are taken as written back, as a page cache would.
constexpr size_t kUnsyncedPagesMax = 16384;
constexpr size_t kUnsyncedNamesMax = 65536;
constexpr uint64_t kRemovedMax = 512;

timespec Now() {
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return now;
}

uint64_t PagesOf(uint64_t size) { return (size + Image::kPage - 1) / Image::kPage; }

}  // namespace

Image::Image(std::set<std::string> kept) : kept_(std::move(kept)) {
  Node& root = nodes_[kRoot];
  root.attributes.mode = S_IFDIR | 0755;
  root.attributes.links = 2;
  Touch(root);
}

Image::Node& Image::At(Ino ino) { return nodes_.at(ino); }
const Image::Node& Image::At(Ino ino) const { return nodes_.at(ino); }

void Image::Touch(Node& node) { node.attributes.mtime = node.attributes.ctime = Now(); }

Ino Image::Find(Ino parent, const std::string& name) const {
  const Names& names = At(parent).names;
  auto it = names.find(name);
  return it == names.end() ? 0 : it->second;
}

int Image::Make(Ino parent, const std::string& name, uint32_t mode, Owner owner, Ino* made,
                uint64_t device, std::string target) {
  if (Find(parent, name) != 0) return EEXIST;
  *made = next_++;
  Node& node = nodes_[*made];
  node.attributes.mode = mode;
  node.attributes.owner = owner;
  node.attributes.device = device;
  node.attributes.links = S_ISDIR(mode) ? 2 : 1;
  node.attributes.atime = Now();
  node.attributes.size = target.size();
  node.target = std::move(target);
  node.parent = parent;
  node.name = name;
  node.kept = At(parent).kept || kept_.count(name) > 0;
  Touch(node);
  Apply({{parent, name, *made}});
  return 0;
}

int Image::Link(Ino ino, Ino parent, const std::string& name) {
  if (Find(parent, name) != 0) return EEXIST;
  ++At(ino).attributes.links;
  Apply({{parent, name, ino}});
  return 0;
}

int Image::Unlink(Ino parent, const std::string& name) {
  Ino ino = Find(parent, name);
  if (ino == 0) return ENOENT;
  if (IsDir(ino)) return EISDIR;
  --At(ino).attributes.links;
  Apply({{parent, name, 0}});
  return 0;
}

int Image::RemoveDir(Ino parent, const std::string& name) {
  Ino ino = Find(parent, name);
  if (ino == 0) return ENOENT;
  if (!IsDir(ino)) return ENOTDIR;
  if (!At(ino).names.empty()) return ENOTEMPTY;
  At(ino).attributes.links = 0;
  Apply({{parent, name, 0}});
  return 0;
}

int Image::Rename(Ino parent, const std::string& name, Ino to_parent, const std::string& to_name,
                  bool replace) {
  Ino ino = Find(parent, name);
  Ino there = Find(to_parent, to_name);
  if (ino == 0) return ENOENT;
  if (there == ino) return 0;
  if (there != 0) {
    if (!replace) return EEXIST;
    if (IsDir(there) && !IsDir(ino)) return EISDIR;
    if (!IsDir(there) && IsDir(ino)) return ENOTDIR;
    if (!At(there).names.empty()) return ENOTEMPTY;
    At(there).attributes.links -= IsDir(there) ? 2 : 1;
  }
  At(ino).parent = to_parent;
  At(ino).name = to_name;
  Apply({{parent, name, 0}, {to_parent, to_name, ino}});
  return 0;
}

std::vector<Entry> Image::List(Ino dir) const {
  std::vector<Entry> out;
  for (const auto& [name, ino] : At(dir).names) out.push_back({name, ino});
  return out;
}

void Image::Apply(DirChange change) {
  bool kept = false;
  for (const NameChange& c : change) {
    Node& dir = At(c.dir);
    if (c.ino == 0) {
      dir.names.erase(c.name);
      ++removed_;
    } else {
      dir.names[c.name] = c.ino;
    }
    Touch(dir);
    kept |= dir.kept || (c.ino != 0 && At(c.ino).kept);
  }
  Ino dir = change.front().dir;
  unsynced_dirs_.push_back(std::move(change));
  if (kept) SyncDir(dir);
  while (unsynced_dirs_.size() > kUnsyncedNamesMax) {
    MakeDurable(unsynced_dirs_.front());
    unsynced_dirs_.pop_front();
  }
  if (removed_ > kRemovedMax) Collect();
}

void Image::MakeDurable(const DirChange& change) {
  for (const NameChange& c : change) {
    if (c.ino == 0)
      At(c.dir).durable_names.erase(c.name);
    else
      At(c.dir).durable_names[c.name] = c.ino;
  }
}

// With all that a change of this directory stands on: the changes before it in any directory of it.
void Image::SyncDir(Ino dir) {
  std::set<Ino> dirs = {dir};
  std::vector<bool> wanted(unsynced_dirs_.size());
  for (size_t i = unsynced_dirs_.size(); i-- > 0;) {
    const DirChange& change = unsynced_dirs_[i];
    wanted[i] = std::any_of(change.begin(), change.end(),
                            [&](const NameChange& c) { return dirs.count(c.dir) > 0; });
    for (const NameChange& c : change)
      if (wanted[i]) dirs.insert(c.dir);
  }
  std::deque<DirChange> left;
  for (size_t i = 0; i < wanted.size(); ++i) {
    if (wanted[i])
      MakeDurable(unsynced_dirs_[i]);
    else
      left.push_back(std::move(unsynced_dirs_[i]));
  }
  unsynced_dirs_ = std::move(left);
}

size_t Image::Read(Ino ino, uint64_t offset, std::span<char> to) const {
  const Content& content = At(ino).live;
  if (offset >= content.size) return 0;
  size_t bytes = std::min<uint64_t>(to.size(), content.size - offset);
  for (size_t done = 0; done < bytes;) {
    uint64_t at = offset + done;
    size_t piece = std::min<size_t>(bytes - done, kPage - at % kPage);
    auto it = content.pages.find(at / kPage);
    if (it == content.pages.end())
      std::memset(to.data() + done, 0, piece);
    else
      std::memcpy(to.data() + done, it->second->data() + at % kPage, piece);
    done += piece;
  }
  return bytes;
}

void Image::Write(Ino ino, uint64_t offset, std::span<const char> data) {
  Node& node = At(ino);
  for (size_t done = 0; done < data.size();) {
    uint64_t at = offset + done;
    size_t piece = std::min<size_t>(data.size() - done, kPage - at % kPage);
    auto page = std::make_shared<Page>();
    auto it = node.live.pages.find(at / kPage);
    if (it != node.live.pages.end())
      *page = *it->second;
    else
      page->fill(0);
    std::memcpy(page->data() + at % kPage, data.data() + done, piece);
    Put(node, {false, at / kPage, std::move(page), at + piece});
    done += piece;
  }
  Touch(node);
  if (node.kept) Sync(ino);
}

void Image::Truncate(Ino ino, uint64_t size) {
  Node& node = At(ino);
  Put(node, {true, 0, nullptr, size});
  Touch(node);
  if (node.kept) Sync(ino);
}

void Image::Punch(Ino ino, uint64_t offset, uint64_t bytes) {
  Node& node = At(ino);
  uint64_t end = std::min(offset + bytes, node.live.size);
  while (offset < end) {
    uint64_t index = offset / kPage;
    uint64_t stop = std::min(end, (index + 1) * kPage);
    auto it = node.live.pages.find(index);
    if (it == node.live.pages.end()) {
      // On to the next page that is there.
      it = node.live.pages.upper_bound(index);
      if (it == node.live.pages.end()) break;
      offset = std::max(stop, it->first * kPage);
      continue;
    }
    PageRef page;
    if (offset % kPage != 0 || (stop % kPage != 0 && stop != node.live.size)) {
      auto part = std::make_shared<Page>(*it->second);
      std::memset(part->data() + offset % kPage, 0, stop - offset);
      page = std::move(part);
    }
    Put(node, {false, index, std::move(page), 0});
    offset = stop;
  }
  Touch(node);
  if (node.kept) Sync(ino);
}

std::optional<uint64_t> Image::Seek(Ino ino, uint64_t offset, bool data) const {
  const Content& content = At(ino).live;
  if (offset >= content.size) return std::nullopt;
  auto it = content.pages.lower_bound(offset / kPage);
  if (data) {
    if (it == content.pages.end() || it->first * kPage >= content.size) return std::nullopt;
    return std::max(offset, it->first * kPage);
  }
  uint64_t index = offset / kPage;
  for (; it != content.pages.end() && it->first == index; ++it) ++index;
  return std::min(content.size, std::max(offset, index * kPage));
}

void Image::Put(Node& node, FileChange change) {
  pages_ -= node.live.pages.size();
  ApplyTo(&node.live, change);
  pages_ += node.live.pages.size();
  node.attributes.size = node.live.size;
  node.attributes.bytes = node.live.pages.size() * kPage;
  node.unsynced.push_back(std::move(change));
  while (node.unsynced.size() > kUnsyncedPagesMax) {
    ApplyTo(&node.durable, node.unsynced.front());
    node.unsynced.pop_front();
  }
}

void Image::ApplyTo(Content* content, const FileChange& change) {
  if (!change.resize) {
    if (change.page)
      content->pages[change.index] = change.page;
    else
      content->pages.erase(change.index);
    content->size = std::max(content->size, change.size);
    return;
  }
  if (change.size < content->size) {
    content->pages.erase(content->pages.lower_bound(PagesOf(change.size)), content->pages.end());
    auto last = content->pages.find(change.size / kPage);
    if (change.size % kPage != 0 && last != content->pages.end()) {
      auto page = std::make_shared<Page>(*last->second);
      std::fill(page->begin() + static_cast<ptrdiff_t>(change.size % kPage), page->end(), 0);
      last->second = std::move(page);
    }
  }
  content->size = change.size;
}

const Attributes& Image::Stat(Ino ino) const { return At(ino).attributes; }
Attributes& Image::Change(Ino ino) { return At(ino).attributes; }
const std::string& Image::Target(Ino ino) const { return At(ino).target; }
bool Image::IsDir(Ino ino) const { return S_ISDIR(At(ino).attributes.mode); }

std::string Image::Path(Ino ino) const {
  std::string path;
  while (ino != kRoot) {
    auto it = nodes_.find(ino);
    if (it == nodes_.end()) break;
    path = "/" + it->second.name + path;
    ino = it->second.parent;
  }
  return path;
}

void Image::Remember(Ino ino) { ++At(ino).remembered; }
void Image::Forget(Ino ino, uint64_t times) {
  auto it = nodes_.find(ino);
  if (it == nodes_.end()) return;
  it->second.remembered -= std::min(times, it->second.remembered);
  if (it->second.remembered == 0 && it->second.attributes.links == 0) ++removed_;
}

void Image::Sync(Ino ino) {
  Node& node = At(ino);
  if (IsDir(ino)) {
    SyncDir(ino);
    return;
  }
  for (const FileChange& change : node.unsynced) ApplyTo(&node.durable, change);
  node.durable_mtime = node.attributes.mtime;
  node.durable_ctime = node.attributes.ctime;
  node.unsynced.clear();
}

void Image::Cut(uint64_t seed) {
  Random random(seed);
  CutDirs(random);
  pages_ = 0;
  for (auto& [ino, node] : nodes_) {
    node.remembered = 0;
    node.names = node.durable_names;
    for (const auto& [name, child] : node.names) {
      At(child).parent = ino;
      At(child).name = name;
    }
    if (!node.unsynced.empty()) CutFile(random, node);
  }
  Collect();
  for (auto& [ino, node] : nodes_) {
    pages_ += node.live.pages.size();
    node.attributes.links = IsDir(ino) ? 2 : 0;
  }
  for (auto& [ino, node] : nodes_)
    for (const auto& [name, child] : node.names)
      if (!IsDir(child)) ++At(child).attributes.links;
}

void Image::CutDirs(Random& random) {
  uint64_t kind = random.Below(3);
  uint64_t lost_one_in = uint64_t{2} << (2 * random.Below(4));
  std::set<Ino> stopped;
  for (const DirChange& change : unsynced_dirs_) {
    bool lost = kind == 0 || (kind == 1 && random.OneIn(lost_one_in));
    for (const NameChange& c : change) lost |= stopped.count(c.dir) > 0;
    if (!lost)
      MakeDurable(change);
    else
      for (const NameChange& c : change) stopped.insert(c.dir);
  }
  unsynced_dirs_.clear();
}

void Image::CutFile(Random& random, Node& node) {
  uint64_t kind = random.Below(4);  // nothing of it, all, else page by page
  std::set<uint64_t> stopped;       // pages whose later contents are lost
  uint64_t stopped_from = UINT64_MAX;
  uint64_t last = 0;
  for (const FileChange& change : node.unsynced)
    if (!change.resize) last = std::max(last, change.index);
  for (const FileChange& change : node.unsynced) {
    bool lost = kind == 0 || (kind != 1 && random.OneIn(2));
    if (change.resize) {
      if (lost)
        stopped_from = std::min(stopped_from, change.size / kPage);
      else
        ApplyTo(&node.durable, change);
      continue;
    }
    if (stopped.count(change.index) > 0 || change.index >= stopped_from) continue;
    if (lost) stopped.insert(change.index);
    if (lost && kind >= 2 && change.index == last && change.page) {
      FileChange part = change;
      auto before = node.durable.pages.find(change.index);
      part.page =
          Torn(random, before == node.durable.pages.end() ? nullptr : before->second, change.page);
      ApplyTo(&node.durable, part);
    } else if (!lost) {
      ApplyTo(&node.durable, change);
    }
  }
  node.unsynced.clear();
  node.live = node.durable;
  node.attributes.size = node.live.size;
  node.attributes.bytes = node.live.pages.size() * kPage;
  if (random.OneIn(2)) {
    node.attributes.mtime = node.durable_mtime;
    node.attributes.ctime = node.durable_ctime;
  }
}

Image::PageRef Image::Torn(Random& random, const PageRef& before, const PageRef& after) {
  auto page = std::make_shared<Page>(*after);
  for (uint64_t at = 0; at < kPage; at += kSector) {
    if (random.OneIn(2)) continue;
    if (before)
      std::memcpy(page->data() + at, before->data() + at, kSector);
    else
      std::memset(page->data() + at, 0, kSector);
  }
  return page;
}

// What neither state, nor a change between them, nor the kernel knows is gone.
void Image::Collect() {
  std::set<Ino> reached = {kRoot};
  std::vector<Ino> todo = {kRoot};
  auto reach = [&](Ino ino) {
    if (ino != 0 && reached.insert(ino).second) todo.push_back(ino);
  };
  for (const auto& [ino, node] : nodes_)
    if (node.remembered > 0) reach(ino);
  for (const DirChange& change : unsynced_dirs_) {
    for (const NameChange& c : change) {
      reach(c.dir);
      reach(c.ino);
    }
  }
  while (!todo.empty()) {
    const Node& node = At(todo.back());
    todo.pop_back();
    for (const auto& [name, child] : node.names) reach(child);
    for (const auto& [name, child] : node.durable_names) reach(child);
  }
  for (auto it = nodes_.begin(); it != nodes_.end();) {
    if (reached.count(it->first) > 0) {
      ++it;
      continue;
    }
    pages_ -= std::min<uint64_t>(pages_, it->second.live.pages.size());
    it = nodes_.erase(it);
  }
  removed_ = 0;
}

}  // namespace perigee::powercut
