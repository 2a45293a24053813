#pragma once
// The RocksStore's own records, in the mirrors beside everyone else's keys. docs/formats/kv.md.
//
//   'A' 0 'f'                   format:    magic "PKVS" | version u32 | store id 16 bytes | crc32c
//   u32 'A' 0 'h'                   head:      position u64 | previous position u64 | events
//   emitted so far u64 'A' 0 'l'                   low water: position u64, events up to it are
//   gone 'A' 0 'm' position u64be    mark:      events emitted up to and with that commit, u64 'A'
//   0 'g' position u64be    gap:       after that commit came position u64; between them commits
//   were lost 'F' position u64be index u32be         an event of the change feed
// Values little-endian, keys big-endian. Each commit is one RocksDB write batch, and starts with
// the new head.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "objectd/kv/feed_index.h"
#include "objectd/kv/store.h"

namespace perigee::objectd::kv {

inline constexpr uint32_t kFormatVersion = 1;
inline constexpr size_t kStoreIdBytes = 16;

struct FormatRecord {
  uint32_t version = kFormatVersion;
  std::string store_id;
};

// Positions are not consecutive: opening leaves a gap. `previous` chains the commits of one
// history.
struct Head {
  Position position = 0, previous = 0;
  uint64_t events_total = 0;
};

std::string EncodeFormat(const FormatRecord& record);
Result<FormatRecord> DecodeFormat(
    std::string_view bytes);  // kUnimplemented: made by a newer version
std::string EncodeHead(const Head& head);
Result<Head> DecodeHead(std::string_view bytes);
std::string EncodeU64(uint64_t value);
Result<uint64_t> DecodeU64(std::string_view bytes);

std::string FormatKey();
std::string HeadKey();
std::string LowWaterKey();
std::string MarkKey(Position position);
std::string GapKey(Position last);
std::string EventKey(Position position, uint32_t index);
Result<Position> PositionOfKey(std::string_view key);  // of a mark, gap or event key
Range MarkRange();
Range GapRange();

// All that one commit writes, with values resolved.
struct CommitContent {
  Head head;
  std::vector<std::pair<std::string, std::optional<std::string>>> writes;  // none: delete
  std::vector<std::string> events;
  FeedIndex::Step feed;
  std::optional<FeedIndex::Gap> gap;
  std::optional<FormatRecord> format;
};
// As the representation of a rocksdb::WriteBatch, the same for every mirror.
std::string EncodeBatch(const CommitContent& content);
Result<Head> HeadOfBatch(const std::string& batch);

}  // namespace perigee::objectd::kv
