#include "tests/objectd/meta/tree_check.h"

#include <doctest/doctest.h>

#include <map>
#include <set>

#include "base/bytes.h"
#include "objectd/kv/key_space.h"
#include "objectd/meta/keys.h"
#include "objectd/meta/upload_rows.h"
#include "objectd/volume/reference_keys.h"

namespace perigee::objectd::test {
namespace {

using kv::KeySpace;
using OwnerKey = std::pair<uint64_t, uint64_t>;

std::map<std::string, std::string> ReadAll(kv::Store& store, std::string prefix) {
  std::map<std::string, std::string> rows;
  auto read = store.Run([&](kv::Transaction& txn) -> Status {
    rows.clear();
    PERIGEE_ASSIGN(auto all, txn.Scan(kv::PrefixRange(prefix), 1'000'000, kv::Direction::kForward,
                                      kv::ReadMode::kSnapshot));
    for (auto& [key, value] : all) rows.emplace(key, value);
    return Status::Ok();
  });
  REQUIRE(read.ok());
  return rows;
}

std::map<std::string, std::string> ReadSpace(kv::Store& store, KeySpace space) {
  return ReadAll(store, std::string(1, static_cast<char>(space)));
}

class Checker {
 public:
  explicit Checker(kv::Store& store) : store_(store) {}

  std::vector<std::string> Run() {
    CheckEntries();
    CheckLinks();
    CheckDirectories();
    CheckContent();
    return std::move(wrong_);
  }

 private:
  void Wrong(std::string what) { wrong_.push_back(std::move(what)); }

  void Version(const wire::Record& r, const std::optional<wire::Version>& v) {
    if (!v) return;
    if (v->layout.kind == wire::LayoutKind::kInline)
      inline_keys_.insert(keys::Inline(r.id, v->generation));
    if (v->layout.kind == wire::LayoutKind::kBlobs) Layout({r.id, v->generation}, v->layout);
  }
  void Layout(OwnerKey owner, const wire::Layout& layout) {
    if (layout.list_id != 0) ++lists_[layout.list_id];
    for (const auto& e : layout.extents) {
      for (uint64_t i = 0; i < e.count; ++i)
        held_.insert(ReferenceKey(e.volume, e.first_seq + i, {owner.first, owner.second}));
    }
  }

  void CheckEntries() {
    inodes_ = ReadSpace(store_, KeySpace::kInode);
    index_ = ReadSpace(store_, KeySpace::kIndex);
    for (const auto& [key, value] : ReadSpace(store_, KeySpace::kEntry)) {
      const Place place{GetBe64(std::string_view(key).substr(1)),
                        std::string(keys::EntryComponent(key))};
      wire::Record record;
      if (value[0] == kFormatReference) {
        const uint64_t id = GetBe64(std::string_view(value).substr(1));
        links_[id].insert(keys::Link(id, place));
        auto inode = inodes_.find(keys::Inode(id));
        if (inode == inodes_.end()) {
          Wrong("no inode of " + std::to_string(id));
          continue;
        }
        record = *DecodeRow<wire::Record>(inode->second, "inode");
      } else {
        record = *DecodeRow<wire::Record>(value, "entry");
        auto row = index_.find(keys::Index(record.id));
        if (row == index_.end() || !(*DecodeIndex(row->second) == place))
          Wrong("index of " + std::to_string(record.id));
      }
      const bool directory = record.kind == wire::FileKind::kDirectory;
      if (directory != IsDirectoryComponent(place.component))
        Wrong("kind of '" + place.component + "'");
      children_[place.dir].insert(place.component);
      if (!records_.emplace(record.id, record).second && value[0] != kFormatReference) {
        Wrong("two entries of " + std::to_string(record.id));
      }
      if (directory) parents_[record.id] = place.dir;
    }
    for (const auto& [key, value] : index_) {
      if (!records_.contains(GetBe64(std::string_view(key).substr(1))))
        Wrong("an index row without an entry");
    }
  }

  void CheckLinks() {
    std::map<uint64_t, std::set<std::string>> rows;
    for (const auto& [key, value] : inodes_) {
      const uint64_t id = GetBe64(std::string_view(key).substr(1));
      if (key.size() > 9)
        rows[id].insert(key);
      else if (!links_.contains(id))
        Wrong("an inode that no entry refers to");
    }
    if (rows != links_) Wrong("link rows are not the entries that refer to inodes");
    for (const auto& [id, links] : links_) {
      if (records_[id].nlink != links.size()) Wrong("nlink of " + std::to_string(id));
      const Place first = *DecodeIndex(index_.at(keys::Index(id)));
      if (!links.contains(keys::Link(id, first)))
        Wrong("the index of " + std::to_string(id) + " is none of its links");
    }
  }

