#pragma once
// RocksStore: the Store on mirrored RocksDB instances, one in <drive>/meta of each of M+1 drives.
//
// One sequencer validates each commit against the recent ones in memory and gives every mirror the
// same numbered batch. A commit is durable when all in-sync mirrors have synced it; concurrent
// waiters share one sync. A mirror that fails (or answers later than `late_after`) is ejected
// first: MirrorMembership makes that durable, then commits go on without it. A failed sync is never
// retried. No mirror left: every call is kUnavailable. After a crash the mirrors differ by unsynced
// tails: Open takes the longest and brings the others to it.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/metrics.h"
#include "objectd/kv/store.h"

namespace rocksdb {
class Env;
}

namespace perigee::objectd::kv {

struct MirrorPlace {
  uint64_t drive_id = 0;
  std::string dir;  // <drive>/meta; made when absent
};

// Implemented by objectd/volume over the drives' superblocks. Called from threads of the store;
// must not call the store.
class MirrorMembership {
 public:
  virtual ~MirrorMembership() = default;
  // Durable, on at least M+1 drives, when it returns ok: `drive_id` is (not) an in-sync mirror from
  // the next epoch on.
  virtual Status Eject(uint64_t drive_id, const std::string& reason) = 0;
  virtual Status Admit(uint64_t drive_id) = 0;
};

struct RocksStoreOptions {
  std::vector<MirrorPlace> mirrors;        // in sync as of the highest epoch; at least one
  MirrorMembership* membership = nullptr;  // may be null with one mirror
  bool create = false;                     // a new cluster: the mirrors are empty
  uint64_t memory_bytes = 64 << 20;        // all mirrors together; an eighth for rows
  uint64_t feed_events_kept = 1'000'000;
  Nanos late_after = 10 * kSecond;
  Clock* clock = nullptr;
  metrics::Registry* metrics = nullptr;
  rocksdb::Env* env = nullptr;  // tests inject faults here; null: the machine's
};

class RocksStore : public Store {
 public:
  static Result<std::unique_ptr<RocksStore>> Open(RocksStoreOptions options);
  // Copies a snapshot into an empty directory while commits go on, follows to the tail, then admits
  // it.
  virtual Status AddMirror(MirrorPlace place) = 0;
  // As after a failure of that drive; ok when it is no mirror.
  virtual Status EjectMirror(uint64_t drive_id, const std::string& reason) = 0;
  virtual std::vector<uint64_t> InSync() = 0;  // none: the store is down
  // Gives the space of deleted inline values back to the drives now, instead of with the next
  // compaction: for when it runs short. Takes seconds.
  virtual void Reclaim() = 0;
  virtual void Stop() = 0;  // syncs what is visible, closes
};

}  // namespace perigee::objectd::kv
