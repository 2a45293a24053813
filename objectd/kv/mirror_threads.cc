// The threads of a MirrorSet: a writer and a syncer for each mirror, and one keeper.

#include <pthread.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "objectd/kv/membership_change.h"
#include "objectd/kv/mirror_set.h"

namespace perigee::objectd::kv {
namespace {

constexpr Nanos kSyncAfter = kSecond;  // of commits that nobody waits for
constexpr Nanos kKeeperPollMax = kSecond / 2;
constexpr Nanos kGatherMax = 4 * kMillisecond;
constexpr int kNice = -10;

// Whoever commits waits for the writers and syncers, which need little of a processor, but at once.
void GoFirst() {
  // Not allowed: then in turn with everybody else.
  (void)setpriority(PRIO_PROCESS, static_cast<id_t>(gettid()), kNice);
}

}  // namespace

void MirrorSet::Start() {
  std::lock_guard lock(mu_);
  for (const MemberRef& m : members_) StartThreadsLocked(m);
  keeper_ = std::thread([this] {
    pthread_setname_np(pthread_self(), "kv-keeper");
    KeeperLoop();
  });
}

void MirrorSet::StartThreadsLocked(const MemberRef& m) {
  m->threads_running = 2;
  m->writer = std::thread([this, m] {
    pthread_setname_np(pthread_self(), "kv-write");
    GoFirst();
    WriterLoop(m);
  });
  m->syncer = std::thread([this, m] {
    pthread_setname_np(pthread_self(), "kv-sync");
    GoFirst();
    SyncerLoop(m);
  });
}

MirrorSet::~MirrorSet() { Stop(); }

void MirrorSet::Interrupt() {
  std::lock_guard lock(mu_);
  interrupted_ = true;
  NotifyAllLocked();
}

void MirrorSet::Stop() {
  Interrupt();
  if (!keeper_.joinable()) return;
  Status st = WaitDurable(visible());
  if (!st.ok()) log::Warn("metadata_store_stopped_unsynced", {{"error", st}});
  {
    std::lock_guard lock(mu_);
    stop_ = true;
    for (const MemberRef& m : members_) m->WakeThreads();
    keeper_cv_.NotifyAll();
  }
  keeper_.join();
  std::vector<MemberRef> all;
  {
    std::lock_guard lock(mu_);
    all.swap(members_);
    all.insert(all.end(), retired_.begin(), retired_.end());
    retired_.clear();
  }
  for (const MemberRef& m : all) {
    m->writer.join();
    m->syncer.join();
  }
  view_ = nullptr;
  primary_ = nullptr;
  trash_.clear();
}

void MirrorSet::WriterLoop(MemberRef m) {
  Lock lock(mu_);
  while (!m->retired && !stop_) {
    bool drained = m->state != Member::State::kHeld && DrainLocked(lock, m, m->queue.size());
    if (!drained) m->write_work.Wait(lock);
  }
  --m->threads_running;
  keeper_cv_.NotifyAll();
}

void MirrorSet::SyncerLoop(MemberRef m) {
  Lock lock(mu_);
  while (!m->retired && !stop_) {
    if (!SyncIsDueLocked(m)) {
      m->sync_work.Wait(lock);
      continue;
    }
    GatherLocked(lock, m);
    if (!SyncIsDueLocked(m)) continue;
    if (m != primary_) {
      if (m->writing) {
        m->sync_work.Wait(lock);  // whoever writes wakes this
        continue;
      }
      DrainLocked(lock, m, m->queue.size());
      if (m->failed || m->applied <= m->synced) continue;
    }
    m->expected = std::max(durable_.waiting() * 3 / 4, m->expected - (m->expected + 7) / 8);
    Position target = m->applied;
    m->syncing = true;
    m->sync_for = 0;
    lock.unlock();
    Status st = m->mirror->Sync();
    KvMetrics::Count(options_.metrics.syncs);
    lock.lock();
    m->syncing = false;
    if (!st.ok()) {
      FailLocked(m, st.message());
      continue;
    }
    m->synced = std::max(m->synced, target);
    if (m->sync_wanted > m->synced) m->sync_first = m->sync_wanted;
    members_cv_.NotifyAll();  // one that joins waits for its own position
    Watermark::Woken woken = UpdateDurableLocked();
    lock.unlock();
    Watermark::Wake(woken);
    lock.lock();
  }
  --m->threads_running;
  keeper_cv_.NotifyAll();
}

void MirrorSet::GatherLocked(Lock& lock, const MemberRef& m) {
  const Nanos until = RealClock::Get().Monotonic() + kGatherMax;
  m->gathering = true;
  while (durable_.waiting() < m->expected && !m->retired && !stop_ && SyncIsDueLocked(m)) {
    const Nanos left = until - RealClock::Get().Monotonic();
    if (left <= 0 || !m->sync_work.WaitFor(lock, left)) break;
  }
  m->gathering = false;
}

void MirrorSet::KeeperLoop() {
  Lock lock(mu_);
  while (!stop_) {
    if (EjectFailedLocked(lock) || ReapLocked(lock)) continue;
    FailLateLocked();
    if (visible_.at() > durable_.at() && undurable_since_ != 0 &&
        options_.clock->Monotonic() - undurable_since_ >= kSyncAfter) {
      undurable_since_ = 0;
      RequestSyncLocked(visible_.at());
    }
    if (!trash_.empty()) {
      std::vector<std::shared_ptr<void>> trash = std::move(trash_);
      trash_.clear();
      lock.unlock();
      trash.clear();
      lock.lock();
      continue;
    }
    if (BusyLocked()) {
      keeper_cv_.WaitFor(lock, KeeperPoll());
    } else {
      keeper_idle_ = true;
      keeper_cv_.Wait(lock);
      keeper_idle_ = false;
    }
  }
}

bool MirrorSet::BusyLocked() {
  if (dead_) return !retired_.empty();
  if (visible_.at() > durable_.at() || !retired_.empty()) return true;
  return std::any_of(members_.begin(), members_.end(), [](const MemberRef& m) {
    return m->failed || m->writing || m->syncing || !m->queue.empty();
  });
}

// False when there was nothing to do.
bool MirrorSet::EjectFailedLocked(Lock& lock) {
  if (dead_) return false;
  auto found = std::find_if(members_.begin(), members_.end(),
                            [](const MemberRef& m) { return m->failed && !m->admitting; });
  if (found == members_.end()) return false;
  MemberRef m = *found;
  if (m->state == Member::State::kInSync) {
    lock.unlock();
    Status st = EjectDurably(options_.membership, m->mirror->place(), m->failure);
    lock.lock();
    if (!st.ok()) {
      DieLocked(st.message());
      return true;
    }
    KvMetrics::Count(options_.metrics.ejected);
  }
  if (!m->retired) RetireLocked(m);
  return true;
}

bool MirrorSet::ReapLocked(Lock& lock) {
  auto found = std::find_if(retired_.begin(), retired_.end(),
                            [](const MemberRef& m) { return m->threads_running == 0; });
  if (found == retired_.end()) return false;
  MemberRef m = *found;
  retired_.erase(found);
  lock.unlock();
  m->writer.join();
  m->syncer.join();
  m.reset();  // closes the mirror, unless a reader still has it
  lock.lock();
  return true;
}

Nanos MirrorSet::KeeperPoll() const {
  return std::clamp<Nanos>(options_.late_after / 4, kMillisecond, kKeeperPollMax);
}

void MirrorSet::FailLateLocked() {
  Nanos now = options_.clock->Monotonic();
  Nanos passed = std::min(now - std::exchange(late_checked_, now), 2 * KeeperPoll());
  std::vector<MemberRef> late;
  bool one_on_time = false;
  for (const MemberRef& m : members_) {
    if (m->failed) continue;
    if (m->writing) m->write_for += passed;
    if (m->syncing) m->sync_for += passed;
    if ((m->writing && m->write_for > options_.late_after) ||
        (m->syncing && m->sync_for > options_.late_after)) {
      late.push_back(m);
    } else if (m->state == Member::State::kInSync) {
      one_on_time = true;
    }
  }
  for (const MemberRef& m : late) {
    if (!one_on_time && m->state == Member::State::kInSync) continue;
    bool in_write = m->writing && m->write_for > options_.late_after;
    FailLocked(m, std::string(in_write ? "a write" : "a sync") + " took longer than " +
                      std::to_string(options_.late_after / kMillisecond) + " ms");
  }
}

}  // namespace perigee::objectd::kv
