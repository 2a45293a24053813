// Fsck of entries: each is where the index says, in a directory that is there, and has its content;
// and of the index itself.

#include "base/bytes.h"
#include "objectd/meta/fsck_page.h"

namespace perigee::objectd {

using wire::FsckKind;

namespace {

constexpr size_t kRowsPerPage = 256;
constexpr char kLostAndFound[] = "lost-found-";

class EntryCheck {
 public:
  explicit EntryCheck(FsckPage& page) : page_(page) {}

  Status Check(const std::string& key, const std::string& value) {
    const Place place{GetBe64(std::string_view(key).substr(1)),
                      std::string(keys::EntryComponent(key))};
    page_.DependOn(key);
    const std::string name = page_.Name(place);
    auto found = page_.Resolve(place, value);
    if (!found.ok()) {
      page_.Unreadable(key, found.status());
      return Status::Ok();
    }
    PERIGEE_TRY(CheckParent(place, name));
    if (!*found) {
      if (page_.Found(FsckKind::kBadParent, name + ": refers to an inode that is not there",
                      "removes the name"))
        page_.Delete(key);
      return Status::Ok();
    }
    const Node& node = **found;
    if (node.is_directory() != IsDirectoryComponent(place.component))
      page_.Found(FsckKind::kBadParent, name + ": its name is not that of its kind", "");
    if (node.linked)
      PERIGEE_TRY(CheckLink(node, name));
    else
      PERIGEE_TRY(CheckIndex(node, name));
    if (node.is_directory()) PERIGEE_TRY(CheckLiveness(node, name));
    return node.linked ? Status::Ok() : page_.CheckContent(node.record, name);
  }

 private:
  // What is known of a directory that entries of this page are in.
  struct Directory {
    bool sound = false;  // it has an entry, and the index leads there
    bool live = false;   // its liveness row is there
    wire::FileId bucket = 0;
  };

  Result<Directory> Look(wire::FileId id) {
    auto known = directories_.find(id);
    if (known != directories_.end()) return known->second;
    Directory d;
    PERIGEE_ASSIGN(auto row, page_.Get(keys::Directory(id)));
    d.live = row.has_value();
    if (row) {
      PERIGEE_ASSIGN(d.bucket, DecodeId(*row));
    }
    auto node = page_.ById(id);
    d.sound = node.ok() && *node && (*node)->is_directory();
    node.status().Ignore();  // unreadable rows are found when they are looked at
    directories_[id] = d;
    return d;
  }

  Status CheckParent(const Place& place, const std::string& name) {
    if (place.dir == 0) return Status::Ok();
    PERIGEE_ASSIGN(Directory d, Look(place.dir));
    if (d.sound || !reported_.insert(place.dir).second) return Status::Ok();
    const Place again{wire::kRootId, kLostAndFound + HexEncode64(place.dir) + "/"};
    if (!page_.Found(
            FsckKind::kBadParent,
            name + ": its directory, id " + std::to_string(place.dir) + ", is not in the namespace",
            "puts the directory back as " + again.component))
      return Status::Ok();
    wire::Record record;
    record.id = place.dir;
    record.kind = wire::FileKind::kDirectory;
    record.mode = 0700;
    record.nlink = 2;
    record.atime = record.mtime = record.ctime = record.btime = page_.now();
    record.bucket = wire::BucketSettings{};
    record.bucket->created = page_.now();
    page_.DependOn(keys::Entry(again.dir, again.component));
    page_.Put(keys::Entry(again.dir, again.component), EncodeRow(record));
    page_.Put(keys::Index(place.dir), EncodeIndex(again));
    page_.Put(keys::Directory(place.dir), EncodeId(place.dir));
    page_.txn().AtomicAdd(keys::MoveCount(), 1);  // paths that are cached are wrong
    return Status::Ok();
  }

