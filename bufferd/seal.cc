#include "bufferd/seal.h"

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
  if (core_.work->PostAfter(delay, [this, file] { Try(file); }) == 0) {
    std::lock_guard lock(file->mu);
    file->seal_queued = false;
  }
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

void Sealer::Try(const FilePtr& file) {
  Nanos again = 0;
  {
    std::lock_guard lock(file->mu);
    file->seal_queued = false;
    if (core_.stopping || file->gone || file->writers > 0 || !file->Unsealed() || file->superseded)
      return;
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
  if (again != 0) return Queue(file, again);
  Status s = FinishHeld(file);
  bool sealed;
  bool gone;
  {
    std::lock_guard lock(file->mu);
    file->busy = false;
    file->changed.NotifyAll();
    gone = file->gone;
    sealed = !gone && file->rec.state == BurstState::kSealed && file->rec.home == Home::kBurst &&
             !file->orphan;
  }
  if (!s.ok()) {
    if (!IsAway(s)) log::Error("seal_failed", {{"burst", HexEncode64(file->burst)}, {"error", s}});
    return Queue(file, kObjectdRetry);
  }
  if (gone) return;
  if (sealed) on_sealed_(file);
  core_.RetireIfUnneeded(file);
  core_.table->NotifyProgress();
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
  Result<wire::RecordReply> reply = core_.meta->OpenWrite(q);
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
    Status s = core_.meta->EndWrite(q).status();
    if (!s.ok() && !IsGone(s)) return s;
  }
  {
    std::lock_guard lock(file->mu);
    before = std::move(file->predecessor);
    file->predecessor.reset();
    file->gone = true;
  }
  core_.Forget(file);
  Reinstate(std::move(before));
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

Status Sealer::FinishHeld(const FilePtr& file) {
  bool orphan, never, writing;
  wire::EndWriteRequest end{.node = core_.node, .burst = file->burst};
  {
    std::lock_guard lock(file->mu);
    orphan = file->orphan;
    never = file->rec.generation == 0;
    end.id = file->rec.id;
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
  {
    std::lock_guard lock(file->mu);
    writing = file->rec.writing;
    orphan = file->orphan;
  }
  if (writing && !orphan) {
    PERIGEE_FAILPOINT(burst_seal_before_end);
    Status s = core_.meta->EndWrite(end).status();
    if (!s.ok() && !IsGone(s)) return s;
    PERIGEE_FAILPOINT(burst_seal_after_end);
  }
  {
    std::lock_guard lock(file->mu);
    file->rec.writing = false;
    file->rec.state = file->Settled();
    file->sealed_at = core_.clock->Monotonic();
  }
  core_.stats->seals->Add();
  return core_.Save(file);
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
