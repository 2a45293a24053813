#include "objectd/meta/keys.h"

#include "base/bytes.h"
#include "objectd/kv/key_space.h"

namespace perigee::objectd {
namespace keys {
namespace {

using kv::KeySpace;

constexpr uint8_t kMoveShard = 255;

std::string Start(KeySpace space) { return std::string(1, static_cast<char>(space)); }

std::string Start(KeySpace space, uint64_t id) {
  std::string key;
  key.reserve(40);
  key.push_back(static_cast<char>(space));
  AppendBe64(&key, id);
  return key;
}

std::string StartUpload(char kind, uint64_t id) {
  std::string key = Start(KeySpace::kUpload);
  key.push_back(kind);
  AppendBe64(&key, id);
  return key;
}

}  // namespace

std::string Entry(wire::FileId dir, std::string_view component) {
  std::string key = Start(KeySpace::kEntry, dir);
  key.append(component);
  return key;
}
std::string EntryPrefix(wire::FileId dir) { return Start(KeySpace::kEntry, dir); }
std::string Inode(wire::FileId id) { return Start(KeySpace::kInode, id); }

std::string Link(wire::FileId id, const Place& place) {
  std::string key = Start(KeySpace::kInode, id);
  AppendBe64(&key, place.dir);
  key.append(place.component);
  return key;
}
kv::Range Links(wire::FileId id) {
  kv::Range range = kv::PrefixRange(Inode(id));
  range.begin.push_back('\0');  // behind the record's own key
  return range;
}

std::string Index(wire::FileId id) { return Start(KeySpace::kIndex, id); }
std::string Directory(wire::FileId dir) { return Start(KeySpace::kDirectory, dir); }

std::string DirectoryTime(wire::FileId dir, uint8_t shard) {
  std::string key = Start(KeySpace::kChildCount, dir);
  key.push_back(static_cast<char>(shard));
  return key;
}
std::string FileCount(uint8_t shard) { return DirectoryTime(0, shard); }
std::string MoveCount() { return DirectoryTime(0, kMoveShard); }

std::string Inline(wire::FileId id, uint64_t generation) {
  std::string key = Start(KeySpace::kInline, id);
  AppendBe64(&key, generation);
  return key;
}

std::string Upload(wire::FileId bucket, std::string_view key, uint64_t upload) {
  std::string row = UploadPrefix(bucket, key);
  row.push_back('\0');
  AppendBe64(&row, upload);
  return row;
}
std::string UploadPrefix(wire::FileId bucket, std::string_view key_prefix) {
  std::string row = StartUpload('u', bucket);
  row.append(key_prefix);
  return row;
}
std::string Part(uint64_t upload, uint32_t number) {
  std::string key = StartUpload('p', upload);
  AppendBe32(&key, number);
  return key;
}
std::string PartPrefix(uint64_t upload) { return StartUpload('p', upload); }
std::string Completed(uint64_t upload) { return StartUpload('r', upload); }

std::string EncodeChore(const ChoreKey& chore) {
  std::string key = StartUpload('c', static_cast<uint64_t>(chore.due));
  key.push_back(static_cast<char>(chore.kind));
  AppendBe64(&key, chore.id);
  return key;
}
std::string ChorePrefix() { return Start(KeySpace::kUpload) + 'c'; }
std::string Node(wire::NodeId node) { return Start(KeySpace::kNode, node); }
std::string Hold(wire::FileId dir) { return Start(KeySpace::kHold, dir); }
std::string Told(wire::NodeId node) { return Start(KeySpace::kTold, node); }
std::string HoldPrefix() { return Start(KeySpace::kHold); }
std::string FileIdCounter() { return Start(KeySpace::kStore) + "ids.file"; }

std::string_view EntryComponent(std::string_view key) { return key.substr(9); }

Result<Place> DecodeLink(std::string_view key) {
  if (key.size() < 17) return Status(Code::kCorrupt, "malformed link key " + HexEncode(key));
  return Place{GetBe64(key.substr(9)), std::string(key.substr(17))};
}

Result<ChoreKey> DecodeChore(std::string_view key) {
  if (key.size() != 19) return Status(Code::kCorrupt, "malformed chore key " + HexEncode(key));
  return ChoreKey{static_cast<int64_t>(GetBe64(key.substr(2))), static_cast<Chore>(key[10]),
                  GetBe64(key.substr(11))};
}

Result<wire::FileId> DecodeHold(std::string_view key) {
  if (key.size() != 9) return Status(Code::kCorrupt, "malformed hold key " + HexEncode(key));
  return GetBe64(key.substr(1));
}

std::string Successor(std::string_view prefix) {
  std::string s(prefix);
  while (!s.empty() && static_cast<uint8_t>(s.back()) == 0xff) s.pop_back();
  if (!s.empty()) s.back() = static_cast<char>(static_cast<uint8_t>(s.back()) + 1);
  return s;
}

}  // namespace keys

Result<std::string_view> Body(std::string_view value, std::string_view what) {
  if (value.empty()) return Status(Code::kCorrupt, "empty value of " + std::string(what));
  if (value[0] != kFormatBody) {
    return Status(Code::kUnimplemented, std::string(what) + " is of format " +
                                            std::to_string(static_cast<uint8_t>(value[0])) +
                                            ", written by a newer version of Perigee");
  }
  return value.substr(1);
}

std::string EncodeIndex(const Place& place) {
  std::string value(1, kFormatBody);
  AppendBe64(&value, place.dir);
  value.append(place.component);
  return value;
}

Result<Place> DecodeIndex(std::string_view value) {
  PERIGEE_ASSIGN(std::string_view body, Body(value, "an index row"));
  if (body.size() < 8) return Status(Code::kCorrupt, "malformed index row " + HexEncode(value));
  return Place{GetBe64(body), std::string(body.substr(8))};
}

std::string EncodeId(uint64_t id) {
  std::string value(1, kFormatBody);
  AppendBe64(&value, id);
  return value;
}

Result<uint64_t> DecodeId(std::string_view value) {
  PERIGEE_ASSIGN(std::string_view body, Body(value, "an id row"));
  if (body.size() != 8) return Status(Code::kCorrupt, "malformed id row " + HexEncode(value));
  return GetBe64(body);
}

std::string EncodeReference(wire::FileId id) {
  std::string value = EncodeId(id);
  value[0] = kFormatReference;
  return value;
}

}  // namespace perigee::objectd
