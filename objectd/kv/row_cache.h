#pragma once
// RowCache: small rows that are read again and again (a bucket, the directories above what is
// busy, objects in demand), so that finding them costs no look into RocksDB. It holds values as of
// a position; a commit drops what it writes before any view can hold the commit, so a row serves
// every view from its position on for as long as it is here. A row comes in when it is offered a
// second time. Bounded in bytes: of what is not found again, the older half goes.
// Thread rule: thread-safe.

#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "objectd/kv/snapshot_reader.h"

namespace perigee::objectd::kv {

class RowCache {
 public:
  // Absent rows are known, too.
  using Value = std::optional<std::string>;

  explicit RowCache(size_t bytes_max) : bytes_max_(bytes_max) {}

  // What a view of `at` holds under `key`; nothing when it is not known here.
  std::optional<Value> Find(std::string_view key, Position at);
  // A view of `at` holds this.
  void Offer(std::string_view key, const Value& value, Position at);
  // The commit at `position` writes `key`. Called before a view can hold it, in the order of
  // commits.
  void Written(std::string_view key, Position position);

 private:
  static constexpr size_t kRowOverhead = 160;  // of two strings, and of a slot in the map
  static constexpr size_t kValueBytesMax = 1024;
  static constexpr size_t kSlots = 1 << 16;

  struct Row {
    Value value;
    Position since;
  };
  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view key) const { return std::hash<std::string_view>()(key); }
  };
  using Rows = std::unordered_map<std::string, Row, Hash, std::equal_to<>>;

  static size_t BytesOf(std::string_view key, const Value& value) {
    return key.size() + (value ? value->size() : 0) + kRowOverhead;
  }
  void MakeRoomLocked(size_t bytes);

  const size_t bytes_max_;
  std::mutex mu_;  // guards all below
  Rows rows_;      // new, or found again
  Rows older_;
  size_t bytes_ = 0;  // of rows_
  // By hash: the last commit that wrote one of its keys, which makes older offers worthless, and
  // the key that was offered last.
  std::vector<Position> written_ = std::vector<Position>(kSlots);
  std::vector<size_t> offered_ = std::vector<size_t>(kSlots);
};

// A view whose single rows are looked for in the cache first.
class CachedReader final : public SnapshotReader {
 public:
  CachedReader(SnapshotReader& view, RowCache& cache) : view_(view), cache_(cache) {}
  Position position() const override { return view_.position(); }
  Result<std::optional<std::string>> Get(std::string_view key) override;
  Result<std::vector<std::optional<std::string>>> GetMany(
      const std::vector<std::string>& keys) override;
  std::unique_ptr<Cursor> Walk(const Range& range, Direction direction) override {
    return view_.Walk(range, direction);
  }

 private:
  SnapshotReader& view_;
  RowCache& cache_;
};

}  // namespace perigee::objectd::kv
