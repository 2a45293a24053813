#include "objectd/kv/mirror_set.h"

#include <algorithm>

#include "base/failpoint.h"
#include "base/log.h"
#include "objectd/kv/membership_change.h"

namespace perigee::objectd::kv {
namespace {

// Of one mirror's queue; beyond it, commits wait.
constexpr size_t kQueueBytesMax = 8 << 20;
// Of the queue of a mirror that is being copied to; beyond it, the copy fails.
constexpr size_t kHeldQueueBytesMax = 64 << 20;
// Of the queue of a mirror that is not the primary; with more in it, it is written without waiting
// for a sync. The syncer writes what is left, so that commits wake one thread for all of them.
constexpr size_t kWriteBytes = 1 << 20;
// That one committer writes for others.
constexpr size_t kDrainBatchesMax = 64;

}  // namespace

MirrorSet::MirrorSet(Options options, std::vector<std::shared_ptr<RocksMirror>> mirrors,
                     Position position)
    : options_(options), assigned_(position), visible_(position), durable_(position) {
  for (auto& mirror : mirrors) {
    auto member = std::make_shared<Member>();
    member->mirror = std::move(mirror);
    member->applied = member->synced = position;
    members_.push_back(std::move(member));
  }
  primary_ = members_.front();
  KvMetrics::Show(options_.metrics.in_sync, static_cast<double>(members_.size()));
}

Status MirrorSet::DeadLocked() const {
  if (!dead_) return Status::Ok();
  return Status(Code::kUnavailable, "the metadata store is down: " + dead_reason_);
}

void MirrorSet::Enqueue(BatchRef batch) {
  std::lock_guard lock(mu_);
  if (dead_) return;  // the committer finds out when it waits
  PERIGEE_CHECK(batch->position > assigned_);
  assigned_ = batch->position;
  for (const MemberRef& m : members_) {
    if (m->failed) continue;
    m->queue.push_back(batch);
    m->queue_bytes += batch->bytes.size();
    if (m->state == Member::State::kHeld) {
      if (m->queue_bytes > kHeldQueueBytesMax)
        FailLocked(m, "commits came faster than the copy could follow");
    } else if (m != primary_ && !m->writing && m->queue_bytes > kWriteBytes) {
      m->write_work.NotifyAll();
    }
    WakeSyncerLocked(m);
  }
  WakeKeeperLocked();
}

bool MirrorSet::DrainLocked(Lock& lock, const MemberRef& m, size_t batches_max) {
  if (m->writing || m->queue.empty() || m->failed || m->retired) return false;
  m->writing = true;
  Watermark::Woken woken;
  for (size_t n = 0; n < batches_max && !m->queue.empty() && !m->failed && !m->retired; ++n) {
    BatchRef batch = std::move(m->queue.front());
    m->queue.pop_front();
    m->queue_bytes -= batch->bytes.size();
    m->write_for = 0;
    lock.unlock();
    Watermark::Wake(woken);
    woken.clear();
    Status st = m->mirror->Write(batch->bytes);
    lock.lock();
    if (!st.ok()) {
      FailLocked(m, st.message());
      break;
    }
    m->applied = batch->position;
    if (m == primary_) woken = AdvanceVisibleLocked(m->applied);
    WakeSyncerLocked(m);
  }
  if (!woken.empty()) {
    lock.unlock();
    Watermark::Wake(woken);
    lock.lock();
  }
  m->writing = false;
  WakeSyncerLocked(m);
  if (!m->queue.empty()) {
    // Of the primary, one who waits for what is written next goes on.
    Watermark::Woken next = m == primary_ ? visible_.TakeFirst() : Watermark::Woken();
    if (next.empty()) m->write_work.NotifyAll();
    Watermark::Wake(next);
  }
  commit_cv_.NotifyAll();
  return true;
}

Watermark::Woken MirrorSet::AdvanceVisibleLocked(Position position) {
  if (position <= visible_.at()) return {};
  if (undurable_since_ == 0) undurable_since_ = options_.clock->Monotonic();
  feed_cv_.NotifyAll();
  return visible_.MoveTo(position);
}

Status MirrorSet::WaitVisible(Position position) {
  for (;;) {
    Watermark::Waiter waiter;
    {
      Lock lock(mu_);
      PERIGEE_TRY(DeadLocked());
      if (visible_.at() >= position) return Status::Ok();
      MemberRef primary = primary_;
      if (DrainLocked(lock, primary, kDrainBatchesMax)) continue;
      visible_.Add(position, &waiter);
    }
    waiter.woken.Wait();
    if (waiter.reached) return Status::Ok();
  }
}

Status MirrorSet::WaitRoom() {
  Lock lock(mu_);
  auto full = [](const MemberRef& m) {
    return m->state != Member::State::kHeld && !m->failed && m->queue_bytes > kQueueBytesMax;
  };
  while (!dead_ && std::any_of(members_.begin(), members_.end(), full)) commit_cv_.Wait(lock);
  return DeadLocked();
}

void MirrorSet::RequestSyncLocked(Position position) {
  for (const MemberRef& m : members_) {
    if (m->state == Member::State::kHeld || m->sync_wanted >= position) continue;
    if (m->sync_wanted <= m->synced) m->sync_first = position;
    m->sync_wanted = position;
  }
  for (const MemberRef& m : members_) WakeSyncerLocked(m);
  WakeKeeperLocked();
}

// The next sync has something to do. The queue of the primary is written by those who commit.
bool MirrorSet::SyncIsDueLocked(const MemberRef& m) const {
  const Position reach =
      m == primary_ || m->queue.empty() ? m->applied : m->queue.back()->position;
  return m->state != Member::State::kHeld && !m->failed && m->sync_wanted > m->synced &&
         reach >= m->sync_first && reach > m->synced;
}

void MirrorSet::WakeSyncerLocked(const MemberRef& m) {
  if (!m->syncing && SyncIsDueLocked(m) && (!m->gathering || durable_.waiting() >= m->expected))
    m->sync_work.NotifyAll();
}

Status MirrorSet::WaitDurable(Position position) {
  for (bool reached = false; !reached;) {
    Watermark::Waiter waiter;
    {
      Lock lock(mu_);
      if (position > assigned_)
        return Status(Code::kInvalidArgument, "no commit has this position yet");
      PERIGEE_TRY(DeadLocked());
      if (durable_.at() >= position) break;
      durable_.Add(position, &waiter);
      RequestSyncLocked(position);
    }
    waiter.woken.Wait();
    reached = waiter.reached;
  }
  PERIGEE_FAILPOINT(kv_durable_before_reply);
  return Status::Ok();
}

Watermark::Woken MirrorSet::UpdateDurableLocked() {
  Position least = Position(-1);
  for (const MemberRef& m : members_) {
    // One that failed counts until its ejection is durable.
    if (m->state != Member::State::kHeld) least = std::min(least, m->synced);
  }
  if (least == Position(-1) || least <= durable_.at()) return {};
  undurable_since_ = visible_.at() > least ? options_.clock->Monotonic() : 0;
  feed_cv_.NotifyAll();
  return durable_.MoveTo(least);
}

bool MirrorSet::WaitMoved(Position seen_visible, Position seen_durable, Nanos timeout) {
  Lock lock(mu_);
  feed_cv_.WaitFor(lock, timeout, [&] {
    return visible_.at() > seen_visible || durable_.at() > seen_durable || dead_ || interrupted_ ||
           feed_ended_;
  });
  return !feed_ended_;
}

void MirrorSet::EndFeedWaits() {
  std::lock_guard lock(mu_);
  feed_ended_ = true;
  feed_cv_.NotifyAll();
}

Position MirrorSet::visible() {
  std::lock_guard lock(mu_);
  return visible_.at();
}

Position MirrorSet::durable() {
  std::lock_guard lock(mu_);
  return durable_.at();
}

Result<std::shared_ptr<RocksView>> MirrorSet::AcquireView() {
  Lock lock(mu_);
  for (;;) {
    PERIGEE_TRY(DeadLocked());
    if (view_ && view_->position() >= visible_.at()) return view_;
    MemberRef primary = primary_;
    if (primary->applied < visible_.at()) {  // it took over a moment ago, and catches up
      if (!DrainLocked(lock, primary, kDrainBatchesMax)) commit_cv_.Wait(lock);
      continue;
    }
    lock.unlock();
    Result<std::shared_ptr<RocksView>> taken = RocksView::Take(primary->mirror);
    lock.lock();
    if (!taken.ok()) {
      FailLocked(primary, taken.status().message());
      continue;
    }
    std::shared_ptr<RocksView> view = std::move(*taken);
    if (primary != primary_) {
      trash_.push_back(std::move(view));
      WakeKeeperLocked();
      continue;
    }
    // It may hold a commit whose writer has not come back to say so.
    Watermark::Wake(AdvanceVisibleLocked(view->position()));
    std::shared_ptr<RocksView> old = view_;
    if (!view_ || view_->position() < view->position()) view_ = view;
    lock.unlock();
    return view;
  }
}

bool MirrorSet::ReadFailed(const RocksView& view) {
  Lock lock(mu_);
  for (const MemberRef& m : members_) {
    if (m->mirror != view.mirror() || m->failed) continue;
    // Of the last one, what can be read is better than nothing.
    if (m->state != Member::State::kInSync || HealthyLocked() <= 1) return false;
    FailLocked(m, view.failure().message());
    return true;
  }
  return !dead_;  // it was ejected before: the next view is of another
}

size_t MirrorSet::HealthyLocked() const {
  return std::count_if(members_.begin(), members_.end(), [](const MemberRef& m) {
    return m->state == Member::State::kInSync && !m->failed;
  });
}

void MirrorSet::PickPrimaryLocked() {
  auto healthy = std::find_if(members_.begin(), members_.end(), [](const MemberRef& m) {
    return m->state == Member::State::kInSync && !m->failed;
  });
  if (healthy == members_.end() || *healthy == primary_) return;
  primary_ = *healthy;
  if (view_) trash_.push_back(std::move(view_));
  view_ = nullptr;
  Watermark::Wake(AdvanceVisibleLocked(primary_->applied));
  primary_->WakeThreads();
}

void MirrorSet::FailLocked(const MemberRef& m, const std::string& reason) {
  if (m->failed || m->retired) return;
  m->failed = true;
  m->failure = reason;
  m->queue.clear();
  m->queue_bytes = 0;
  log::Warn("metadata_mirror_failed", {{"dir", m->mirror->place().dir}, {"reason", reason}});
  if (HealthyLocked() == 0) return DieLocked(reason);
  PickPrimaryLocked();
  keeper_cv_.NotifyAll();
  NotifyAllLocked();
}

void MirrorSet::DieLocked(const std::string& reason) {
  if (dead_) return;
  dead_ = true;
  dead_reason_ = reason;
  log::Error("metadata_store_down", {{"reason", reason}});
  KvMetrics::Show(options_.metrics.in_sync, 0);
  for (const MemberRef& m : members_) {
    m->queue.clear();
    m->queue_bytes = 0;
  }
  NotifyAllLocked();
}

void MirrorSet::RetireLocked(const MemberRef& m) {
  m->retired = true;
  m->queue.clear();
  m->queue_bytes = 0;
  m->WakeThreads();
  retired_.push_back(m);
  std::erase_if(closing_, [](const auto& closing) { return closing.second->IsSet(); });
  closing_.emplace_back(m->mirror->place().drive_id, m->mirror->closed());
  std::erase(members_, m);
  KvMetrics::Show(options_.metrics.in_sync, static_cast<double>(HealthyLocked()));
  Watermark::Wake(UpdateDurableLocked());
  NotifyAllLocked();
  keeper_cv_.NotifyAll();
}

void MirrorSet::NotifyAllLocked() {
  Watermark::Wake(visible_.TakeAll());
  Watermark::Wake(durable_.TakeAll());
  commit_cv_.NotifyAll();
  members_cv_.NotifyAll();
  feed_cv_.NotifyAll();
}

void MirrorSet::WakeKeeperLocked() {
  if (keeper_idle_) keeper_cv_.NotifyAll();
}

std::vector<uint64_t> MirrorSet::InSync() {
  std::lock_guard lock(mu_);
  std::vector<uint64_t> out;
  if (dead_) return out;
  for (const MemberRef& m : members_) {
    if (m->state == Member::State::kInSync && !m->failed)
      out.push_back(m->mirror->place().drive_id);
  }
  return out;
}

void MirrorSet::Reclaim() {
  std::vector<std::shared_ptr<RocksMirror>> mirrors;
  {
    std::lock_guard lock(mu_);
    for (const MemberRef& m : members_)
      if (!m->failed && m->state == Member::State::kInSync) mirrors.push_back(m->mirror);
  }
  for (const auto& mirror : mirrors) {
    if (Status s = mirror->Reclaim(); !s.ok())
      log::Warn("metadata_reclaim_failed", {{"dir", mirror->place().dir}, {"error", s}});
  }
}

bool MirrorSet::Has(uint64_t drive_id) {
  std::lock_guard lock(mu_);
  return std::any_of(members_.begin(), members_.end(),
                     [&](const MemberRef& m) { return m->mirror->place().drive_id == drive_id; });
}

Status MirrorSet::WaitClosed(uint64_t drive_id) {
  std::vector<std::shared_ptr<Event>> closing;
  {
    std::lock_guard lock(mu_);
    for (const auto& [drive, closed] : closing_) {
      if (drive == drive_id) closing.push_back(closed);
    }
  }
  for (const std::shared_ptr<Event>& closed : closing) {
    if (!closed->WaitFor(options_.late_after))
      return Status(Code::kBusy, "the mirror that was on this drive is not closed yet");
  }
  return Status::Ok();
}

Status MirrorSet::Eject(uint64_t drive_id, const std::string& reason) {
  Lock lock(mu_);
  auto is_it = [&](const MemberRef& m) { return m->mirror->place().drive_id == drive_id; };
  auto found = std::find_if(members_.begin(), members_.end(), is_it);
  if (found == members_.end()) return DeadLocked();
  FailLocked(MemberRef(*found), reason);
  while (!dead_ && std::any_of(members_.begin(), members_.end(), is_it)) members_cv_.Wait(lock);
  return DeadLocked();
}

MirrorSet::MemberRef MirrorSet::Attach(std::shared_ptr<RocksMirror> mirror) {
  std::lock_guard lock(mu_);
  auto member = std::make_shared<Member>();
  member->mirror = std::move(mirror);
  member->state = Member::State::kHeld;
  members_.push_back(member);
  StartThreadsLocked(member);
  return member;
}

Status MirrorSet::Join(const MemberRef& m, Position position) {
  Lock lock(mu_);
  // Not before what is durable now; and from now on durable waits for this mirror.
  Position goal = assigned_;
  m->applied = m->synced = position;
  m->state = Member::State::kJoining;
  if (goal > position) {
    RequestSyncLocked(goal);
    m->sync_first = m->sync_wanted = goal;  // the others may have been asked long ago
  }
  m->WakeThreads();
  while (!dead_ && !interrupted_ && !m->failed && m->synced < goal) members_cv_.Wait(lock);
  PERIGEE_TRY(DeadLocked());
  if (m->failed) return Status(Code::kIo, m->failure);
  if (interrupted_) return Status(Code::kCancelled, "the store is stopping");
  return Status::Ok();
}

Status MirrorSet::Admit(const MemberRef& m) {
  Lock lock(mu_);
  PERIGEE_TRY(DeadLocked());
  if (m->failed || m->retired) return Status(Code::kIo, m->failure);
  m->admitting = true;
  lock.unlock();
  Status st = AdmitDurably(options_.membership, m->mirror->place());
  // Whether it took effect is not known then: only an ejection makes it certain.
  Status undone =
      st.ok() ? Status::Ok() : EjectDurably(options_.membership, m->mirror->place(), st.message());
  lock.lock();
  m->admitting = false;
  if (st.ok()) m->state = Member::State::kInSync;
  if (!undone.ok()) DieLocked(undone.message());
  // One that failed meanwhile is the keeper's now, which ejects it.
  KvMetrics::Show(options_.metrics.in_sync, static_cast<double>(HealthyLocked()));
  keeper_cv_.NotifyAll();
  NotifyAllLocked();
  PERIGEE_TRY(DeadLocked());
  return st;
}

void MirrorSet::Drop(const MemberRef& m) {
  std::lock_guard lock(mu_);
  if (m->retired) return;
  m->failed = true;
  RetireLocked(m);
}

}  // namespace perigee::objectd::kv
