#pragma once
// MirrorSet: the mirrors of one store as one log with two watermarks.
//
// The sequencer enqueues numbered batches; each mirror writes them in that order and syncs at its
// own pace.
//   visible   the primary (the first healthy mirror in sync) has written it: readers see it
//   durable   every mirror in sync has synced it
// The primary is written by the committers themselves, one of them at a time for all; the others
// when someone waits for a sync, or when much is queued for them.
// Each mirror has a thread that syncs when someone waits, one sync for all that wait; nobody
// waiting, the keeper asks for one within about a second. Where many waited for the last syncs, the
// next one waits a few milliseconds for most of them to be back: a sync costs too much to make one
// for each. One that comes alone never waits for others.
// A mirror whose write, sync or read fails, or takes longer than `late_after` while another in sync
// does not, is failed: it serves nothing from then on, and holds `durable` back until the keeper
// thread has ejected it durably. When all are late it is the machine that is slow: they are waited
// for. Time in which the keeper itself did not run (a stopped process) makes nobody late.
// The last mirror in sync is never ejected, since no start would find one: the set is dead then,
// and so it is when an ejection cannot be made durable.
//
// A mirror that joins: Attach (batches wait in its queue), Join (it writes and syncs; durable waits
// for it too), Admit.
// Thread rule: thread-safe. Threads blocked in a drive that hangs are waited for by Stop only.

#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/event.h"
#include "objectd/kv/kv_metrics.h"
#include "objectd/kv/rocks_mirror.h"
#include "objectd/kv/rocks_store.h"
#include "objectd/kv/rocks_view.h"
#include "objectd/kv/watermark.h"

namespace perigee::objectd::kv {

struct NumberedBatch {
  Position position;
  std::string bytes;  // EncodeBatch
};
using BatchRef = std::shared_ptr<const NumberedBatch>;

class MirrorSet {
 public:
  struct Options {
    MirrorMembership* membership = nullptr;
    Clock* clock = nullptr;
    Nanos late_after = 0;
    KvMetrics metrics;
  };
  struct Member;
  using MemberRef = std::shared_ptr<Member>;

  // `mirrors` all hold, synced, everything up to `position`.
  MirrorSet(Options options, std::vector<std::shared_ptr<RocksMirror>> mirrors, Position position);
  ~MirrorSet();
  void Start();
  // Wakes whoever waits for things to happen; nothing joins any more.
  void Interrupt();
  // Syncs what is visible, ends the threads, closes. No other call may be under way or follow.
  void Stop();

  // In position order. Whoever enqueues must WaitVisible, which is what writes to the primary.
  void Enqueue(BatchRef batch);
  Status WaitVisible(Position position);
  Status WaitDurable(Position position);
  // Until no mirror is further behind than its queue may hold.
  Status WaitRoom();
  // False: waits have ended.
  bool WaitMoved(Position seen_visible, Position seen_durable, Nanos timeout);
  void EndFeedWaits();
  Position visible();
  Position durable();

  // Of a position that is visible, or newer.
  Result<std::shared_ptr<RocksView>> AcquireView();
  // True when another mirror can be read instead: run again. False: this was the last one, which
  // stays.
  bool ReadFailed(const RocksView& view);

  std::vector<uint64_t> InSync();
  void Reclaim();  // RocksMirror::Reclaim of each; logs
  bool Has(uint64_t drive_id);
  // Until a mirror of this drive that left is closed. kBusy: its drive still hangs.
  Status WaitClosed(uint64_t drive_id);
  Status Eject(uint64_t drive_id, const std::string& reason);

  // The caller keeps the sequencer from enqueueing meanwhile.
  MemberRef Attach(std::shared_ptr<RocksMirror> mirror);
  // The mirror holds, synced, everything before its queue, up to `position`. Returns when it has
  // all that is durable.
  Status Join(const MemberRef& member, Position position);
  Status Admit(const MemberRef& member);
  void Drop(const MemberRef& member);  // one that was not admitted

 private:
  using Lock = std::unique_lock<std::mutex>;

  // All with mu_ held.
  Status DeadLocked() const;
  bool DrainLocked(Lock& lock, const MemberRef& member, size_t batches_max);
  [[nodiscard]] Watermark::Woken AdvanceVisibleLocked(Position position);
  [[nodiscard]] Watermark::Woken UpdateDurableLocked();
  void RequestSyncLocked(Position position);
  bool SyncIsDueLocked(const MemberRef& member) const;
  void WakeSyncerLocked(const MemberRef& member);
  void GatherLocked(Lock& lock, const MemberRef& member);
  void PickPrimaryLocked();
  size_t HealthyLocked() const;
  void FailLocked(const MemberRef& member, const std::string& reason);
  void DieLocked(const std::string& reason);
  void RetireLocked(const MemberRef& member);
  void NotifyAllLocked();
  void StartThreadsLocked(const MemberRef& member);
  void WakeKeeperLocked();

  // Threads (mirror_threads.cc).
  void WriterLoop(MemberRef member);
  void SyncerLoop(MemberRef member);
  void KeeperLoop();
  bool EjectFailedLocked(Lock& lock);
  bool ReapLocked(Lock& lock);
  Nanos KeeperPoll() const;
  void FailLateLocked();
  bool BusyLocked();

  const Options options_;
  std::mutex mu_;       // guards all below; never held across I/O
  CondVar commit_cv_;   // the primary, what it has written, or room moved
  CondVar members_cv_;  // the members moved, or what one of them has synced
  CondVar feed_cv_;     // either watermark moved
  CondVar keeper_cv_;
  std::vector<MemberRef> members_;
  std::vector<MemberRef> retired_;                                    // threads may still run
  std::vector<std::pair<uint64_t, std::shared_ptr<Event>>> closing_;  // by drive, those that left
  std::vector<std::shared_ptr<void>> trash_;  // freed by the keeper: closing a mirror is I/O
  MemberRef primary_;
  std::shared_ptr<RocksView> view_;  // of the primary; reused while nothing moved
  Position assigned_;
  Watermark visible_, durable_;
  Nanos late_checked_ = 0;
  Nanos undurable_since_ = 0;  // 0: all that is visible is durable, or was asked for
  bool interrupted_ = false, feed_ended_ = false, stop_ = false, keeper_idle_ = false;
  bool dead_ = false;
  std::string dead_reason_;
  std::thread keeper_;
};

// One mirror of the set; guarded by the set's mu_.
struct MirrorSet::Member {
  enum class State { kHeld, kJoining, kInSync };

  std::shared_ptr<RocksMirror> mirror;
  State state = State::kInSync;
  bool admitting = false;  // its admission is being recorded: the keeper leaves it alone
  std::deque<BatchRef> queue;
  size_t queue_bytes = 0;
  Position applied = 0, synced = 0;
  Position sync_first = 0,
           sync_wanted = 0;  // the next sync waits for the first, and is made for the second
  bool writing = false, syncing = false;
  bool gathering = false;             // the syncer waits for `expected` waiters before it syncs
  size_t expected = 0;                // follows how many waited for the last syncs
  Nanos write_for = 0, sync_for = 0;  // how long the keeper has watched the operation under way
  bool failed = false, retired = false;
  std::string failure;
  CondVar write_work, sync_work;  // for its writer (see kWriteBytes), for its syncer
  void WakeThreads() {
    write_work.NotifyAll();
    sync_work.NotifyAll();
  }
  int threads_running = 0;
  std::thread writer, syncer;
};

}  // namespace perigee::objectd::kv
