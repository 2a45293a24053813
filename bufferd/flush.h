#pragma once
// Flusher: copies sealed burst files to the object tier and commits burst -> blobs, one transaction
// a file.
//
// Order, linger, hold and retries are tiers::FlushQueue's. A copy reads straight into the blob
// writer's buffer, checks the file's crcs in the same pass (and stores them when there were none),
// and looks that the file did not change. Opening the file for writing cancels it: CancelAndWait
// before the descriptor leaves. A stale commit drops what was written. Thread-safe.

#include <mutex>

#include "bufferd/core.h"
#include "tiers/flush/flush_queue.h"

namespace perigee::bufferd {

class Flusher {
 public:
  // on_changed: a sealed file changed after all (pages that were pinned for a device can); it has
  // to be sealed again.
  Flusher(Core& core, tiers::FlushQueueOptions options,
          std::function<void(const FilePtr&)> on_changed)
      : core_(core), on_changed_(std::move(on_changed)), queue_(options) {}

  void Add(const FilePtr& file);  // sealed, burst layout
  void Force(const FilePtr& file);
  void ForceOldest();  // space is short: no linger for anything
  void Hold(bool on);
  bool held() const;
  size_t running() const;

  // Ends a running flush of `file`; returns once it no longer reads. No lock held.
  void CancelAndWait(const FilePtr& file);
  // For fsync to class object of a file that is still open: copies the published, just synced
  // content if it stays unchanged meanwhile. kConflict: it did not. Takes BusyHold.
  Status FlushOpen(const FilePtr& file);

 private:
  void Pump();
  void RunOne(wire::BurstId burst);
  Status Copy(const FilePtr& file, const std::function<bool()>& cancelled);
  Status Commit(const FilePtr& file, uint64_t generation, client::WrittenObject object);
  void FoundCorrupt(const FilePtr& file, uint64_t block);

  Core& core_;
  const std::function<void(const FilePtr&)> on_changed_;
  mutable std::mutex mu_;  // guards what follows
  tiers::FlushQueue queue_;
  Nanos wake_at_ = 0;  // of the armed timer; 0: none
};

}  // namespace perigee::bufferd
