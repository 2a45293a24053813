#pragma once
// RocksMirror: one mirror, a RocksDB in one directory. Knows nothing of the other mirrors.
//
// Write hands a batch to the operating system: it survives the death of the process. Sync makes all
// writes before it survive the loss of power. After a failed Write or Sync the mirror's state is
// unknown: give it up.
// Thread rule: thread-safe, but batches are written by one thread at a time, in order.

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/event.h"
#include "objectd/kv/feed_index.h"
#include "objectd/kv/rocks_engine.h"
#include "objectd/kv/rocks_store.h"
#include "objectd/kv/store_format.h"

namespace perigee::objectd::kv {

class RocksMirror {
 public:
  static Result<std::shared_ptr<RocksMirror>> Open(std::shared_ptr<RocksEngine> engine,
                                                   MirrorPlace place, RocksEngine::Mode mode);
  ~RocksMirror();  // closes; what was not synced is in the operating system's hands
  RocksMirror(const RocksMirror&) = delete;
  RocksMirror& operator=(const RocksMirror&) = delete;

  const MirrorPlace& place() const { return place_; }
  // Set when the mirror has been destroyed and its directory may be used again.
  std::shared_ptr<Event> closed() const { return closed_; }
  Status Write(const std::string& batch);
  Status Sync();
  // Gives the space of deleted inline values back, as far as it takes none to do so: blob files
  // that hold live values as well stay.
  Status Reclaim();
  // The newest state; kCorrupt when the record is absent.
  Result<FormatRecord> ReadFormat();
  Result<Head> ReadHead();
  Result<FeedIndex> ReadFeedIndex(uint64_t events_kept);

  rocksdb::DB* db() const { return handles_.db; }
  const RocksHandles& handles() const { return handles_; }
  rocksdb::ColumnFamilyHandle* FamilyOf(std::string_view key) const {
    return IsInlineKey(key) ? handles_.inline_values : handles_.main;
  }

 private:
  RocksMirror(std::shared_ptr<RocksEngine> engine, MirrorPlace place, RocksHandles handles);
  Result<std::string> ReadOwn(const std::string& key);

  const std::shared_ptr<RocksEngine> engine_;
  const MirrorPlace place_;
  const RocksHandles handles_;
  const std::shared_ptr<Event> closed_ = std::make_shared<Event>();
};

}  // namespace perigee::objectd::kv
