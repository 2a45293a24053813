#pragma once
// RocksView: the committed state of one mirror as of one position, by a RocksDB snapshot. Hides the
// store's own keys and joins the column families into one key space. Shared by the transactions
// that start at that position.
// Thread rule: thread-safe.

#include <memory>
#include <mutex>

#include "objectd/kv/rocks_mirror.h"
#include "objectd/kv/snapshot_reader.h"

namespace rocksdb {
class Snapshot;
}

namespace perigee::objectd::kv {

class RocksView final : public SnapshotReader {
 public:
  // Of the newest state; its position is read from the snapshot itself.
  static Result<std::shared_ptr<RocksView>> Take(std::shared_ptr<RocksMirror> mirror);
  ~RocksView() override;

  Position position() const override { return position_; }
  Result<std::optional<std::string>> Get(std::string_view key) override;
  Result<std::vector<std::optional<std::string>>> GetMany(
      const std::vector<std::string>& keys) override;
  std::unique_ptr<Cursor> Walk(const Range& range, Direction direction) override;
  // Feeds events after `after` to the page until it is full.
  Status ReadEvents(Position after, FeedPageBuilder& page);

  const std::shared_ptr<RocksMirror>& mirror() const { return mirror_; }
  const rocksdb::Snapshot* snapshot() const { return snapshot_; }
  // Remembers that the mirror could not be read, and returns the same.
  Status Failed(Status status);
  Status failure() const;  // the first one; ok while all is well

 private:
  RocksView(std::shared_ptr<RocksMirror> mirror, const rocksdb::Snapshot* snapshot);

  const std::shared_ptr<RocksMirror> mirror_;
  const rocksdb::Snapshot* const snapshot_;
  Position position_ = 0;
  mutable std::mutex mu_;
  Status failure_;  // guarded by mu_
};

}  // namespace perigee::objectd::kv
