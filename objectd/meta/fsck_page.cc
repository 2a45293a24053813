#include "objectd/meta/fsck_page.h"

#include "base/bytes.h"

namespace perigee::objectd {

using wire::FsckKind;

namespace {

// A transaction writes at most 1,000 keys; what is left is found again by the next pass.
constexpr size_t kWritesMax = 900;
constexpr int kNameDepthMax = 64;
constexpr size_t kBlobsPerLook = 512;

}  // namespace

Result<std::vector<kv::KeyValue>> FsckPage::NextRows(kv::KeySpace space, size_t limit) {
  kv::Range range = kv::PrefixRange(std::string(1, static_cast<char>(space)));
  if (!reply_->cursor.empty()) {
    if (reply_->cursor < range.begin || reply_->cursor > range.end)
      return Status(Code::kInvalidArgument, "not a cursor of this check");
    range.begin = reply_->cursor;
  }
  PERIGEE_ASSIGN(auto rows,
                 txn_.Scan(range, limit, kv::Direction::kForward, kv::ReadMode::kSnapshot));
  reply_->end = rows.size() < limit;
  reply_->cursor = rows.empty() ? range.end : rows.back().first + '\0';
  reply_->looked = rows.size();
  return rows;
}

Result<std::optional<std::string>> FsckPage::Get(const std::string& key) {
  return txn_.Get(key, repair_ ? kv::ReadMode::kConflict : kv::ReadMode::kSnapshot);
}

Result<bool> FsckPage::Has(const std::string& key) {
  PERIGEE_ASSIGN(auto value, Get(key));
  return value.has_value();
}

Result<std::vector<kv::KeyValue>> FsckPage::Scan(const kv::Range& range, size_t limit) {
  return txn_.Scan(range, limit, kv::Direction::kForward,
                   repair_ ? kv::ReadMode::kConflict : kv::ReadMode::kSnapshot);
}

bool FsckPage::Found(FsckKind kind, std::string what, std::string remedy) {
  const bool mend = repair_ && !remedy.empty() && written_ < kWritesMax;
  reply_->findings.push_back({kind, std::move(what), std::move(remedy), mend, {}});
  return mend;
}

void FsckPage::Unreadable(std::string_view key, const Status& why) {
  Found(FsckKind::kUnreadableRow, "row " + HexEncode(key) + ": " + why.message(), "");
}

void FsckPage::Put(const std::string& key, std::string_view value) {
  txn_.Put(key, value);
  written_++;
}

void FsckPage::Delete(const std::string& key) {
  txn_.Delete(key);
  written_++;
}

Result<std::optional<Node>> FsckPage::Resolve(Place place, std::string_view value) {
  Node node{.place = std::move(place)};
  std::optional<std::string> inode;
  if (!value.empty() && value[0] == kFormatReference) {
    if (value.size() != 9) return Status(Code::kCorrupt, "malformed reference to an inode");
    PERIGEE_ASSIGN(inode, Get(keys::Inode(GetBe64(value.substr(1)))));
    if (!inode) return std::optional<Node>();
    node.linked = true;
    value = *inode;
  }
  PERIGEE_ASSIGN(node.record, DecodeRow<wire::Record>(value, "a record"));
  return std::optional<Node>(std::move(node));
}

Result<std::optional<Node>> FsckPage::ById(wire::FileId id) {
  PERIGEE_ASSIGN(auto row, Get(keys::Index(id)));
  if (!row) return std::optional<Node>();
  PERIGEE_ASSIGN(Place place, DecodeIndex(*row));
  PERIGEE_ASSIGN(auto entry, Get(keys::Entry(place.dir, place.component)));
  if (!entry) return std::optional<Node>();
  PERIGEE_ASSIGN(auto node, Resolve(std::move(place), *entry));
  if (!node || node->record.id != id) return std::optional<Node>();
  return node;
}

std::string FsckPage::Name(const Place& place) {
  std::string name = place.component;
  wire::FileId dir = place.dir;
  for (int depth = 0; dir != wire::kRootId && dir != 0; ++depth) {
    auto row = txn_.Get(keys::Index(dir), kv::ReadMode::kSnapshot);
    auto up = row.ok() && *row ? DecodeIndex(**row) : Result<Place>(Code::kNotFound, "");
    row.status().Ignore();  // a name for people: what cannot be told is left out
    if (!up.ok() || depth == kNameDepthMax) {
      up.status().Ignore();
      return "(directory " + std::to_string(dir) + ")/" + name;
    }
    name = up->component + name;
    dir = up->dir;
  }
  return name;
}

Status FsckPage::CheckContent(const wire::Record& record, const std::string& name) {
  for (const auto* version : {&record.committed, &record.previous})
    if (*version) PERIGEE_TRY(CheckVersion(record.id, **version, name));
  if (record.writer)
    reply_->bursts.push_back({record.writer->node, record.writer->burst, record.id, {}});
  return Status::Ok();
}

Status FsckPage::CheckVersion(wire::FileId id, const wire::Version& version,
                              const std::string& name) {
  const wire::Layout& layout = version.layout;
  const std::string whose = name + ", generation " + std::to_string(version.generation);
  if (layout.kind == wire::LayoutKind::kInline) {
    PERIGEE_ASSIGN(auto bytes, Get(keys::Inline(id, version.generation)));
    if (!bytes)
      Found(FsckKind::kDanglingReference, whose + ": its inline content is gone", "");
    else if (bytes->size() != version.size)
      Found(FsckKind::kDanglingReference, whose + ": its inline content has another length", "");
  } else if (layout.kind == wire::LayoutKind::kBurst) {
    reply_->bursts.push_back({layout.node, layout.burst, id, {}});
  } else if (layout.kind == wire::LayoutKind::kBlobs && layout.list_id == 0) {
    return CheckReferences({id, version.generation}, layout.extents, whose);
  } else if (layout.kind == wire::LayoutKind::kBlobs) {
    PERIGEE_ASSIGN(bool head, Has(ListHeadKey(layout.list_id)));
    if (!head) Found(FsckKind::kDanglingReference, whose + ": its extent list is gone", "");
  }
  return Status::Ok();
}

Status FsckPage::CheckReferences(const ContentOwner& owner,
                                 const std::vector<wire::Extent>& extents,
                                 const std::string& whose) {
  std::vector<std::string> missing, look;
  auto read = [&]() -> Status {
    PERIGEE_ASSIGN(auto rows,
                   txn_.GetMany(look, repair_ ? kv::ReadMode::kConflict : kv::ReadMode::kSnapshot));
    for (size_t i = 0; i < rows.size(); ++i)
      if (!rows[i]) missing.push_back(look[i]);
    look.clear();
    return Status::Ok();
  };
  for (const wire::Extent& e : extents) {
    for (uint64_t i = 0; i < e.count; ++i) {
      look.push_back(ReferenceKey(e.volume, e.first_seq + i, owner));
      if (look.size() == kBlobsPerLook) PERIGEE_TRY(read());
    }
  }
  if (!look.empty()) PERIGEE_TRY(read());
  if (missing.empty()) return Status::Ok();
  if (!Found(FsckKind::kDanglingReference,
             whose + ": " + std::to_string(missing.size()) + " of its blobs have no reference",
             "refers to them again"))
    return Status::Ok();
  for (const std::string& key : missing)
    if (written_ < kWritesMax) Put(key, "");
  return Status::Ok();
}

}  // namespace perigee::objectd
