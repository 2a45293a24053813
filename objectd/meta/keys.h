#pragma once
// Keys of the namespace in the store, and their values' envelope. docs/formats/keys.md has the
// grammar; numbers in keys are big-endian, so that keys sort as the numbers do. Pure functions.
//
// - E <dir u64> <component> -> 1 Record | 2 <id u64>: an entry; a directory's component ends in '/'
// - H <id u64> -> 1 Record: a file of several links
// - H <id u64> <dir u64> <component> -> 1: one of its links
// - I <id u64> -> 1 <dir u64> <component>: where an id is (its first link)
// - D <dir u64> -> 1 <bucket u64>: the directory lives; insertions conflict-read it
// - C <dir u64> <shard u8> -> time, AtomicMax: last change of a directory's entries
// - C 0^8 <shard u8> -> count, AtomicAdd: files
// - C 0^8 255 -> count, AtomicAdd: directories moved so far
// - X <id u64> <generation u64> -> bytes: inline content
// - U u <bucket u64> <key> 0 <upload u64> -> 1 UploadRow
// - U p <upload u64> <number u32> -> 1 PartRow
// - U r <upload u64> -> 1 CompletedRow
// - U c <due u64> <kind u8> <id u64> -> 1: cleaning to do
// - O <node u64> -> 1 RegisterNodeRequest
// - A ids.file -> counter of file ids (kv::IdAllocator)
// - h <dir u64> -> 1 <node u64>: who holds the directory
// - T <node u64> -> 1 ToldRow: up to where it has told of its journal

#include <cstdint>
#include <string>
#include <string_view>

#include "objectd/kv/store.h"
#include "rdma/wire/record.h"

namespace perigee::objectd {

// Where an entry is.
struct Place {
  wire::FileId dir = 0;
  std::string component;  // as stored
  bool operator==(const Place&) const = default;
};

inline constexpr uint8_t kTimeShards = 2;
inline constexpr uint8_t kCountShards = 4;

inline bool IsDirectoryComponent(std::string_view component) { return component.ends_with('/'); }

enum class Chore : uint8_t { kParts = 1, kCompleted = 2, kBucketUploads = 3 };
struct ChoreKey {
  int64_t due = 0;  // wall ns
  Chore kind = Chore::kParts;
  uint64_t id = 0;  // upload; kBucketUploads: bucket
};

namespace keys {

std::string Entry(wire::FileId dir, std::string_view component);
std::string EntryPrefix(wire::FileId dir);
std::string Inode(wire::FileId id);
std::string Link(wire::FileId id, const Place& place);
kv::Range Links(wire::FileId id);
std::string Index(wire::FileId id);
std::string Directory(wire::FileId dir);
std::string DirectoryTime(wire::FileId dir, uint8_t shard);
std::string FileCount(uint8_t shard);
std::string MoveCount();
std::string Inline(wire::FileId id, uint64_t generation);
std::string Upload(wire::FileId bucket, std::string_view key, uint64_t upload);
std::string UploadPrefix(wire::FileId bucket, std::string_view key_prefix);
std::string Part(uint64_t upload, uint32_t number);
std::string PartPrefix(uint64_t upload);
std::string Completed(uint64_t upload);
std::string EncodeChore(const ChoreKey& chore);
std::string ChorePrefix();
std::string Node(wire::NodeId node);
std::string Hold(wire::FileId dir);
std::string HoldPrefix();
std::string Told(wire::NodeId node);
std::string FileIdCounter();

// The component of an entry's key; the place in a link's key; the chore in a chore's key.
std::string_view EntryComponent(std::string_view key);
Result<Place> DecodeLink(std::string_view key);
Result<ChoreKey> DecodeChore(std::string_view key);
Result<wire::FileId> DecodeHold(std::string_view key);

// The smallest string greater than all that start with `prefix`; "" when there is none.
std::string Successor(std::string_view prefix);

}  // namespace keys

// Values: a format byte, then the body. A newer format is refused by name (kUnimplemented).
inline constexpr char kFormatBody = 1;
inline constexpr char kFormatReference = 2;  // entries only

std::string EncodeIndex(const Place& place);
Result<Place> DecodeIndex(std::string_view value);
std::string EncodeId(uint64_t id);  // kFormatBody and a number: liveness rows
Result<uint64_t> DecodeId(std::string_view value);
std::string EncodeReference(wire::FileId id);  // an entry whose record is in the inode table
Result<std::string_view> Body(std::string_view value, std::string_view what);

template <class Message>
std::string EncodeRow(const Message& m) {
  return std::string(1, kFormatBody) + wire::Encode(m);
}
template <class Message>
Result<Message> DecodeRow(std::string_view value, std::string_view what) {
  PERIGEE_ASSIGN(std::string_view body, Body(value, what));
  return wire::Decode<Message>(body);
}

}  // namespace perigee::objectd
