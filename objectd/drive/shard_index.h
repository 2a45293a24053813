#pragma once
// ShardIndex: where each shard of a drive lies. A cache of what the segments say
// (docs/formats/segment.md, "Index").
//
// It promises no durability, but order: after a crash it holds a prefix of what was put. A
// segment's mark says up to where its records are in the index, and is written in one batch with
// the entries it covers; so what an index lacks is found by scanning behind the marks. Thread-safe;
// blocks.

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"

namespace perigee::objectd {

struct ShardKey {
  uint32_t volume = 0;
  uint64_t seq = 0;
  uint32_t index = 0;
  auto operator<=>(const ShardKey&) const = default;
};

struct ShardPlace {
  uint32_t segment = 0;
  uint64_t generation = 0;
  uint64_t offset = 0;  // of the record's header page
  uint64_t record_seq = 0;
  uint32_t payload_bytes = 0;
  bool operator==(const ShardPlace&) const = default;
};

struct SegmentMark {
  uint32_t segment = 0;
  uint64_t generation = 0;
  uint64_t scanned = 0;  // records that begin before this offset are in the index (or deleted)
};

class ShardIndex {
 public:
  virtual ~ShardIndex() = default;
  virtual Result<std::optional<ShardPlace>> Find(const ShardKey& key) = 0;
  virtual Status Put(const ShardKey& key, const ShardPlace& place, const SegmentMark& mark) = 0;
  virtual Status Delete(const ShardKey& key) = 0;
  virtual Status SetMark(const SegmentMark& mark) = 0;
  virtual Result<std::vector<SegmentMark>> Marks() = 0;
  // Entries with key >= first, ascending, until `visit` says false.
  virtual Status ForEach(const ShardKey& first,
                         const std::function<bool(const ShardKey&, const ShardPlace&)>& visit) = 0;
  virtual Status Flush() = 0;  // what was put so far survives power loss
};

// RocksDB in `dir`, with so much for cache and memtables. An index that is damaged, or not of this
// drive, is thrown away: the segments have it all. Any other error is the drive's own: returned.
Result<std::unique_ptr<ShardIndex>> OpenRocksIndex(const std::string& dir, uint64_t drive_id,
                                                   uint64_t memory_bytes = 16 << 20);
// Not while it is open.
Status DestroyRocksIndex(const std::string& dir);
// Empty at first: for drives on a MemDisk, whose segments are scanned at each open.
std::unique_ptr<ShardIndex> CreateMemoryIndex();

std::string EncodeShardKey(const ShardKey& key);
Result<ShardKey> DecodeShardKey(std::string_view key);
std::string EncodeShardPlace(const ShardPlace& place);
Result<ShardPlace> DecodeShardPlace(std::string_view value);
std::string EncodeSegmentMark(
    const SegmentMark& mark);  // the value; its key is 'P' and the segment
Result<SegmentMark> DecodeSegmentMark(uint32_t segment, std::string_view value);

}  // namespace perigee::objectd
