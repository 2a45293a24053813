#pragma once
// Collector: frees what nobody holds. It acts on garbage rows that are durable and older than a
// reader's grace, and turns expired leases into such rows, in the commit that deletes the lease: a
// commit that comes later fails (reference_keys.h).
//
// A row goes after its shards. Whatever a crash interrupts is done again: every step is idempotent.
// Shards on drives that are away, or that fail, stay: `missed` is told, which has them looked for.
// RunOnce is bounded; thread-safe; blocks.

#include <atomic>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <vector>

#include "base/clock.h"
#include "objectd/kv/store.h"
#include "objectd/volume/drive_catalog.h"
#include "objectd/volume/reference_keys.h"
#include "objectd/volume/volume_table.h"

namespace perigee::objectd {

class Collector {
 public:
  struct Options {
    Nanos grace = 60 * kSecond;
    size_t rows = 64;  // a RunOnce looks at
  };
  using Missed = std::function<void(uint64_t drive_id)>;
  Collector(Options options, kv::Store* store, DriveCatalog* drives, VolumeTable* table,
            Clock* clock, Missed missed)
      : options_(options),
        store_(store),
        drives_(drives),
        table_(table),
        clock_(clock),
        missed_(std::move(missed)) {}

  // True: there is more to do now.
  Result<bool> RunOnce();
  uint64_t blobs_freed() const { return blobs_freed_; }
  uint64_t rows_waiting() const {
    return rows_waiting_;
  }  // as of the last run; at most `rows`, then more is due

 private:
  Result<bool> ExpireLeases();
  Status Take(const GarbageKey& key, const std::string& raw_key, const std::string& value);
  Status TakeExtent(uint32_t volume, uint64_t first, uint64_t count, const ContentOwner& owner);
  Status TakeList(uint64_t list_id);
  Status DeleteKeys(const std::vector<std::string>& keys);
  void DeleteShards(uint32_t volume, const std::vector<uint64_t>& seqs);

  const Options options_;
  kv::Store* const store_;
  DriveCatalog* const drives_;
  VolumeTable* const table_;
  Clock* const clock_;
  const Missed missed_;
  std::atomic<uint64_t> blobs_freed_ = 0, rows_waiting_ = 0;
  std::string lease_cursor_;  // of the one round at a time; empty: from the first
};

}  // namespace perigee::objectd
