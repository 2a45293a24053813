#pragma once
// BurstFile: one burst file in memory: its record, what of it is resident, who has it open, and
// what is being done to it.
//
//   writing -> published -> sealed -> flushing -> clean      kWriting … kClean of wire::BurstState
//      ^__________|____________|_________|__________|        a re-open for write goes back
// Its lock guards everything below it and is held for moments only: never across a wait, a call or
// bulk I/O. A longer change takes `busy` (BusyHold): opening for write, publishing, sealing,
// reconciling. Flushing is not busy: it is cancelled by `flush_cancel` and ends by itself. `gone`
// is final: the file leaves the table, opens look again. Lock order: none; two files' locks are
// never held together.

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/event.h"
#include "bufferd/burst_record.h"
#include "bufferd/residency.h"
#include "tiers/prefetch/readahead.h"

namespace perigee::bufferd {

struct BurstFile {
  BurstFile(BurstRecord record, std::shared_ptr<std::atomic<uint64_t>> allocated_total);
  ~BurstFile();
  BurstFile(const BurstFile&) = delete;
  BurstFile& operator=(const BurstFile&) = delete;

  const wire::BurstId burst;
  const uint32_t dir;

  // Held by a fill while it writes: the file system takes one write of a file at a time, and lets
  // the others spin. Guards nothing else.
  std::mutex fill_write;

  mutable std::mutex mu;
  CondVar changed;  // anything below did
  // Guarded by mu.
  BurstRecord rec;
  Residency residency;
  uint32_t readers = 0, writers = 0;  // handles
  uint32_t waiting = 0;               // readers waiting for ranges
  bool busy = false;
  bool gone = false;
  bool superseded = false;  // another burst file serves this id now
  bool orphan = false;      // the namespace no longer has this id
  bool released =
      false;  // and durably so, or it durably names other content: nothing here is needed
  bool corrupt = false;          // fails its checksums: kept, never flushed, reported
  bool sync_failed = false;      // the kernel lost writes: no class above unsynced any more
  bool needs_reconcile = false;  // loaded at start, or the feed was lost
  bool lost = false;             // its bytes did not survive a reboot
  bool unverified = false;       // loaded after a reboot; its checksums were not looked at since
  bool maybe_committed = false;  // a publish of rec.generation had no known outcome
  // The life of objectd in which rec.generation was registered, or one before; 0: not known.
  uint64_t registered_in = 0;
  bool untold = false;  // written here, which objectd did not hear: it was away at the open
  bool seal_queued = false, sync_queued = false;
  uint32_t seal_refusals = 0;
  Nanos sealed_at = 0;                  // monotonic
  std::optional<wire::Version> source;  // of a copy that is not whole: where it comes from
  tiers::Readahead readahead;
  ByteRange fill_goal;
  std::map<uint64_t, uint32_t> fill_crcs;  // of the blocks that were fetched in one range
  uint32_t fills_in_flight = 0;
  uint64_t fill_failures = 0;
  Status fill_error;
  std::shared_ptr<BurstFile> predecessor;  // current again if this one is never published
  uint64_t save_seq = 0;

  std::atomic<bool> flush_cancel{false};
  std::mutex save_mu;      // orders writes of the record to the index; taken after mu was released
  uint64_t saved_seq = 0;  // guarded by save_mu

  // With mu held.
  bool Whole() const;     // every byte of its content can be read from it
  bool OnlyCopy() const;  // removing it would lose published content
  bool Unsealed() const {
    return rec.state == wire::BurstState::kWriting || rec.state == wire::BurstState::kPublished;
  }
  bool Evictable(std::string* why) const;
  bool Flushable() const;            // sealed, registered, current, sound
  wire::BurstState Settled() const;  // the state once nobody writes
  wire::BurstStatReply Describe() const;
  // What the namespace had of its content is gone, and all of it is here: it is published again, as
  // `generation`. `synced`: its bytes survive power loss.
  void OnlyHere(uint64_t generation, bool synced);
  void SetAllocated(uint64_t bytes);
  uint64_t allocated() const { return allocated_; }
  // The record to store, residency included.
  BurstRecord ToStore() const;

 private:
  const std::shared_ptr<std::atomic<uint64_t>> allocated_total_;
  uint64_t allocated_ = 0;
};

using FilePtr = std::shared_ptr<BurstFile>;

// Takes `busy` (waiting for it) and gives it back. `held()` is false when the file is gone.
class BusyHold {
 public:
  explicit BusyHold(FilePtr file);
  // Does not wait: `held()` is false when another has it, too.
  struct Try {};
  BusyHold(FilePtr file, Try);
  ~BusyHold();
  BusyHold(const BusyHold&) = delete;
  BusyHold& operator=(const BusyHold&) = delete;
  bool held() const { return held_; }

 private:
  const FilePtr file_;
  bool held_ = false;
};

}  // namespace perigee::bufferd
