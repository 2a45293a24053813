#include "bufferd/flush.h"

#include <fcntl.h>

#include "base/checksum.h"
#include "base/failpoint.h"
#include "base/log.h"

namespace perigee::bufferd {

using wire::BurstState;
using wire::Durability;

namespace {

constexpr size_t kReadBytes = 4 << 20;

// crc32c of each block of a stream that arrives in pieces of any size.
class BlockCrcs {
 public:
  void Append(ConstBytes data) {
    while (!data.empty()) {
      size_t take = std::min<size_t>(data.size(), kCrcBlockBytes - filled_);
      crc_ = filled_ == 0 ? Crc32c(data.first(take)) : Crc32cExtend(crc_, data.first(take));
      filled_ += take;
      data = data.subspan(take);
      if (filled_ == kCrcBlockBytes) Close();
    }
  }
  void Close() {
    if (filled_ != 0) crcs.push_back(crc_);
    filled_ = 0;
  }
  std::vector<uint32_t> crcs;

 private:
  uint32_t crc_ = 0;
  size_t filled_ = 0;
};

}  // namespace

void Flusher::Add(const FilePtr& file) {
  Nanos sealed_at;
  {
    std::lock_guard lock(file->mu);
    if (!file->Flushable()) return;
    sealed_at = file->sealed_at;
  }
  {
    std::lock_guard lock(mu_);
    queue_.Add(file->burst, sealed_at);
  }
  Pump();
}

void Flusher::Force(const FilePtr& file) {
  {
    std::lock_guard lock(mu_);
    queue_.Force(file->burst);
  }
  Pump();
}

void Flusher::ForceOldest() {
  for (const FilePtr& file : core_.table->All()) {
    std::lock_guard lock(mu_);
    queue_.Force(file->burst);
  }
  Pump();
}

void Flusher::Hold(bool on) {
  {
    std::lock_guard lock(mu_);
    queue_.Hold(on);
  }
  Pump();
}

bool Flusher::held() const {
  std::lock_guard lock(mu_);
  return queue_.held();
}

size_t Flusher::running() const {
  std::lock_guard lock(mu_);
  return queue_.running();
}

void Flusher::Pump() {
  std::lock_guard lock(mu_);
  if (core_.stopping) return;
  Nanos now = core_.clock->Monotonic();
  while (auto burst = queue_.Next(now)) {
    if (Status s = core_.flush->Post([this, b = *burst] { RunOne(b); }); !s.ok()) {
      queue_.Failed(*burst, now);
      break;
    }
  }
  auto wake = queue_.NextWake();
  if (!wake || (wake_at_ != 0 && wake_at_ <= *wake)) return;
  wake_at_ = std::max(*wake, now + kMillisecond);
  auto fired = [this] {
    {
      std::lock_guard inner(mu_);
      wake_at_ = 0;
    }
    Pump();
  };
  if (core_.work->PostAfter(wake_at_ - now, fired) == 0) wake_at_ = 0;
}

void Flusher::RunOne(wire::BurstId burst) {
  FilePtr file = core_.table->Find(burst);
  bool start = false;
  if (file && !core_.stopping) {
    std::lock_guard lock(file->mu);
    start = file->Flushable();
    if (start) {
      file->flush_cancel = false;
      file->rec.state = BurstState::kFlushing;
    }
  }
  if (!start) {
    {
      std::lock_guard lock(mu_);
      queue_.Remove(burst);
    }
    return Pump();
  }
  Status s =
      Copy(file, [this, file] { return file->flush_cancel.load() || core_.stopping.load(); });
  bool removed, changed;
  {
    std::lock_guard lock(file->mu);
    changed = s.Is(Code::kConflict) && !file->flush_cancel && !core_.stopping;
    if (file->rec.state == BurstState::kFlushing)
      file->rec.state = changed ? BurstState::kPublished : file->Settled();
    if (s.Is(Code::kStale) || s.Is(Code::kNotFound)) file->needs_reconcile = true;
    removed = s.ok() || changed || file->orphan || file->corrupt || IsGone(s) || file->flush_cancel;
    file->flush_cancel = false;
    file->changed.NotifyAll();
  }
  if (!s.ok()) {
    if (s.Is(Code::kCancelled))
      core_.stats->flush_cancelled->Add();
    else {
      core_.stats->flush_failures->Add();
      if (!core_.stopping) log::Warn("flush_failed", {{"burst", HexEncode64(burst)}, {"error", s}});
    }
  }
  {
    std::lock_guard lock(mu_);
    if (removed)
      queue_.Done(burst);
    else
      queue_.Failed(burst, core_.clock->Monotonic());
  }
  if (changed) on_changed_(file);
  core_.RetireIfUnneeded(file);
  core_.table->NotifyProgress();
  Pump();
}

void Flusher::FoundCorrupt(const FilePtr& file, uint64_t block) {
  core_.stats->corrupt_files->Add();
  std::string name;
  {
    std::lock_guard lock(file->mu);
    file->corrupt = true;
    name = Core::NameOf(*file);
  }
  core_.Report(name + ": block " + std::to_string(block) +
               " fails its checksum; kept, not flushed");
}

Status Flusher::Copy(const FilePtr& file, const std::function<bool()>& cancelled) {
  uint64_t generation, size;
  FileStat expected;
  {
    std::lock_guard lock(file->mu);
    generation = file->rec.generation;
    size = file->rec.size;
    expected = {size, file->rec.mtime, file->rec.ctime, 0};
  }
  PERIGEE_ASSIGN(auto open, core_.store->Open(file->dir, file->burst, OpenMode::kRead));
  PERIGEE_ASSIGN(FileStat before, StoreDir::Stat(*open));
  // A writer moves the times, also when it truncates; rot does not.
  if (core_.store->fine_timestamps() && !before.SameTimes(expected)) {
    return Status(Code::kConflict, "burst file changed after it was sealed");
  }
  if (before.size != size) {
    FoundCorrupt(file, before.size / kCrcBlockBytes);
    return Status(Code::kCorrupt, "burst file has " + std::to_string(before.size) +
                                      " bytes, its record says " + std::to_string(size));
  }
  // Advice only.
  (void)::posix_fadvise(open->fd(), 0, 0, POSIX_FADV_SEQUENTIAL);
  auto known = core_.index->GetCrcs(file->burst);
  bool check = known.ok() && known->generation == generation && known->size == size;
  if (!known.ok() && !known.status().Is(Code::kNotFound)) return std::move(known).TakeStatus();
  auto writer = core_.make_writer({.size_hint = size, .cancelled = cancelled});
  BlockCrcs crcs;
  size_t checked = 0;
  for (uint64_t at = 0; at < size;) {
    if (cancelled()) return Status(Code::kCancelled, "opened again");
    PERIGEE_ASSIGN(MutableBytes into, writer->Reserve(std::min<uint64_t>(kReadBytes, size - at)));
    PERIGEE_ASSIGN(size_t got, open->ReadAt(at, into));
    if (got == 0) return Status(Code::kConflict, "burst file shrank while it was copied");
    crcs.Append(into.first(got));
    if (at + got == size) crcs.Close();
    for (; check && checked < crcs.crcs.size(); ++checked) {
      if (crcs.crcs[checked] == known->crcs[checked]) continue;
      if (cancelled()) return Status(Code::kCancelled, "opened again");
      FoundCorrupt(file, checked);
      return Status(Code::kCorrupt, "burst file fails its checksum");
    }
    PERIGEE_TRY(writer->Commit(got));
    at += got;
  }
  PERIGEE_ASSIGN(client::WrittenObject object, writer->Finish());
  auto commit = [&]() -> Status {
    if (cancelled()) return Status(Code::kCancelled, "opened again");
    PERIGEE_ASSIGN(FileStat after, StoreDir::Stat(*open));
    if (!after.SameContent(before)) {
      return Status(Code::kConflict, "burst file changed while it was copied");
    }
    if (!check)
      PERIGEE_TRY(core_.index->PutCrcs(
          file->burst, {.generation = generation, .size = size, .crcs = crcs.crcs}));
    return Commit(file, generation, std::move(object));
  };
  Status committed = commit();
  writer->GiveUp();
  return committed;
}

Status Flusher::Commit(const FilePtr& file, uint64_t generation, client::WrittenObject object) {
  wire::CommitFlushRequest q{.node = core_.node, .burst = file->burst, .generation = generation};
  {
    std::lock_guard lock(file->mu);
    q.id = file->rec.id;
  }
  uint64_t bytes = object.bytes;
  q.extents = std::move(object.extents);
  q.list_id = object.list_id;
  q.intents = std::move(object.intents);
  PERIGEE_FAILPOINT_STATUS(burst_flush_before_commit);
  PERIGEE_TRY(core_.flushes->CommitFlush(q).status());
  PERIGEE_FAILPOINT(burst_flush_after_commit);
  {
    std::lock_guard lock(file->mu);
    if (file->rec.generation != generation) return Status::Ok();
    file->rec.home = Home::kBlobs;
    file->rec.durability = Durability::kObject;
    file->rec.resident_synced = file->rec.synced_generation == generation;
    file->residency.Change(RangeState::kDirty, RangeState::kResident);
  }
  PERIGEE_TRY(core_.Save(file));
  PERIGEE_FAILPOINT(burst_flush_after_record);
  core_.stats->files_flushed->Add();
  core_.stats->bytes_flushed->Add(static_cast<double>(bytes));
  return Status::Ok();
}

void Flusher::CancelAndWait(const FilePtr& file) {
  std::unique_lock lock(file->mu);
  if (file->rec.state == BurstState::kFlushing) {
    file->flush_cancel = true;
    file->changed.Wait(lock,
                       [&] { return file->rec.state != BurstState::kFlushing || file->gone; });
  }
}

Status Flusher::FlushOpen(const FilePtr& file) {
  BusyHold hold(file);
  if (!hold.held()) return Status::Ok();
  {
    std::lock_guard lock(file->mu);
    if (file->orphan || !file->OnlyCopy()) return Status::Ok();
    if (file->rec.home != Home::kBurst || !file->rec.registered)
      return Status(Code::kUnavailable, "not registered yet");
    if (file->rec.state == BurstState::kFlushing) return Status(Code::kConflict, "being flushed");
  }
  Status s = Copy(file, [this] { return core_.stopping.load(); });
  core_.table->NotifyProgress();
  return s;
}

}  // namespace perigee::bufferd
