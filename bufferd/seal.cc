#include "bufferd/seal.h"

#include <algorithm>

#include "base/checksum.h"
#include "base/failpoint.h"
#include "base/log.h"

namespace perigee::bufferd {

using wire::BurstState;
using wire::Durability;

namespace {

constexpr Nanos kRefusedMost = 2 * kSecond;
constexpr Nanos kObjectdRetry = kSecond;
constexpr Nanos kQuietWithoutLeases = 10 * kSecond;

}  // namespace

void Sealer::Queue(const FilePtr& file, Nanos delay) {
  if (core_.stopping) return;
  {
    std::lock_guard lock(file->mu);
    if (file->seal_queued || file->gone || file->writers > 0) return;
    file->seal_queued = true;
  }
  const Nanos due = core_.clock->Monotonic() + delay;
  if (delay <= kFirstTest) return Await(file, due);
  if (core_.work->PostAfter(delay, [this, file, due] { Await(file, due); }) == 0) {
    std::lock_guard lock(file->mu);
    file->seal_queued = false;
  }
}

void Sealer::Await(const FilePtr& file, Nanos due) {
  std::lock_guard lock(mu_);
  waiting_.push_back({file, due});
  if (!armed_) Arm();
}

// With mu_ held. One that comes alone is tested when it is due.
void Sealer::Arm() {
  const Nanos at = std::max(waiting_.front().due, next_pass_);
  armed_ = core_.work->PostAfter(std::max<Nanos>(0, at - core_.clock->Monotonic()),
                                 [this] { Pass(); }) != 0;
}

std::vector<FilePtr> Sealer::TakeDue() {
  std::lock_guard lock(mu_);
  const Nanos now = core_.clock->Monotonic();
  std::vector<FilePtr> due;
  while (!waiting_.empty() && waiting_.front().due <= now && due.size() < wire::kEndWritesMax) {
    due.push_back(std::move(waiting_.front().file));
    waiting_.pop_front();
  }
  next_pass_ = due.size() == wire::kEndWritesMax ? now : now + kPassEvery;
  return due;
}

// With the file's lock held: nobody can write to it any more.
bool Sealer::Quiet(const FilePtr& file) {
  if (core_.store->leases()) {
    Result<bool> unwritten = core_.store->Unwritten(file->dir, file->burst);
    if (unwritten.ok()) return *unwritten;
    log::Warn("seal_test_failed",
              {{"burst", HexEncode64(file->burst)}, {"error", unwritten.status()}});
    return false;
  }
  auto open = core_.store->Open(file->dir, file->burst, OpenMode::kRead);
  if (!open.ok()) return false;
  auto stat = StoreDir::Stat(**open);
  return stat.ok() && stat->mtime + kQuietWithoutLeases <= core_.clock->Wall();
}

// What nobody writes any more is held busy. The others are tested again later, if at all.
bool Sealer::Hold(const FilePtr& file) {
  Nanos again = 0;
  {
    std::lock_guard lock(file->mu);
    file->seal_queued = false;
    if (core_.stopping || file->gone || file->writers > 0 || !file->Unsealed()) return false;
    // Replaced. One whose write goes on had it taken over by another node, and was read here since.
    if (file->superseded && !file->rec.writing) return false;
    if (file->busy) {
      again = kFirstTest;
    } else if (!Quiet(file)) {
      core_.stats->seal_refusals->Add();
      again =
          std::min<Nanos>(kRefusedMost, kFirstTest << std::min<uint32_t>(file->seal_refusals, 12));
      ++file->seal_refusals;
    } else {
      file->busy = true;
      file->seal_refusals = 0;
    }
  }
  if (again != 0) Queue(file, again);
  return again == 0;
}

void Sealer::Pass() {
  std::vector<Candidate> candidates;
  for (const FilePtr& file : TakeDue()) {
    if (Hold(file)) candidates.push_back({.file = file});
  }
  for (Candidate& candidate : candidates) Prepare(&candidate);
  EndWrites(&candidates);
  for (Candidate& candidate : candidates) Finish(&candidate);
  if (!candidates.empty()) core_.table->NotifyProgress();
  std::lock_guard lock(mu_);
  armed_ = false;
  if (!waiting_.empty() && !core_.stopping) Arm();
}

Result<bool> Sealer::Changed(const FilePtr& file) {
  PERIGEE_ASSIGN(auto open, core_.store->Open(file->dir, file->burst, OpenMode::kRead));
  PERIGEE_ASSIGN(FileStat stat, StoreDir::Stat(*open));
  BurstRecord rec;
  {
    std::lock_guard lock(file->mu);
    file->SetAllocated(stat.allocated);
    rec = file->rec;
  }
  if (stat.size != rec.size || stat.mtime != rec.mtime || stat.ctime != rec.ctime) return true;
  if (rec.home != Home::kInline) return false;
  // A store through a mapping into a page that was dirty already moves no time, and the committed
  // bytes are a copy.
  std::string bytes(rec.size, '\0');
  PERIGEE_ASSIGN(size_t got,
                 open->ReadAt(0, {reinterpret_cast<uint8_t*>(bytes.data()), bytes.size()}));
  if (got == rec.size && Crc32c(AsBytes(bytes)) == rec.inline_crc) return false;
  std::lock_guard lock(file->mu);
  file->rec.ctime = 0;  // so that the publish sees it too
  return true;
}

// The file changed after its write had been ended (an earlier writer's mapping, a reboot): becomes
// the writer again.
Status Sealer::EnsureWriter(const FilePtr& file) {
  wire::OpenWriteRequest q{.node = core_.node, .burst = file->burst};
  {
    std::lock_guard lock(file->mu);
    if (file->rec.writing) return Status::Ok();
    q.id = file->rec.id;
    q.expect_generation = file->rec.generation;
  }
  Result<wire::RecordReply> reply = core_.flushes->OpenWrite(q);
  if (!reply.ok()) return reply.status();
  if (!reply->record.writer) return Status(Code::kInternal, "OpenWrite gave no writer");
  std::lock_guard lock(file->mu);
  file->rec.writing = true;
  file->rec.writer_generation = reply->record.writer->generation;
  return Status::Ok();
}

// Never published: the namespace keeps what it had, and so does this node.
Status Sealer::Discard(const FilePtr& file) {
  wire::EndWriteRequest q{.node = core_.node, .burst = file->burst};
  FilePtr before;
  {
    std::lock_guard lock(file->mu);
    q.id = file->rec.id;
  }
  if (q.id != 0) {
    Status s = core_.flushes->EndWrite(q).status();
    if (!s.ok() && !IsGone(s)) return s;
  }
  {
    std::lock_guard lock(file->mu);
    before = std::move(file->predecessor);
    file->predecessor.reset();
    file->gone = true;
  }
  const bool served = core_.table->Current(q.id) == file;
  core_.Forget(file);
  if (served) Reinstate(std::move(before));
  return Status::Ok();
}

FilePtr Sealer::Reinstate(FilePtr before) {
  wire::FileId id = 0;
  while (before) {
    FilePtr older;
    {
      std::lock_guard lock(before->mu);
      if (before->orphan) return nullptr;
      if (!before->gone) {
        before->superseded = false;
        id = before->rec.id;
        break;
      }
      older = before->predecessor;  // that one was never published either
    }
    before = std::move(older);
  }
  if (!before) return nullptr;
  core_.table->SetCurrent(id, before);
  bool unsealed, flushable;
  {
    std::lock_guard lock(before->mu);
    unsealed = before->Unsealed();
    flushable = before->Flushable();
  }
  if (unsealed)
    Queue(before);
  else if (flushable)
    on_sealed_(before);
  return before;
}

// All but the end of the write: what changed since the last publish is published.
void Sealer::Prepare(Candidate* candidate) {
  const FilePtr& file = candidate->file;
  auto prepare = [&]() -> Status {
    bool never, orphan;
    {
      std::lock_guard lock(file->mu);
      never = file->rec.generation == 0;
      orphan = file->orphan;
    }
    if (never) return Discard(file);
    if (!orphan) {
      PERIGEE_ASSIGN(bool changed, Changed(file));
      if (changed) {
        Status s = EnsureWriter(file);
        if (IsGone(s)) {
          std::lock_guard lock(file->mu);
          file->orphan = true;
        } else {
          PERIGEE_TRY(s);
          PERIGEE_TRY(publisher_.PublishHeld(file, false));
        }
      }
      PERIGEE_TRY(publisher_.RegisterHeld(file, false));
    }
    std::lock_guard lock(file->mu);
    candidate->ends = file->rec.writing && !file->orphan;
    return Status::Ok();
  };
  candidate->status = prepare();
}

void Sealer::EndWrites(std::vector<Candidate>* candidates) {
  wire::EndWritesRequest q{.node = core_.node};
  std::vector<Candidate*> ending;
  for (Candidate& candidate : *candidates) {
    if (!candidate.status.ok() || !candidate.ends) continue;
    wire::FileId id;
    {
      std::lock_guard lock(candidate.file->mu);
      id = candidate.file->rec.id;
    }
    if (core_.names && core_.names->Waits(id)) {
      candidate.status = Status(Code::kUnavailable, "the file's name is made at objectd first");
      continue;
    }
    q.writes.push_back({.id = id, .burst = candidate.file->burst});
    ending.push_back(&candidate);
  }
  if (ending.empty()) return;
  PERIGEE_FAILPOINT(burst_seal_before_end);
  Result<wire::EndWritesReply> reply = core_.flushes->EndWrites(q);
  PERIGEE_FAILPOINT(burst_seal_after_end);
  for (size_t i = 0; i < ending.size(); ++i) {
    Status s = !reply.ok() ? reply.status()
               : reply->codes[i] == Code::kOk
                   ? Status::Ok()
                   : Status(reply->codes[i], "the namespace did not end the write");
    if (!s.ok() && !IsGone(s)) ending[i]->status = std::move(s);
  }
}

void Sealer::Finish(Candidate* candidate) {
  const FilePtr& file = candidate->file;
  Status& s = candidate->status;
  bool gone;
  {
    std::lock_guard lock(file->mu);
    gone = file->gone;
    if (s.ok() && !gone) {
      file->rec.writing = false;
      file->rec.state = file->Settled();
      file->sealed_at = core_.clock->Monotonic();
    }
  }
  if (s.ok() && !gone) {
    core_.stats->seals->Add();
    s = core_.Save(file);
  }
  bool sealed, superseded;
  {
    std::lock_guard lock(file->mu);
    file->busy = false;
    file->changed.NotifyAll();
    gone = file->gone;
    superseded = file->superseded;
    sealed = !gone && file->rec.state == BurstState::kSealed && file->rec.home == Home::kBurst &&
             !file->orphan;
  }
  if (!s.ok()) {
    if (!IsAway(s)) log::Error("seal_failed", {{"burst", HexEncode64(file->burst)}, {"error", s}});
    return Queue(file, kObjectdRetry);
  }
  if (gone) return;
  if (superseded) return core_.recheck(file);  // nothing was written to it, and it goes
  if (sealed) on_sealed_(file);
  core_.RetireIfUnneeded(file);
}

Status Sealer::Checksum(const FilePtr& file) {
  BurstCrcs out;
  int64_t mtime;
  {
    std::lock_guard lock(file->mu);
    if (file->gone || file->Unsealed() || !file->Whole()) return Status::Ok();
    out.generation = file->rec.generation;
    out.size = file->rec.size;
    mtime = file->rec.mtime;
  }
  auto known = core_.index->GetCrcs(file->burst);
  if (known.ok() && known->generation == out.generation && known->size == out.size)
    return Status::Ok();
  PERIGEE_ASSIGN(auto open, core_.store->Open(file->dir, file->burst, OpenMode::kRead));
  AlignedBuffer block(std::min<uint64_t>(kCrcBlockBytes, std::max<uint64_t>(out.size, 1)));
  for (uint64_t at = 0; at < out.size; at += kCrcBlockBytes) {
    {
      std::lock_guard lock(file->mu);
      if (file->gone || file->rec.writing || core_.stopping)
        return Status(Code::kConflict, "opened again");
    }
    uint64_t want = std::min<uint64_t>(kCrcBlockBytes, out.size - at);
    PERIGEE_ASSIGN(size_t got, open->ReadAt(at, {block.data(), want}));
    if (got != want) return Status(Code::kConflict, "burst file is shorter than its record");
    out.crcs.push_back(Crc32c({block.data(), want}));
  }
  PERIGEE_ASSIGN(FileStat after, StoreDir::Stat(*open));
  {
    std::lock_guard lock(file->mu);
    if (file->rec.writing || file->rec.generation != out.generation || after.mtime != mtime)
      return Status(Code::kConflict, "opened again");
  }
  return core_.index->PutCrcs(file->burst, out);
}

}  // namespace perigee::bufferd