  Status CheckIndex(const Node& node, const std::string& name) {
    const wire::FileId id = node.record.id;
    PERIGEE_ASSIGN(auto row, page_.Get(keys::Index(id)));
    if (row) {
      auto there = DecodeIndex(*row);
      if (there.ok() && *there == node.place) return Status::Ok();
      there.status().Ignore();  // mended like one that is absent
    }
    auto other = page_.ById(id);
    const bool twice = other.ok() && *other;
    other.status().Ignore();
    if (page_.Found(FsckKind::kBadParent,
                    name + ": id " + std::to_string(id) +
                        (twice ? " is also that of " + page_.Name((*other)->place)
                         : row ? " is said to be elsewhere, where it is not"
                               : " is not in the index"),
                    twice ? "" : "points the index to it")) {
      page_.Put(keys::Index(id), EncodeIndex(node.place));
    }
    return Status::Ok();
  }

  Status CheckLink(const Node& node, const std::string& name) {
    const wire::FileId id = node.record.id;
    PERIGEE_ASSIGN(bool link, page_.Has(keys::Link(id, node.place)));
    if (!link &&
        page_.Found(FsckKind::kBadParent,
                    name + ": is not among the links of id " + std::to_string(id), "adds it"))
      page_.Put(keys::Link(id, node.place), std::string(1, kFormatBody));
    PERIGEE_ASSIGN(auto found, page_.ById(id));
    if (!found &&
        page_.Found(FsckKind::kBadParent,
                    name + ": the index of id " + std::to_string(id) + " is at none of its links",
                    "points the index to it"))
      page_.Put(keys::Index(id), EncodeIndex(node.place));
    return Status::Ok();
  }

  // A directory's bucket is its parent's; a bucket's is itself, the root's 0.
  Status CheckLiveness(const Node& node, const std::string& name) {
    const wire::FileId id = node.record.id;
    wire::FileId bucket = 0;
    if (node.place.dir == wire::kRootId) {
      bucket = id;
    } else if (node.place.dir != 0) {
      PERIGEE_ASSIGN(Directory parent, Look(node.place.dir));
      if (!parent.live) return Status::Ok();  // the parent comes first
      bucket = parent.bucket;
    }
    PERIGEE_ASSIGN(Directory self, Look(id));
    if (self.live && self.bucket == bucket) return Status::Ok();
    if (page_.Found(FsckKind::kBadParent,
                    name + (self.live ? ": is said to be of another bucket"
                                      : ": has no liveness row: nothing can be made in it"),
                    "writes the row anew"))
      page_.Put(keys::Directory(id), EncodeId(bucket));
    return Status::Ok();
  }

  FsckPage& page_;
  std::map<wire::FileId, Directory> directories_;
  std::set<wire::FileId> reported_;
};

}  // namespace

Status FsckEntries(FsckPage& page) {
  PERIGEE_ASSIGN(auto rows, page.NextRows(kv::KeySpace::kEntry, kRowsPerPage));
  EntryCheck check(page);
  for (const auto& [key, value] : rows) PERIGEE_TRY(check.Check(key, value));
  return Status::Ok();
}

Status FsckIndex(FsckPage& page) {
  PERIGEE_ASSIGN(auto rows, page.NextRows(kv::KeySpace::kIndex, kRowsPerPage));
  for (const auto& [key, value] : rows) {
    const wire::FileId id = GetBe64(std::string_view(key).substr(1));
    page.DependOn(key);
    auto place = DecodeIndex(value);
    if (!place.ok()) {
      page.Unreadable(key, place.status());
      continue;
    }
    auto node = page.ById(id);
    if (!node.ok() || *node) {
      node.status().Ignore();  // an unreadable entry is found among the entries
      continue;
    }
    if (page.Found(FsckKind::kBadParent,
                   "id " + std::to_string(id) + ": the index says " + page.Name(*place) +
                       ", which is not it",
                   "drops the index row"))
      page.Delete(key);
  }
  return Status::Ok();
}

}  // namespace perigee::objectd
