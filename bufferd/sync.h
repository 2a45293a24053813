#pragma once
// Syncer: raises committed content from `unsynced` right after close, in batches, without anyone
// waiting for it.
//
// Burst layouts: data and names are synced, then the records (one sync for the batch), then the
// namespace is told (kLocal). Inline contents: one namespace sync for the batch (kObject); of what
// was registered in an earlier life of it, it is asked whether it is there still. Fetched
// copies: data synced, so that they outlive a reboot. A failed sync is reported and not tried
// again. Thread-safe.

#include <deque>
#include <mutex>

#include "bufferd/core.h"

namespace perigee::bufferd {

class Syncer {
 public:
  explicit Syncer(Core& core) : core_(core) {}
  void Add(const FilePtr& file);  // content to raise, or a copy to keep

 private:
  struct Item {
    FilePtr file;
    uint64_t generation = 0;
    int64_t ctime = 0;  // a generation that was never registered gives its number to the next
    Home home = Home::kNone;
    uint64_t registered_in = 0;
    bool synced = false;   // the bytes that were there
    bool settled = false;  // and they are those of the record still
  };
  void Arm(Nanos delay);
  std::vector<Item> TakeBatch();
  void RunBatch();
  void SyncData(Item* item);
  bool Settle(const Item& item);

  static constexpr size_t kBatchMax = 256;
  static constexpr uint32_t kRunningMax = 2;
  // For what one sync can do for many: after a file that comes alone, and between batches.
  static constexpr Nanos kGather = 10 * kMillisecond, kBatchEvery = 50 * kMillisecond;

  Core& core_;
  std::mutex mu_;  // guards what follows
  std::deque<FilePtr> queue_;
  bool armed_ = false;    // a batch is to come
  uint32_t running_ = 0;  // that one included
  Nanos next_batch_ = 0;
};

}  // namespace perigee::bufferd
