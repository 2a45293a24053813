#pragma once
// Batch: stat, flush, evict, warm, pin and hold, of one file, of a directory's files, or of
// everything on this node. Thread-safe; blocks.

#include <string>
#include <vector>

#include "bufferd/engine.h"

namespace perigee::bufferd {

class Batch {
 public:
  Batch(Engine& engine) : engine_(engine), core_(engine.core()) {}

  Result<wire::BurstStatReply> Stat(const wire::BurstTarget& target);
  // Starts what can be flushed at once; with wait, returns when all of it is in the object tier, or
  // the time is up.
  Result<wire::BurstBatchReply> Flush(const wire::BurstTarget& target, Nanos deadline);
  Result<wire::BurstBatchReply> Evict(const wire::BurstTarget& target);
  Result<wire::BurstBatchReply> Warm(const wire::BurstTarget& target, Nanos deadline);
  Result<wire::BurstBatchReply> Pin(const wire::BurstTarget& target);
  Result<wire::BurstBatchReply> Hold(const wire::BurstTarget& target);

 private:
  struct Item {
    std::string name;  // for reasons
    wire::FileId id = 0;
    FilePtr file;       // null: nothing here
    uint64_t size = 0;  // as the namespace says, 0 when it was not asked
  };
  Result<std::vector<Item>> Items(const wire::BurstTarget& target);
  Status Walk(const wire::Caller& caller, wire::FileId dir, const std::string& prefix, int depth,
              std::vector<Item>* items);
  Nanos DeadlineOf(const wire::BurstTarget& target, Nanos deadline) const;

  Engine& engine_;
  Core& core_;
};

}  // namespace perigee::bufferd