  void CheckDirectories() {
    auto live = ReadSpace(store_, KeySpace::kDirectory);
    uint64_t files = 0;
    for (const auto& [id, record] : records_) {
      if (record.kind != wire::FileKind::kDirectory) {
        ++files;
        continue;
      }
      auto row = live.find(keys::Directory(id));
      if (row == live.end()) {
        Wrong("no liveness row of directory " + std::to_string(id));
        continue;
      }
      if (record.implicit && children_[id].empty())
        Wrong("implicit directory " + std::to_string(id) + " is empty");
      uint64_t top = id;
      for (size_t steps = 0; top != wire::kRootId && parents_[top] != wire::kRootId;
           top = parents_[top]) {
        if (++steps > parents_.size() || !parents_.contains(top)) {
          Wrong("directory " + std::to_string(id) + " is not below the root");
          break;
        }
      }
      if (id != wire::kRootId && *DecodeId(row->second) != top)
        Wrong("bucket of directory " + std::to_string(id));
      live.erase(row);
    }
    if (!live.empty()) Wrong("liveness rows of directories that are gone");
    for (const auto& [dir, names] : children_) {
      if (dir != 0 && !records_.contains(dir)) Wrong("entries in a directory that is gone");
    }
    int64_t counted = 0;
    for (const auto& [key, value] : ReadSpace(store_, KeySpace::kChildCount)) {
      const uint64_t dir = GetBe64(std::string_view(key).substr(1));
      if (dir == 0 && static_cast<uint8_t>(key[9]) < kCountShards)
        counted += GetLe<int64_t>(AsBytes(value).data());
      if (dir != 0 && !records_.contains(dir)) Wrong("times of a directory that is gone");
    }
    if (counted != static_cast<int64_t>(files)) {
      Wrong("file count " + std::to_string(counted) + ", but there are " + std::to_string(files));
    }
  }

  void CheckContent() {
    for (const auto& [id, record] : records_) {
      Version(record, record.committed);
      Version(record, record.previous);
    }
    for (const auto& [key, value] :
         ReadAll(store_, std::string(1, static_cast<char>(KeySpace::kUpload)) + "p")) {
      auto row = *DecodeRow<PartRow>(value, "part");
      Layout({row.part_id, GetBe32(std::string_view(key).substr(key.size() - 4))}, row.layout);
    }
    std::set<std::string> stored;
    for (const auto& [key, value] : ReadSpace(store_, KeySpace::kInline)) stored.insert(key);
    if (stored != inline_keys_) Wrong("inline rows are not those of the versions");
    std::set<OwnerKey> garbage;
    std::set<uint64_t> garbage_lists;
    for (const auto& [key, value] : ReadSpace(store_, KeySpace::kGarbage)) {
      auto g = *DecodeGarbageKey(key);
      if (g.kind == GarbageKind::kExtent)
        garbage.emplace(g.owner.id, g.owner.generation);
      else
        garbage_lists.insert(g.first);
    }
    std::set<std::string> references;
    for (const auto& [key, value] : ReadSpace(store_, KeySpace::kReference)) {
      auto row = *DecodeReferenceKey(key);
      const OwnerKey owner{row.owner.id, row.owner.generation};
      if (owner.second == ListOwner(owner.first).generation || garbage.contains(owner)) continue;
      references.insert(key);
    }
    if (references != held_) Wrong("blob references are not those of the versions and parts");
    for (const auto& [list, users] : lists_) {
      auto rows = ReadAll(store_, ListHeadKey(list));
      auto head = rows.find(ListHeadKey(list));
      if (head == rows.end() || DecodeListHead(head->second)->references != users)
        Wrong("references of a list");
    }
  }

  kv::Store& store_;
  std::vector<std::string> wrong_;
  std::map<std::string, std::string> inodes_, index_;
  std::map<uint64_t, wire::Record> records_;
  std::map<uint64_t, std::set<std::string>> children_, links_;
  std::map<uint64_t, uint64_t> parents_;
  std::set<std::string> inline_keys_, held_;
  std::map<uint64_t, uint64_t> lists_;
};

}  // namespace

std::vector<std::string> CheckTree(kv::Store& store) { return Checker(store).Run(); }

}  // namespace perigee::objectd::test
