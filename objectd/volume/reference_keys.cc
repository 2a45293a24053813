#include "objectd/volume/reference_keys.h"

#include "base/bytes.h"
#include "objectd/kv/key_space.h"

namespace perigee::objectd {
namespace {

using kv::KeySpace;

constexpr size_t kIntentKeyBytes = 1 + 8;
constexpr size_t kReferenceKeyBytes = 1 + 4 + 8 + 16;
constexpr size_t kListExtentKeyBytes = 1 + 8 + 8;
constexpr size_t kGarbageKeyBytes = 1 + 8 + 1 + 4 + 8 + 16;

std::string Prefix(KeySpace space) { return std::string(1, static_cast<char>(space)); }

void AppendOwner(std::string* key, const ContentOwner& owner) {
  AppendBe64(key, owner.id);
  AppendBe64(key, owner.generation);
}

Status Malformed(std::string_view what, std::string_view key) {
  return Status(Code::kCorrupt, "malformed " + std::string(what) + " key " + HexEncode(key));
}

bool HasShape(std::string_view key, KeySpace space, size_t bytes) {
  return key.size() == bytes && key[0] == static_cast<char>(space);
}

// Times before 1970 sort as 1970: keys hold unsigned numbers.
uint64_t KeyTime(int64_t time) { return time < 0 ? 0 : static_cast<uint64_t>(time); }

}  // namespace

std::string IntentKey(uint64_t intent) {
  std::string key = Prefix(KeySpace::kIntent);
  AppendBe64(&key, intent);
  return key;
}

Result<uint64_t> DecodeIntentKey(std::string_view key) {
  if (!HasShape(key, KeySpace::kIntent, kIntentKeyBytes)) return Malformed("intent", key);
  return GetBe64(key.substr(1));
}

std::string IntentValue(const IntentRow& row) { return wire::Encode(row); }
Result<IntentRow> DecodeIntentValue(std::string_view value) {
  return wire::Decode<IntentRow>(value);
}

void EndIntent(kv::Transaction& txn, const std::string& key, const IntentRow& row,
               int64_t wall_now) {
  txn.Delete(key);
  GarbageKey garbage;
  garbage.time = wall_now;
  garbage.volume = row.volume;
  garbage.first = row.first_seq;
  GarbageRow what;
  what.count = row.count;
  txn.Put(EncodeGarbageKey(garbage), GarbageValue(what));
}

kv::Range IntentRange() {
  kv::Range range = kv::PrefixRange(Prefix(KeySpace::kIntent));
  range.begin = IntentKey(0);
  return range;
}

std::string ReferenceKey(uint32_t volume, uint64_t seq, const ContentOwner& owner) {
  std::string key = Prefix(KeySpace::kReference);
  AppendBe32(&key, volume);
  AppendBe64(&key, seq);
  AppendOwner(&key, owner);
  return key;
}

Result<ReferenceRow> DecodeReferenceKey(std::string_view key) {
  if (!HasShape(key, KeySpace::kReference, kReferenceKeyBytes)) return Malformed("reference", key);
  ReferenceRow row;
  row.volume = GetBe32(key.substr(1));
  row.seq = GetBe64(key.substr(5));
  row.owner.id = GetBe64(key.substr(13));
  row.owner.generation = GetBe64(key.substr(21));
  return row;
}

kv::Range BlobReferences(uint32_t volume, uint64_t seq) {
  std::string prefix = Prefix(KeySpace::kReference);
  AppendBe32(&prefix, volume);
  AppendBe64(&prefix, seq);
  return kv::PrefixRange(prefix);
}

kv::Range VolumeReferences(uint32_t volume, uint64_t first_seq) {
  std::string prefix = Prefix(KeySpace::kReference);
  AppendBe32(&prefix, volume);
  kv::Range range = kv::PrefixRange(prefix);
  AppendBe64(&range.begin, first_seq);
  return range;
}

std::string ListHeadKey(uint64_t list_id) {
  std::string key = Prefix(KeySpace::kExtentList);
  AppendBe64(&key, list_id);
  return key;
}

std::string ListHeadValue(const ListHead& head) { return wire::Encode(head); }
Result<ListHead> DecodeListHead(std::string_view value) { return wire::Decode<ListHead>(value); }

std::string ListExtentKey(uint64_t list_id, uint64_t offset) {
  std::string key = ListHeadKey(list_id);
  AppendBe64(&key, offset);
  return key;
}

Result<uint64_t> DecodeListExtentKey(std::string_view key) {
  if (!HasShape(key, KeySpace::kExtentList, kListExtentKeyBytes))
    return Malformed("extent list", key);
  return GetBe64(key.substr(9));
}

kv::Range ListExtents(uint64_t list_id, uint64_t from_offset) {
  kv::Range range = kv::PrefixRange(ListHeadKey(list_id));
  range.begin = ListExtentKey(list_id, from_offset);
  return range;
}

std::string ListExtentValue(const wire::Extent& extent) { return wire::Encode(extent); }
Result<wire::Extent> DecodeListExtent(std::string_view value) {
  return wire::Decode<wire::Extent>(value);
}

std::string EncodeGarbageKey(const GarbageKey& garbage) {
  std::string key = Prefix(KeySpace::kGarbage);
  AppendBe64(&key, KeyTime(garbage.time));
  key.push_back(static_cast<char>(garbage.kind));
  AppendBe32(&key, garbage.volume);
  AppendBe64(&key, garbage.first);
  AppendOwner(&key, garbage.owner);
  return key;
}

Result<GarbageKey> DecodeGarbageKey(std::string_view key) {
  if (!HasShape(key, KeySpace::kGarbage, kGarbageKeyBytes)) return Malformed("garbage", key);
  GarbageKey garbage;
  garbage.time = static_cast<int64_t>(GetBe64(key.substr(1)));
  garbage.kind = static_cast<GarbageKind>(key[9]);
  if (garbage.kind != GarbageKind::kExtent && garbage.kind != GarbageKind::kList)
    return Malformed("garbage", key);
  garbage.volume = GetBe32(key.substr(10));
  garbage.first = GetBe64(key.substr(14));
  garbage.owner.id = GetBe64(key.substr(22));
  garbage.owner.generation = GetBe64(key.substr(30));
  return garbage;
}

std::string GarbageValue(const GarbageRow& row) { return wire::Encode(row); }
Result<GarbageRow> DecodeGarbageValue(std::string_view value) {
  return wire::Decode<GarbageRow>(value);
}

kv::Range GarbageUntil(int64_t time) {
  kv::Range range = kv::PrefixRange(Prefix(KeySpace::kGarbage));
  range.end = Prefix(KeySpace::kGarbage);
  AppendBe64(&range.end, KeyTime(time) + 1);
  return range;
}

std::string IntentCounterKey() { return Prefix(KeySpace::kIntent); }
std::string ListCounterKey() { return Prefix(KeySpace::kExtentList); }

std::string SequenceCounterKey(uint32_t volume) {
  std::string key = Prefix(KeySpace::kVolume);
  AppendBe32(&key, volume);
  key.push_back('s');
  return key;
}

}  // namespace perigee::objectd
