// Fsck of files with several links, and of the rows that directories have beside their entry.

#include "base/bytes.h"
#include "objectd/meta/fsck_page.h"

namespace perigee::objectd {

using wire::FsckKind;

namespace {

constexpr size_t kRowsPerPage = 256;
constexpr size_t kLinksMax = 100'000;
constexpr size_t kInodeKeyBytes = 9;  // longer ones are links

std::string NameOfInode(wire::FileId id) { return "inode " + std::to_string(id); }

// The entry that a link row stands for is there, and refers to the inode.
Result<bool> LinkHolds(FsckPage& page, const std::string& link_key, wire::FileId id) {
  PERIGEE_ASSIGN(Place place, keys::DecodeLink(link_key));
  PERIGEE_ASSIGN(auto entry, page.Get(keys::Entry(place.dir, place.component)));
  return entry && *entry == EncodeReference(id);
}

Status CheckInode(FsckPage& page, const std::string& key, const std::string& value) {
  const wire::FileId id = GetBe64(std::string_view(key).substr(1));
  auto record = DecodeRow<wire::Record>(value, "an inode");
  if (!record.ok()) {
    page.Unreadable(key, record.status());
    return Status::Ok();
  }
  PERIGEE_ASSIGN(auto links, page.Scan(keys::Links(id), kLinksMax));
  uint32_t good = 0;
  for (const auto& [link, unused] : links) {
    PERIGEE_ASSIGN(bool holds, LinkHolds(page, link, id));
    good += holds;
  }
  if (good == 0) {
    page.Found(FsckKind::kDanglingReference, NameOfInode(id) + ": has no name", "");
  } else if (record->nlink != good &&
             page.Found(FsckKind::kWrongCounter,
                        NameOfInode(id) + ": counts " + std::to_string(record->nlink) +
                            " links, but has " + std::to_string(good),
                        "sets the count")) {
    record->nlink = good;
    page.Put(key, EncodeRow(*record));
  }
  return page.CheckContent(*record, NameOfInode(id));
}

}  // namespace

Status FsckInodes(FsckPage& page) {
  PERIGEE_ASSIGN(auto rows, page.NextRows(kv::KeySpace::kInode, kRowsPerPage));
  for (const auto& [key, value] : rows) {
    page.DependOn(key);
    if (key.size() == kInodeKeyBytes) {
      PERIGEE_TRY(CheckInode(page, key, value));
      continue;
    }
    const wire::FileId id = GetBe64(std::string_view(key).substr(1));
    PERIGEE_ASSIGN(bool holds, LinkHolds(page, key, id));
    PERIGEE_ASSIGN(bool inode, page.Has(keys::Inode(id)));
    if (holds && inode) continue;
    if (page.Found(FsckKind::kBadParent, NameOfInode(id) + ": a link that is no entry's",
                   "drops the link"))
      page.Delete(key);
  }
  return Status::Ok();
}

Status FsckDirectories(FsckPage& page) {
  // Both kinds of rows by one cursor: liveness rows first, they sort behind.
  const bool times = page.reply().cursor.empty() ||
                     page.reply().cursor[0] == static_cast<char>(kv::KeySpace::kChildCount);
  const auto space = times ? kv::KeySpace::kChildCount : kv::KeySpace::kDirectory;
  PERIGEE_ASSIGN(auto rows, page.NextRows(space, kRowsPerPage));
  for (const auto& [key, value] : rows) {
    const wire::FileId dir = GetBe64(std::string_view(key).substr(1));
    if (dir == 0) continue;  // counts
    page.DependOn(key);
    if (times) {
      PERIGEE_ASSIGN(bool live, page.Has(keys::Directory(dir)));
      if (!live &&
          page.Found(FsckKind::kWrongCounter,
                     "times of directory " + std::to_string(dir) + ", which is gone", "drops them"))
        page.Delete(key);
      continue;
    }
    auto node = page.ById(dir);
    if (!node.ok() || *node) {
      node.status().Ignore();  // an unreadable entry is found among the entries
      continue;
    }
    // One that still has entries is found with them, and put back.
    PERIGEE_ASSIGN(auto inside, page.Scan(kv::PrefixRange(keys::EntryPrefix(dir)), 1));
    if (inside.empty() &&
        page.Found(FsckKind::kBadParent,
                   "liveness row of directory " + std::to_string(dir) + ", which is gone",
                   "drops it"))
      page.Delete(key);
  }
  if (times && page.reply().end) {
    page.reply().end = false;
    page.reply().cursor = std::string(1, static_cast<char>(kv::KeySpace::kDirectory));
  }
  return Status::Ok();
}

}  // namespace perigee::objectd
