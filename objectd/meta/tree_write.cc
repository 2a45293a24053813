#include "base/checksum.h"
#include "objectd/meta/names.h"
#include "objectd/meta/tree.h"

namespace perigee::objectd {

namespace {
// A longer path is left out of its event; consumers then go by id.
constexpr size_t kEventPathMax = 16 << 10;
}  // namespace

std::string EncodeChange(const wire::Change& change) { return EncodeRow(change); }
Result<wire::Change> DecodeChange(std::string_view event) {
  return DecodeRow<wire::Change>(event, "a change");
}

Status Tree::Emit(wire::ChangeKind kind, const Place& place, const wire::Record& record) {
  wire::Change change{.kind = kind, .parent = place.dir, .name = place.component, .id = record.id};
  if (record.committed) change.generation = record.committed->generation;
  PERIGEE_ASSIGN(std::string path, PathOf(place.dir));
  path += place.component;
  if (path.size() <= kEventPathMax) change.path = std::move(path);
  txn_.Emit(EncodeChange(change));
  return Status::Ok();
}

Status Tree::Store(const Node& node) {
  std::string value = EncodeRow(node.record);
  if (value.size() > kv::kValueBytesMax)
    return Status(Code::kTooLarge, "the attributes of a file are too large together");
  txn_.Put(
      node.linked ? keys::Inode(node.record.id) : keys::Entry(node.place.dir, node.place.component),
      value);
  return Status::Ok();
}

Status Tree::Update(const Node& node, Delegated delegated) {
  if (delegated == Delegated::kRecall) changed_.push_back(node.record.id);
  PERIGEE_TRY(Store(node));
  return Emit(wire::ChangeKind::kPut, node.place, node.record);
}

void Tree::Touch(wire::FileId dir, std::string_view component) {
  auto shard = static_cast<uint8_t>(Crc32c(AsBytes(component)) % kTimeShards);
  txn_.AtomicMax(keys::DirectoryTime(dir, shard), static_cast<uint64_t>(now_));
}

void Tree::Count(wire::FileId id, int64_t by) {
  txn_.AtomicAdd(keys::FileCount(static_cast<uint8_t>(id % kCountShards)), by);
}

// On the mount a directory hides a file of the same name.
Status Tree::Hide(const Place& directory) {
  PERIGEE_ASSIGN(auto hidden,
                 FindStored(directory.dir, NameOf(directory.component), kv::ReadMode::kSnapshot));
  if (hidden) changed_.push_back(hidden->record.id);
  return Status::Ok();
}

Status Tree::Insert(const Place& place, const wire::Record& record, wire::FileId bucket) {
  PERIGEE_TRY(MayInsert(place.dir));
  txn_.ConflictOn(keys::Directory(place.dir));
  txn_.ConflictOn(keys::Entry(place.dir, place.component));
  Node node{.place = place, .record = record};
  PERIGEE_TRY(Store(node));
  txn_.Put(keys::Index(record.id), EncodeIndex(place));
  if (node.is_directory()) {
    reshaped_ = true;
    txn_.Put(keys::Directory(record.id), EncodeId(bucket));
    PERIGEE_TRY(Hide(place));
  } else {
    Count(record.id, 1);
  }
  Touch(place.dir, place.component);
  return Emit(wire::ChangeKind::kPut, place, record);
}

Status Tree::AddLink(Node* node, const Place& place) {
  PERIGEE_TRY(MayInsert(place.dir));
  txn_.ConflictOn(keys::Directory(place.dir));
  txn_.ConflictOn(keys::Entry(place.dir, place.component));
  const wire::FileId id = node->record.id;
  changed_.push_back(id);
  std::string reference = EncodeReference(id);
  std::string link(1, kFormatBody);
  if (!node->linked) {
    txn_.Put(keys::Entry(node->place.dir, node->place.component), reference);
    txn_.Put(keys::Link(id, node->place), link);
    node->linked = true;
  }
  ++node->record.nlink;
  node->record.ctime = now_;
  PERIGEE_TRY(Store(*node));
  txn_.Put(keys::Entry(place.dir, place.component), reference);
  txn_.Put(keys::Link(id, place), link);
  Touch(place.dir, place.component);
  return Emit(wire::ChangeKind::kPut, place, node->record);
}

Status Tree::Remove(const Node& node) {
  const wire::FileId id = node.record.id;
  changed_.push_back(id);
  PERIGEE_TRY(Emit(wire::ChangeKind::kRemoved, node.place, node.record));
  txn_.Delete(keys::Entry(node.place.dir, node.place.component));
  Touch(node.place.dir, node.place.component);
  if (node.linked) {
    txn_.Delete(keys::Link(id, node.place));
    if (node.record.nlink > 1) {
      Node left = node;
      --left.record.nlink;
      left.record.ctime = now_;
      PERIGEE_TRY(Store(left));
      PERIGEE_ASSIGN(auto row, txn_.Get(keys::Index(id), kv::ReadMode::kConflict));
      if (!row) return Status(Code::kCorrupt, "no index of linked file " + std::to_string(id));
      PERIGEE_ASSIGN(Place first, DecodeIndex(*row));
      if (first != node.place) return Status::Ok();
      PERIGEE_ASSIGN(auto links, txn_.Scan(keys::Links(id), 1, kv::Direction::kForward,
                                           kv::ReadMode::kConflict));
      if (links.empty())
        return Status(Code::kCorrupt, "no links of linked file " + std::to_string(id));
      PERIGEE_ASSIGN(Place other, keys::DecodeLink(links[0].first));
      txn_.Put(keys::Index(id), EncodeIndex(other));
      return Status::Ok();
    }
    txn_.Delete(keys::Inode(id));
  }
  txn_.Delete(keys::Index(id));
  if (node.is_directory()) {
    reshaped_ = true;
    txn_.Delete(keys::Directory(id));
    for (uint8_t shard = 0; shard < kTimeShards; ++shard)
      txn_.Delete(keys::DirectoryTime(id, shard));
    return Status::Ok();
  }
  Count(id, -1);
  return ReleaseAll(node.record);
}

Status Tree::TakeOff(const Node& node) {
  changed_.push_back(node.record.id);
  PERIGEE_TRY(Emit(wire::ChangeKind::kRemoved, node.place, node.record));
  txn_.Delete(keys::Entry(node.place.dir, node.place.component));
  if (node.linked) txn_.Delete(keys::Link(node.record.id, node.place));
  Touch(node.place.dir, node.place.component);
  if (node.is_directory()) {
    reshaped_ = true;
    txn_.AtomicAdd(keys::MoveCount(), 1);
  }
  return Status::Ok();
}

Status Tree::PutAt(Node* node, const Place& place) {
  PERIGEE_TRY(MayInsert(place.dir));
  txn_.ConflictOn(keys::Directory(place.dir));
  txn_.ConflictOn(keys::Entry(place.dir, place.component));
  const wire::FileId id = node->record.id;
  bool index_follows = true;
  if (node->linked) {
    txn_.Put(keys::Entry(place.dir, place.component), EncodeReference(id));
    txn_.Put(keys::Link(id, place), std::string(1, kFormatBody));
    PERIGEE_ASSIGN(auto row, txn_.Get(keys::Index(id), kv::ReadMode::kConflict));
    if (!row) return Status(Code::kCorrupt, "no index of linked file " + std::to_string(id));
    PERIGEE_ASSIGN(Place first, DecodeIndex(*row));
    index_follows = first == node->place;
  }
  if (index_follows) txn_.Put(keys::Index(id), EncodeIndex(place));
  node->place = place;
  node->record.ctime = now_;
  if (node->is_directory()) PERIGEE_TRY(Hide(place));
  PERIGEE_TRY(Store(*node));
  Touch(place.dir, place.component);
  return Emit(wire::ChangeKind::kPut, place, node->record);
}

Status Tree::Settle(wire::FileId dir, std::string_view gone_component, Door door) {
  std::string gone(gone_component);
  while (dir != wire::kRootId) {
    PERIGEE_ASSIGN(Node node, ById(dir, kv::ReadMode::kConflict));
    if (!node.record.implicit) return Status::Ok();
    PERIGEE_ASSIGN(bool empty, IsEmpty(dir, gone));
    if (!empty) return Status::Ok();
    if (door == Door::kMount) {
      node.record.implicit = false;
      return Update(node);
    }
    PERIGEE_TRY(Remove(node));
    dir = node.place.dir;
    gone = node.place.component;
  }
  return Status::Ok();
}

}  // namespace perigee::objectd
