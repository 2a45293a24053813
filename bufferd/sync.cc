#include "bufferd/sync.h"

#include <algorithm>

#include "base/failpoint.h"
#include "base/log.h"

namespace perigee::bufferd {

using wire::BurstState;
using wire::Durability;

void Syncer::Add(const FilePtr& file) {
  if (core_.stopping) return;
  {
    std::lock_guard lock(file->mu);
    if (file->sync_queued || file->gone) return;
    file->sync_queued = true;
  }
  std::lock_guard lock(mu_);
  queue_.push_back(file);
  Arm(kGather);
}

// With mu_ held.
void Syncer::Arm(Nanos delay) {
  if (armed_ || running_ == kRunningMax) return;
  delay = std::max(delay, next_batch_ - core_.clock->Monotonic());
  armed_ = core_.work->PostAfter(delay, [this] { RunBatch(); }) != 0;
  if (armed_) ++running_;
}

std::vector<Syncer::Item> Syncer::TakeBatch() {
  std::lock_guard lock(mu_);
  std::vector<Item> batch;
  while (!queue_.empty() && batch.size() < kBatchMax) {
    batch.push_back({queue_.front()});
    queue_.pop_front();
  }
  armed_ = false;
  next_batch_ = core_.clock->Monotonic() + (batch.size() == kBatchMax ? 0 : kBatchEvery);
  return batch;
}

void Syncer::SyncData(Item* item) {
  PERIGEE_FAILPOINT(burst_sync_before_data);
  auto open = core_.store->Open(item->file->dir, item->file->burst, OpenMode::kRead);
  Status s = open.ok() ? (*open)->SyncData() : open.status();
  if (s.ok()) s = core_.store->SyncName(item->file->dir);
  item->synced = s.ok();
  if (s.ok()) {
    core_.stats->syncs->Add();
    return;
  }
  std::lock_guard lock(item->file->mu);
  if (item->file->gone) return;
  item->file->sync_failed = true;
  core_.stats->sync_failures->Add();
  core_.Report(Core::NameOf(*item->file) +
               ": background sync failed, stays unsynced: " + s.ToString());
}

// With the file's new class in its record. False when it was replaced meanwhile.
bool Syncer::Settle(const Item& item) {
  std::lock_guard lock(item.file->mu);
  BurstRecord& rec = item.file->rec;
  if (item.file->gone || rec.generation != item.generation || rec.ctime != item.ctime ||
      rec.home != item.home)
    return false;
  if (item.home == Home::kBurst) {
    rec.durability = std::max(rec.durability, Durability::kLocal);
    rec.synced_generation = std::max(rec.synced_generation, item.generation);
  } else if (item.home == Home::kInline && rec.registered) {
    rec.durability = Durability::kObject;
  } else {
    rec.resident_synced = true;
  }
  if (rec.state == BurstState::kSealed) rec.state = item.file->Settled();
  item.file->changed.NotifyAll();
  return true;
}

void Syncer::RunBatch() {
  std::vector<Item> batch = TakeBatch();
  bool inline_any = false;
  const uint64_t life = core_.Life();
  for (Item& item : batch) {
    std::lock_guard lock(item.file->mu);
    item.file->sync_queued = false;
    item.generation = item.file->rec.generation;
    item.ctime = item.file->rec.ctime;
    item.home = item.file->rec.home;
    item.registered_in = item.file->registered_in;
    if (item.file->gone || item.file->orphan || item.file->sync_failed) item.home = Home::kNone;
    if (item.home == Home::kInline && item.file->rec.durability != Durability::kObject)
      inline_any = true;
  }
  bool namespace_synced = true;
  // What fails is queued again, below.
  if (inline_any && !core_.stopping) namespace_synced = core_.SyncIn(life).ok();
  for (Item& item : batch) {
    if (item.home == Home::kNone || core_.stopping) continue;
    if (item.home != Home::kInline)
      SyncData(&item);
    else if (namespace_synced && item.registered_in != life)
      core_.recheck(item.file);
    else
      item.synced = namespace_synced;
  }
  PERIGEE_FAILPOINT(burst_sync_after_data);
  bool stored = true;
  for (Item& item : batch) {
    item.settled = item.synced && Settle(item);
    if (!item.settled) continue;
    if (Status s = core_.Save(item.file); !s.ok()) {
      stored = false;
      log::Error("burst_record_not_saved", {{"error", s}});
    }
  }
  if (!batch.empty() && stored && !core_.stopping) {
    Status s = core_.index->Sync();
    if (!s.ok()) {
      stored = false;
      log::Error("burst_index_not_synced", {{"error", s}});
    }
  }
  PERIGEE_FAILPOINT(burst_sync_after_index);
  bool again = false;
  for (const Item& item : batch) {
    if (core_.stopping) break;
    if (item.home == Home::kInline && !item.synced) again = true;
    if (item.settled && stored && item.home == Home::kBurst) {
      wire::SetDurabilityRequest q{
          .node = core_.node, .burst = item.file->burst, .generation = item.generation};
      {
        std::lock_guard lock(item.file->mu);
        q.id = item.file->rec.id;
        if (!item.file->rec.registered || item.file->orphan) q.id = 0;
      }
      // Not told now is told by the publish, by the flush, or at the next start.
      if (q.id != 0) core_.saves->SetDurability(q).status().Ignore();
      PERIGEE_FAILPOINT(burst_sync_after_commit);
    }
    core_.RetireIfUnneeded(item.file);
  }
  if (again) {
    for (const Item& item : batch) {
      if (item.home != Home::kInline || item.synced) continue;
      std::lock_guard file_lock(item.file->mu);
      if (item.file->sync_queued || item.file->gone) continue;
      item.file->sync_queued = true;
      std::lock_guard lock(mu_);
      queue_.push_back(item.file);
    }
  }
  core_.table->NotifyProgress();
  std::lock_guard lock(mu_);
  --running_;
  if (!queue_.empty() && !core_.stopping) Arm(again ? kSecond : 0);
}

}  // namespace perigee::bufferd
