#include <algorithm>
#include <cstring>

#include "base/bytes.h"
#include "objectd/meta/tree.h"

namespace perigee::objectd {

namespace {

uint64_t CounterValue(const std::optional<std::string>& value) {
  return value && value->size() == 8 ? GetLe<uint64_t>(AsBytes(*value).data()) : 0;
}

// No tree is deeper; a longer way up is a cycle that corruption made.
constexpr int kDepthMax = 1 << 16;

}  // namespace

Result<std::optional<std::string>> Tree::Referred(std::string_view value, kv::ReadMode mode) {
  if (value.empty() || value[0] != kFormatReference) return std::optional<std::string>();
  if (value.size() != 9) return Status(Code::kCorrupt, "malformed reference to an inode");
  uint64_t id = GetBe64(value.substr(1));
  PERIGEE_ASSIGN(auto row, txn_.Get(keys::Inode(id), mode));
  if (!row)
    return Status(Code::kCorrupt,
                  "no inode " + std::to_string(id) + " behind an entry that refers to it");
  return row;
}

Result<Node> Tree::Resolve(Place place, std::string_view value, kv::ReadMode mode) {
  Node node{.place = std::move(place)};
  PERIGEE_ASSIGN(auto row, Referred(value, mode));
  node.linked = row.has_value();
  PERIGEE_ASSIGN(node.record, DecodeRow<wire::Record>(row ? std::string_view(*row) : value,
                                                      row ? "an inode" : "an entry"));
  return node;
}

Result<RecordSummary> Tree::Summarize(std::string_view value) {
  PERIGEE_ASSIGN(auto row, Referred(value, kv::ReadMode::kSnapshot));
  return DecodeRow<RecordSummary>(row ? std::string_view(*row) : value,
                                  row ? "an inode" : "an entry");
}

Status Tree::Block(wire::FileId dir, bool keep) {
  blocked_ = Blocked{dir, keep};
  return Status(Code::kBusy, "the node that holds the directory is asked first");
}

Status Tree::MayRead(wire::FileId dir) {
  const wire::NodeId holder = asker_.holds ? asker_.holds->HolderOf(dir) : 0;
  if (holder != 0 && holder != asker_.node && !asker_.told.contains(dir)) return Block(dir, true);
  if (holder == 0 && asker_.holds && asker_.holds->ended() != asker_.ended) return Block(0, true);
  return Status::Ok();
}

Status Tree::MayInsert(wire::FileId dir) {
  const wire::NodeId holder = asker_.holds ? asker_.holds->HolderOf(dir) : 0;
  return holder == 0 || holder == asker_.node ? Status::Ok() : Block(dir, false);
}

// What is here and has no writer is as it is here, whoever holds the directory. Directories are
// made by objectd alone.
Result<std::optional<Node>> Tree::Find(wire::FileId dir, std::string_view component,
                                       kv::ReadMode mode) {
  PERIGEE_ASSIGN(auto node, FindStored(dir, component, mode));
  if (IsDirectoryComponent(component) || (node && !node->record.writer)) return node;
  PERIGEE_TRY(MayRead(dir));
  return node;
}

Result<std::optional<Node>> Tree::FindStored(wire::FileId dir, std::string_view component,
                                             kv::ReadMode mode) {
  std::string key = keys::Entry(dir, component);
  if (key.size() > kv::kKeyBytesMax) return std::optional<Node>();
  PERIGEE_ASSIGN(auto value, txn_.Get(key, mode));
  if (!value) return std::optional<Node>();
  PERIGEE_ASSIGN(Node node, Resolve({dir, std::string(component)}, *value, mode));
  return std::optional<Node>(std::move(node));
}

Result<std::optional<Node>> Tree::FindName(wire::FileId dir, const std::string& name,
                                           kv::ReadMode mode) {
  std::vector<std::string> both = {keys::Entry(dir, name + "/"), keys::Entry(dir, name)};
  PERIGEE_ASSIGN(auto values, txn_.GetMany(both, mode));
  for (size_t i = 0; i < 2; ++i) {
    if (!values[i]) continue;
    PERIGEE_ASSIGN(Node node, Resolve({dir, i == 0 ? name + "/" : name}, *values[i], mode));
    if (node.record.writer) PERIGEE_TRY(MayRead(dir));
    return std::optional<Node>(std::move(node));
  }
  PERIGEE_TRY(MayRead(dir));
  return std::optional<Node>();
}

Result<Node> Tree::ById(wire::FileId id, kv::ReadMode mode) {
  PERIGEE_ASSIGN(auto row, txn_.Get(keys::Index(id), mode));
  if (!row) return Status(Code::kStale, "no file of id " + std::to_string(id));
  PERIGEE_ASSIGN(Place place, DecodeIndex(*row));
  PERIGEE_ASSIGN(auto node, FindStored(place.dir, place.component, mode));
  if (!node || node->record.id != id) {
    return Status(Code::kCorrupt, "the index of id " + std::to_string(id) + " names another entry");
  }
  return std::move(*node);
}

Result<wire::FileId> Tree::LiveDirectory(wire::FileId dir, kv::ReadMode mode) {
  PERIGEE_ASSIGN(auto row, txn_.Get(keys::Directory(dir), mode));
  if (row) return DecodeId(*row);
  PERIGEE_ASSIGN(auto index, txn_.Get(keys::Index(dir), mode));
  if (index)
    return Status(Code::kNotDirectory, "id " + std::to_string(dir) + " is not a directory");
  return Status(Code::kStale, "no directory of id " + std::to_string(dir));
}

Result<std::vector<kv::KeyValue>> Tree::ListRows(wire::FileId dir, std::string_view from,
                                                 std::string_view end, size_t limit) {
  PERIGEE_TRY(MayRead(dir));
  kv::Range range = kv::PrefixRange(keys::EntryPrefix(dir));
  range.begin.append(from);
  if (!end.empty()) range.end = keys::Entry(dir, end);
  if (range.begin.size() > kv::kKeyBytesMax || (!range.end.empty() && range.begin >= range.end))
    return std::vector<kv::KeyValue>();
  return txn_.Scan(range, limit, kv::Direction::kForward, kv::ReadMode::kSnapshot);
}

Result<std::vector<Node>> Tree::List(wire::FileId dir, std::string_view from, std::string_view end,
                                     size_t limit) {
  PERIGEE_ASSIGN(auto rows, ListRows(dir, from, end, limit));
  std::vector<Node> nodes;
  nodes.reserve(rows.size());
  for (const auto& [key, value] : rows) {
    PERIGEE_ASSIGN(Node node, Resolve({dir, std::string(keys::EntryComponent(key))}, value,
                                      kv::ReadMode::kSnapshot));
    nodes.push_back(std::move(node));
  }
  return nodes;
}

// Whoever asks: it is to go, most often.
Result<bool> Tree::IsEmpty(wire::FileId dir, std::string_view near) {
  if (asker_.holds && asker_.holds->HolderOf(dir) != 0) return Block(dir, false);
  kv::Range all = kv::PrefixRange(keys::EntryPrefix(dir));
  std::string middle = keys::Entry(dir, near);
  PERIGEE_ASSIGN(auto next,
                 txn_.Scan({middle, all.end}, 1, kv::Direction::kForward, kv::ReadMode::kConflict));
  if (!next.empty()) return false;
  if (near.empty()) return true;
  PERIGEE_ASSIGN(auto previous, txn_.Scan({all.begin, middle}, 1, kv::Direction::kBackward,
                                          kv::ReadMode::kConflict));
  return previous.empty();
}

Status Tree::MergeTimes(wire::Record* directory) {
  return MergeTimes(std::vector<wire::Record*>{directory});
}

Status Tree::MergeTimes(std::vector<wire::Record*> directories) {
  std::vector<std::string> rows;
  rows.reserve(directories.size() * kTimeShards);
  for (const auto* d : directories) {
    for (uint8_t shard = 0; shard < kTimeShards; ++shard)
      rows.push_back(keys::DirectoryTime(d->id, shard));
  }
  PERIGEE_ASSIGN(auto values, txn_.GetMany(rows, kv::ReadMode::kSnapshot));
  for (size_t i = 0; i < values.size(); ++i) {
    auto* d = directories[i / kTimeShards];
    auto time = static_cast<int64_t>(CounterValue(values[i]));
    d->mtime = std::max(d->mtime, time);
    d->ctime = std::max(d->ctime, time);
  }
  return Status::Ok();
}

Result<uint64_t> Tree::Moves() {
  if (!moves_) {
    PERIGEE_ASSIGN(auto value, txn_.Get(keys::MoveCount(), kv::ReadMode::kSnapshot));
    moves_ = CounterValue(value);
  }
  return *moves_;
}

Result<std::string> Tree::PathOf(wire::FileId dir) {
  if (dir == wire::kRootId) return std::string();
  PERIGEE_ASSIGN(uint64_t moves, Moves());
  std::vector<std::pair<wire::FileId, std::string>>
      below;  // ids with their components, the deepest first
  std::string path;
  for (wire::FileId at = dir; at != wire::kRootId;) {
    if (!reshaped_) {
      if (auto known = paths_.Find(moves, at)) {
        path = std::move(*known);
        break;
      }
    }
    if (below.size() > kDepthMax)
      return Status(Code::kCorrupt,
                    "directories above id " + std::to_string(dir) + " form a cycle");
    PERIGEE_ASSIGN(auto row, txn_.Get(keys::Index(at), kv::ReadMode::kSnapshot));
    if (!row) return Status(Code::kStale, "no directory of id " + std::to_string(at));
    PERIGEE_ASSIGN(Place place, DecodeIndex(*row));
    below.emplace_back(at, std::move(place.component));
    at = place.dir;
  }
  while (!below.empty()) {
    path += below.back().second;
    if (!reshaped_) paths_.Insert(moves, below.back().first, path);
    below.pop_back();
  }
  return path;
}

Status Tree::CheckNoCycle(wire::FileId dir, wire::FileId moving) {
  for (int depth = 0; dir != wire::kRootId; ++depth) {
    if (dir == moving)
      return Status(Code::kInvalidArgument, "a directory cannot be moved into itself");
    if (depth > kDepthMax) return Status(Code::kCorrupt, "directories form a cycle");
    PERIGEE_ASSIGN(auto row, txn_.Get(keys::Index(dir), kv::ReadMode::kConflict));
    if (!row) return Status(Code::kStale, "no directory of id " + std::to_string(dir));
    PERIGEE_ASSIGN(Place place, DecodeIndex(*row));
    dir = place.dir;
  }
  return Status::Ok();
}

}  // namespace perigee::objectd
