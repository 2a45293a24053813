// Fsck of who holds content: reference rows, extent lists, inline bytes.

#include "base/bytes.h"
#include "objectd/meta/fsck_page.h"
#include "objectd/meta/upload_rows.h"

namespace perigee::objectd {

using wire::FsckKind;

namespace {

constexpr size_t kRowsPerPage = 512;
constexpr size_t kInlineRowsPerPage = 64;  // their values are bytes
constexpr size_t kRowsPerScan = 1000;
constexpr size_t kListHeadKeyBytes = 9;

using Owner = std::pair<uint64_t, uint64_t>;

bool Covers(const std::vector<wire::Extent>& extents, uint32_t volume, uint64_t seq) {
  for (const wire::Extent& e : extents)
    if (e.volume == volume && seq >= e.first_seq && seq - e.first_seq < e.count) return true;
  return false;
}

// Whoever may hold a blob, looked up as it is asked for.
class Owners {
 public:
  explicit Owners(FsckPage& page) : page_(page) {}

  Result<bool> Holds(const ReferenceRow& row) {
    if (row.owner.generation == ListOwner(row.owner.id).generation)
      return page_.Has(ListHeadKey(row.owner.id));
    PERIGEE_ASSIGN(bool version, VersionHolds(row));
    if (version) return true;
    PERIGEE_TRY(Load());
    if (released_.contains({row.owner.id, row.owner.generation})) return true;
    auto part = parts_.find({row.owner.id, row.owner.generation});
    return part != parts_.end() && Covers(part->second, row.volume, row.seq);
  }

 private:
  Result<bool> VersionHolds(const ReferenceRow& row) {
    auto node = page_.ById(row.owner.id);
    // What cannot be read may hold it.
    if (node.code() == Code::kCorrupt || node.code() == Code::kUnimplemented) {
      node.status().Ignore();
      return true;
    }
    if (!node.ok()) return std::move(node).TakeStatus();
    if (!*node) return false;
    for (const auto* v : {&(*node)->record.committed, &(*node)->record.previous}) {
      if (*v && (*v)->generation == row.owner.generation &&
          Covers((*v)->layout.extents, row.volume, row.seq))
        return true;
    }
    return false;
  }

  // Content that was let go and not yet collected, and uploaded parts: neither has a row by owner.
  Status Load() {
    if (std::exchange(loaded_, true)) return Status::Ok();
    PERIGEE_TRY(ForEach(kv::PrefixRange(std::string(1, static_cast<char>(kv::KeySpace::kGarbage))),
                        [&](const std::string& key, const std::string&) -> Status {
                          PERIGEE_ASSIGN(GarbageKey garbage, DecodeGarbageKey(key));
                          if (garbage.kind == GarbageKind::kExtent)
                            released_.emplace(garbage.owner.id, garbage.owner.generation);
                          return Status::Ok();
                        }));
    const std::string parts = std::string(1, static_cast<char>(kv::KeySpace::kUpload)) + "p";
    return ForEach(kv::PrefixRange(parts),
                   [&](const std::string& key, const std::string& value) -> Status {
                     PERIGEE_ASSIGN(PartRow row, DecodeRow<PartRow>(value, "a part"));
                     const uint32_t number = GetBe32(std::string_view(key).substr(key.size() - 4));
                     parts_[{row.part_id, number}] = row.layout.extents;
                     return Status::Ok();
                   });
  }

  Status ForEach(kv::Range range,
                 const std::function<Status(const std::string&, const std::string&)>& visit) {
    while (true) {
      PERIGEE_ASSIGN(auto rows, page_.txn().Scan(range, kRowsPerScan, kv::Direction::kForward,
                                                 kv::ReadMode::kSnapshot));
      for (const auto& [key, value] : rows) PERIGEE_TRY(visit(key, value));
      if (rows.size() < kRowsPerScan) return Status::Ok();
      range.begin = rows.back().first + '\0';
    }
  }

  FsckPage& page_;
  bool loaded_ = false;
  std::set<Owner> released_;
  std::map<Owner, std::vector<wire::Extent>> parts_;
};

}  // namespace

Status FsckReferences(FsckPage& page) {
  PERIGEE_ASSIGN(auto rows, page.NextRows(kv::KeySpace::kReference, kRowsPerPage));
  Owners owners(page);
  for (const auto& [key, value] : rows) {
    auto row = DecodeReferenceKey(key);
    if (!row.ok()) {
      page.Unreadable(key, row.status());
      continue;
    }
    page.DependOn(key);
    PERIGEE_ASSIGN(bool held, owners.Holds(*row));
    if (held) continue;
    if (!page.Found(FsckKind::kDanglingReference,
                    "blob " + std::to_string(row->volume) + "/" + std::to_string(row->seq) +
                        ": held for id " + std::to_string(row->owner.id) + ", generation " +
                        std::to_string(row->owner.generation) + ", which is not there",
                    "drops the reference; frees the blob if nothing else holds it"))
      continue;
    page.Delete(key);
    GarbageKey garbage;
    garbage.time = page.now();
    garbage.volume = row->volume;
    garbage.first = row->seq;
    GarbageRow what;
    what.count = 1;
    page.Put(EncodeGarbageKey(garbage), GarbageValue(what));
  }
  return Status::Ok();
}

Status FsckLists(FsckPage& page) {
  PERIGEE_ASSIGN(auto rows, page.NextRows(kv::KeySpace::kExtentList, kRowsPerPage));
  for (const auto& [key, value] : rows) {
    if (key.size() <= kListHeadKeyBytes) continue;  // heads, and the counter
    const uint64_t list = GetBe64(std::string_view(key).substr(1));
    const std::string name = "extent list " + std::to_string(list);
    page.DependOn(key);
    PERIGEE_ASSIGN(auto head_value, page.Get(ListHeadKey(list)));
    auto extent = DecodeListExtent(value);
    if (!extent.ok()) {
      page.Unreadable(key, extent.status());
      continue;
    }
    if (!head_value) {
      if (page.Found(FsckKind::kDanglingReference, name + ": rows without their head",
                     "drops them"))
        page.Delete(key);
      continue;
    }
    PERIGEE_ASSIGN(ListHead head, DecodeListHead(*head_value));
    if (head.dead) continue;  // the collector is taking it apart
    PERIGEE_TRY(page.CheckReferences(ListOwner(list), {*extent}, name));
  }
  return Status::Ok();
}

Status FsckInline(FsckPage& page) {
  PERIGEE_ASSIGN(auto rows, page.NextRows(kv::KeySpace::kInline, kInlineRowsPerPage));
  for (const auto& [key, value] : rows) {
    const wire::FileId id = GetBe64(std::string_view(key).substr(1));
    const uint64_t generation = GetBe64(std::string_view(key).substr(9));
    page.DependOn(key);
    auto node = page.ById(id);
    bool held = !node.ok();  // what cannot be read may hold it
    node.status().Ignore();
    if (node.ok() && *node) {
      for (const auto* v : {&(*node)->record.committed, &(*node)->record.previous})
        held = held || (*v && (*v)->generation == generation &&
                        (*v)->layout.kind == wire::LayoutKind::kInline);
    }
    if (!held && page.Found(FsckKind::kDanglingReference,
                            "inline content of id " + std::to_string(id) + ", generation " +
                                std::to_string(generation) + ", which is not there",
                            "drops it"))
      page.Delete(key);
  }
  return Status::Ok();
}

}  // namespace perigee::objectd
