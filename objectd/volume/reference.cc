// Rules and row formats: reference_keys.h.

#include "objectd/volume/reference.h"

#include <algorithm>
#include <map>
#include <utility>

#include "objectd/volume/reference_keys.h"

namespace perigee::objectd {
namespace {

constexpr uint64_t kSequenceMax = uint64_t{1} << 62;
constexpr size_t kExtentsPerCommit = 256;

Status CheckExtent(const wire::Extent& e) {
  if (e.count == 0) return Status(Code::kInvalidArgument, "an extent names no blobs");
  if (e.first_seq > kSequenceMax)
    return Status(Code::kInvalidArgument, "an extent names impossible blobs");
  return Status::Ok();
}

Status CheckExtents(const std::vector<wire::Extent>& extents) {
  uint64_t blobs = 0;
  for (const auto& e : extents) {
    PERIGEE_TRY(CheckExtent(e));
    blobs += e.count;
  }
  if (blobs > kBlobsPerCommitMax) {
    return Status(Code::kTooLarge, std::to_string(blobs) + " blobs in one commit; at most " +
                                       std::to_string(kBlobsPerCommitMax) + " are possible");
  }
  return Status::Ok();
}

Status UseIntents(kv::Transaction& txn, const std::vector<uint64_t>& intents) {
  std::vector<std::string> keys;
  keys.reserve(intents.size());
  for (uint64_t intent : intents) keys.push_back(IntentKey(intent));
  if (keys.empty()) return Status::Ok();
  PERIGEE_ASSIGN(auto rows, txn.GetMany(keys, kv::ReadMode::kConflict));
  for (size_t i = 0; i < rows.size(); ++i) {
    if (!rows[i]) {
      return Status(Code::kStale, "the lease of the blobs (intent " + std::to_string(intents[i]) +
                                      ") has expired");
    }
  }
  return Status::Ok();
}

void PutReferences(kv::Transaction& txn, const ContentOwner& owner,
                   const std::vector<wire::Extent>& extents) {
  for (const auto& e : extents) {
    for (uint64_t i = 0; i < e.count; ++i)
      txn.Put(ReferenceKey(e.volume, e.first_seq + i, owner), "");
  }
}

// Absent when there is no such list.
Result<std::optional<ListHead>> ReadHead(kv::Transaction& txn, uint64_t list_id) {
  PERIGEE_ASSIGN(auto value, txn.Get(ListHeadKey(list_id), kv::ReadMode::kConflict));
  if (!value) return std::optional<ListHead>();
  PERIGEE_ASSIGN(ListHead head, DecodeListHead(*value));
  return std::optional<ListHead>(std::move(head));
}

// The first `blobs` blobs of an extent; the rest stays.
wire::Extent CutFront(wire::Extent* extent, uint32_t blobs) {
  wire::Extent front = *extent;
  front.count = blobs;
  front.length = blobs * extent->blob_bytes;
  extent->offset += front.length;
  extent->length -= front.length;
  extent->first_seq += blobs;
  extent->count -= blobs;
  return front;
}

std::string ListGarbage(uint64_t list_id, int64_t time) {
  return EncodeGarbageKey({.time = time, .kind = GarbageKind::kList, .first = list_id});
}

}  // namespace

Status AcquireContent(kv::Transaction& txn, const ContentOwner& owner,
                      const std::vector<wire::Extent>& extents, uint64_t list_id,
                      const std::vector<uint64_t>& intents) {
  PERIGEE_TRY(CheckExtents(extents));
  PERIGEE_TRY(UseIntents(txn, intents));
  PutReferences(txn, owner, extents);
  if (list_id == 0) return Status::Ok();
  PERIGEE_ASSIGN(auto head, ReadHead(txn, list_id));
  if (!head || head->dead) {
    return Status(Code::kStale, "extent list " + std::to_string(list_id) + " has expired");
  }
  ++head->references;
  txn.Put(ListHeadKey(list_id), ListHeadValue(*head));
  return Status::Ok();
}

Status ReleaseContent(kv::Transaction& txn, const ContentOwner& owner,
                      const std::vector<wire::Extent>& extents, uint64_t list_id,
                      int64_t wall_now) {
  // Content may name blobs twice; of garbage rows with one key the longest must win.
  std::map<std::pair<uint32_t, uint64_t>, uint32_t> counts;
  for (const auto& e : extents) {
    uint32_t& count = counts[{e.volume, e.first_seq}];
    count = std::max(count, e.count);
  }
  for (const auto& [first, count] : counts) {
    GarbageKey key{.time = wall_now,
                   .kind = GarbageKind::kExtent,
                   .volume = first.first,
                   .first = first.second,
                   .owner = owner};
    txn.Put(EncodeGarbageKey(key), GarbageValue({.count = count}));
  }
  if (list_id == 0) return Status::Ok();
  PERIGEE_ASSIGN(auto head, ReadHead(txn, list_id));
  if (!head || head->references == 0) {
    return Status(Code::kCorrupt,
                  "extent list " + std::to_string(list_id) + " is released more often than used");
  }
  if (--head->references == 0) txn.Put(ListGarbage(list_id, wall_now), GarbageValue({}));
  txn.Put(ListHeadKey(list_id), ListHeadValue(*head));
  return Status::Ok();
}

Status AddListExtents(kv::Transaction& txn, uint64_t list_id,
                      const std::vector<wire::Extent>& extents,
                      const std::vector<uint64_t>& intents, int64_t expires) {
  PERIGEE_TRY(CheckExtents(extents));
  PERIGEE_TRY(UseIntents(txn, intents));
  PERIGEE_ASSIGN(auto head, ReadHead(txn, list_id));
  if (head && head->dead) {
    return Status(Code::kStale, "extent list " + std::to_string(list_id) + " has expired");
  }
  if (!head) {
    txn.Put(ListHeadKey(list_id), ListHeadValue({.expires = expires}));
    txn.Put(ListGarbage(list_id, expires), GarbageValue({}));
  }
  for (const auto& e : extents) txn.Put(ListExtentKey(list_id, e.offset), ListExtentValue(e));
  PutReferences(txn, ListOwner(list_id), extents);
  return Status::Ok();
}

std::vector<std::vector<wire::Extent>> SplitForCommits(const std::vector<wire::Extent>& extents) {
  std::vector<std::vector<wire::Extent>> portions;
  uint64_t room = 0;  // blobs that the last portion still takes
  for (wire::Extent rest : extents) {
    do {
      if (room == 0 || portions.back().size() == kExtentsPerCommit) {
        portions.emplace_back();
        room = kBlobsPerCommitMax;
      }
      wire::Extent front = rest;
      if (rest.count > room)
        front = CutFront(&rest, static_cast<uint32_t>(room));
      else
        rest.count = 0;
      room -= front.count;
      portions.back().push_back(std::move(front));
    } while (rest.count > 0);
  }
  return portions;
}

Result<std::vector<wire::Extent>> ReadListExtents(kv::Transaction& txn, uint64_t list_id,
                                                  uint64_t offset, size_t limit) {
  std::vector<wire::Extent> extents;
  if (limit == 0) return extents;
  // The row that covers `offset` may begin before it.
  PERIGEE_ASSIGN(auto before, txn.Scan({ListExtentKey(list_id, 0), ListExtentKey(list_id, offset)},
                                       1, kv::Direction::kBackward, kv::ReadMode::kSnapshot));
  if (!before.empty()) {
    PERIGEE_ASSIGN(wire::Extent e, DecodeListExtent(before[0].second));
    if (e.offset + e.length > offset) extents.push_back(std::move(e));
  }
  size_t left = limit - extents.size();
  if (left == 0) return extents;
  PERIGEE_ASSIGN(auto rows, txn.Scan(ListExtents(list_id, offset), left, kv::Direction::kForward,
                                     kv::ReadMode::kSnapshot));
  for (const auto& [key, value] : rows) {
    PERIGEE_ASSIGN(wire::Extent e, DecodeListExtent(value));
    extents.push_back(std::move(e));
  }
  return extents;
}

}  // namespace perigee::objectd
