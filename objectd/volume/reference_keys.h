#pragma once
// Keys and values of who keeps a blob alive, shared by reference.cc, the volume table, repair and
// the collector. Format: docs/formats/volumes.md. Integers in keys are big-endian, so that keys
// sort as the numbers do.
//
//   N <intent u64>                                      -> IntentRow
//   R <volume u32> <seq u64> <owner id u64> <gen u64>   -> empty
//   L <list u64>                                        -> ListHead
//   L <list u64> <offset u64>                           -> wire::Extent
//   G <time u64> <kind u8> <volume u32> <first u64> <owner id u64> <gen u64>   -> GarbageRow
// "N" and "L" alone, and "V <volume> s", are the id counters (kv::IdAllocator).
//
// Rules that make it safe:
//  - AcquireContent conflict-reads N of each intent (absent: kStale) and writes R for each blob. It
//  does not delete N: the
//    intent is removed when it has expired, was given up, or its node has started anew, in a
//    commit that also writes a G for its range (owner zero): EndIntent.
//  - ReleaseContent writes one G (kExtent, its owner, time = wall now) per extent and leaves the R
//  rows of that owner: the
//    collector deletes them in bounded batches, then frees the blobs without any other R. An owner
//    is never acquired again after its release. (So a release costs keys per extent, not per blob.)
//  - A list's blobs are held by R rows of ListOwner(list), written with the list's rows. The files
//  that use the list are
//    counted in ListHead::references, under conflict reads. A list with no references is garbage
//    when its G (kList) is due: AddListExtents writes one with time = expires when it makes the
//    head; ReleaseContent one with time = now when the count reaches zero. The collector marks the
//    head `dead` first; AcquireContent of a dead or absent list is kStale.
//  - Nothing named by a G row is destroyed before the row is durable and time + a reader's grace
//  has passed.
// Functions are pure. Decoding what is stored gives kCorrupt, never undefined behaviour.

#include <cstdint>
#include <string>
#include <string_view>

#include "objectd/kv/store.h"
#include "objectd/volume/reference.h"
#include "rdma/wire/shard.h"

namespace perigee::objectd {

struct IntentRow {
  uint32_t volume = 0;
  uint64_t first_seq = 0;
  uint32_t count = 0;
  int64_t expires = 0;  // wall ns
  wire::NodeId node = 0;
  uint64_t incarnation = 0;  // of the node
  wire::Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.volume);
    v(2, s.first_seq);
    v(3, s.count);
    v(4, s.expires);
    v(5, s.node);
    v(6, s.incarnation);
    v.Rest(s.unknown);
  }
};

struct ListHead {
  uint64_t references = 0;  // files and parts that use the list
  int64_t expires = 0;      // wall ns; a list never acquired is garbage then
  bool dead = false;        // the collector is taking it apart
  wire::Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.references);
    v(2, s.expires);
    v(3, s.dead);
    v.Rest(s.unknown);
  }
};

enum class GarbageKind : uint8_t { kExtent = 1, kList = 2 };

struct GarbageKey {
  int64_t time = 0;  // wall ns; due at time + grace
  GarbageKind kind = GarbageKind::kExtent;
  uint32_t volume = 0;  // kList: 0
  uint64_t first = 0;   // kExtent: first sequence; kList: the list's id
  ContentOwner owner;   // whose R rows go; zero: nobody's (expired intents)
};
struct GarbageRow {
  uint32_t count = 0;  // kExtent: sequences first … first + count - 1
  wire::Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.count);
    v.Rest(s.unknown);
  }
};

// The owner that stands for an extent list in R rows.
inline ContentOwner ListOwner(uint64_t list_id) { return {list_id, ~uint64_t{0}}; }

std::string IntentKey(uint64_t intent);
Result<uint64_t> DecodeIntentKey(std::string_view key);
std::string IntentValue(const IntentRow& row);
Result<IntentRow> DecodeIntentValue(std::string_view value);
// A commit that names it from now on is kStale; blobs that an earlier one took stay.
void EndIntent(kv::Transaction& txn, const std::string& key, const IntentRow& row,
               int64_t wall_now);
kv::Range IntentRange();  // rows only, not the counter

std::string ReferenceKey(uint32_t volume, uint64_t seq, const ContentOwner& owner);
struct ReferenceRow {
  uint32_t volume = 0;
  uint64_t seq = 0;
  ContentOwner owner;
};
Result<ReferenceRow> DecodeReferenceKey(std::string_view key);
kv::Range BlobReferences(uint32_t volume, uint64_t seq);  // all owners of one blob
kv::Range VolumeReferences(uint32_t volume,
                           uint64_t first_seq);  // all blobs of a volume from first_seq on

std::string ListHeadKey(uint64_t list_id);
std::string ListHeadValue(const ListHead& head);
Result<ListHead> DecodeListHead(std::string_view value);
std::string ListExtentKey(uint64_t list_id, uint64_t offset);
Result<uint64_t> DecodeListExtentKey(
    std::string_view key);  // the offset; kCorrupt for a head's key
kv::Range ListExtents(uint64_t list_id, uint64_t from_offset);  // the rows, not the head
std::string ListExtentValue(const wire::Extent& extent);
Result<wire::Extent> DecodeListExtent(std::string_view value);

std::string EncodeGarbageKey(const GarbageKey& key);
Result<GarbageKey> DecodeGarbageKey(std::string_view key);
std::string GarbageValue(const GarbageRow& row);
Result<GarbageRow> DecodeGarbageValue(std::string_view value);
kv::Range GarbageUntil(int64_t time);  // rows with time <= `time`, in order of time

// Counters for kv::IdAllocator.
std::string IntentCounterKey();
std::string ListCounterKey();
std::string SequenceCounterKey(uint32_t volume);

}  // namespace perigee::objectd
