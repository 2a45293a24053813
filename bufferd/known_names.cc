#include "bufferd/known_names.h"

#include <algorithm>
#include <utility>

namespace perigee::bufferd {
namespace {

constexpr int kDepthMax = 256;

}  // namespace

KnownNames::Answer KnownNames::Find(wire::FileId parent, const std::string& name,
                                    const Known** known) const {
  auto dir = directories_.find(parent);
  if (dir == directories_.end()) return Answer::kUnknown;
  auto it = dir->second.names.find(name);
  if (it == dir->second.names.end()) return dir->second.whole ? Answer::kAbsent : Answer::kUnknown;
  *known = Get(it->second);
  return *known ? Answer::kExists : Answer::kUnknown;
}

const KnownNames::Known* KnownNames::Get(wire::FileId id) const {
  auto it = known_.find(id);
  return it == known_.end() ? nullptr : &it->second;
}

bool KnownNames::Whole(wire::FileId dir) const {
  auto it = directories_.find(dir);
  return it != directories_.end() && it->second.whole;
}

std::optional<std::vector<wire::DirItem>> KnownNames::List(wire::FileId dir) const {
  if (!Whole(dir)) return std::nullopt;
  std::vector<wire::DirItem> items;
  for (const auto& [name, id] : directories_.at(dir).names) {
    const Known* known = Get(id);
    if (!known) return std::nullopt;
    bool directory = known->record.kind == wire::FileKind::kDirectory;
    items.push_back({.key = directory ? name + "/" : name, .name = name, .record = known->record});
  }
  std::sort(items.begin(), items.end(), [](const auto& a, const auto& b) { return a.key < b.key; });
  return items;
}

std::string KnownNames::PathOf(wire::FileId dir) const {
  std::string path;
  for (int depth = 0; dir != wire::kRootId; ++depth) {
    const Known* known = Get(dir);
    if (!known || known->parent == 0 || depth == kDepthMax) return "";
    path = path.empty() ? known->name : known->name + "/" + path;
    dir = known->parent;
  }
  return path;
}

wire::FileId KnownNames::BucketOf(wire::FileId id) const {
  for (int depth = 0; depth < kDepthMax; ++depth) {
    const Known* known = Get(id);
    if (!known || known->parent == 0) return 0;
    if (known->parent == wire::kRootId) return id;
    id = known->parent;
  }
  return 0;
}

bool KnownNames::ChangedSince(wire::FileId dir, uint64_t then) const {
  auto it = directories_.find(dir);
  return cleared_ > then || (it != directories_.end() && it->second.changed > then);
}

void KnownNames::EndPages(wire::FileId dir) {
  if (auto it = directories_.find(dir); it != directories_.end()) it->second.newer.reset();
}

void KnownNames::Changed(Directory* dir, const std::string& name) {
  dir->changed = ++clock_;
  if (dir->newer) dir->newer->insert(name);
}

void KnownNames::Learn(wire::FileId parent, const std::string& name, const wire::Record& record) {
  Directory& dir = directories_[parent];
  auto [it, added] = dir.names.try_emplace(name, record.id);
  if (added || it->second != record.id) Changed(&dir, name);
  if (!added && it->second != record.id) {
    known_.erase(it->second);
    it->second = record.id;
  }
  Known& known = known_[record.id];
  if (known.parent != 0 && (known.parent != parent || known.name != name) &&
      record.kind == wire::FileKind::kDirectory)
    Drop(known.parent, known.name);  // a directory has one name: it was moved
  known = {record, parent, name, known.own};
}

void KnownNames::Move(wire::FileId parent, const std::string& name, wire::FileId new_parent,
                      const std::string& new_name, const wire::Record& record) {
  const Known* known = Get(record.id);
  bool own = known && known->own;
  if (record.kind != wire::FileKind::kDirectory) Forget(parent, name);
  Learn(new_parent, new_name, record);
  if (own) Own(record.id);
}

void KnownNames::Own(wire::FileId id) {
  if (auto it = known_.find(id); it != known_.end()) it->second.own = true;
}

void KnownNames::LearnRecord(const wire::Record& record) {
  if (record.kind == wire::FileKind::kDirectory || known_.contains(record.id))
    known_[record.id].record = record;
}

void KnownNames::LearnPage(const wire::ReadDirRequest& asked, const wire::ReadDirReply& page) {
  {
    Directory& dir = directories_[asked.dir];
    if (asked.after.empty()) {
      std::erase_if(dir.names, [&](const auto& known) {
        return !dir.newer || !dir.newer->contains(known.first);
      });
      dir.whole = false;
      dir.listing = true;
    } else if (!dir.listing || dir.listed != asked.after) {
      return;
    }
  }
  Directory& dir = directories_[asked.dir];
  auto newer = std::exchange(dir.newer, std::nullopt);
  for (const auto& item : page.items)
    if (!newer || !newer->contains(item.name)) Learn(asked.dir, item.name, item.record);
  dir.newer = std::move(newer);
  if (!page.items.empty()) dir.listed = page.items.back().key;
  if (page.end) {
    dir.whole = true;
    dir.listing = false;
  }
}

void KnownNames::MadeEmpty(wire::FileId dir) {
  Directory& made = directories_[dir];
  made.names.clear();
  made.whole = true;
  made.changed = ++clock_;
}

void KnownNames::Drop(wire::FileId parent, const std::string& name) {
  Directory& dir = directories_[parent];
  dir.names.erase(name);
  Changed(&dir, name);
}

void KnownNames::Forget(wire::FileId parent, const std::string& name) {
  const Known* known = nullptr;
  if (Find(parent, name, &known) == Answer::kExists && known->parent == parent &&
      known->name == name) {
    const wire::FileId id = known->record.id;
    directories_.erase(id);
    known_.erase(id);
  }
  Drop(parent, name);
}

void KnownNames::Doubt(wire::FileId parent, const std::string& name) {
  Forget(parent, name);
  directories_[parent].whole = false;
}

void KnownNames::Clear() {
  known_.clear();
  std::erase_if(directories_, [](const auto& dir) { return !dir.second.newer; });
  for (auto& [id, dir] : directories_) {
    dir.names.clear();
    dir.whole = dir.listing = false;
  }
  cleared_ = ++clock_;
}

}  // namespace perigee::bufferd
