#include "bufferd/publish.h"

#include <algorithm>

#include "base/checksum.h"
#include "base/failpoint.h"
#include "base/log.h"

namespace perigee::bufferd {

using wire::BurstState;
using wire::Durability;

namespace {

constexpr Nanos kRetryEvery = kSecond;

// Journaled: it will be registered.
bool Postponed(const Status& s) { return IsAway(s) || s.Is(Code::kStale); }

Status NotHere() {
  return Status(Code::kNotFound, "its content is not whole in this node's burst buffer");
}

bool SameAsPublished(const BurstRecord& rec, const FileStat& stat) {
  return rec.size == stat.size && rec.mtime == stat.mtime && rec.ctime == stat.ctime;
}

}  // namespace

Status Publisher::Publish(const FilePtr& file, bool sync) {
  BusyHold hold(file);
  if (!hold.held()) return Status::Ok();  // unlinked meanwhile
  return PublishHeld(file, sync);
}

// The bytes of a small file are read between two equal stats, so that they are one content.
Result<Publisher::Content> Publisher::Look(const FilePtr& file, File& open) const {
  (void)file;
  Content c;
  PERIGEE_ASSIGN(c.stat, StoreDir::Stat(open));
  for (int attempt = 0; attempt < 8 && c.stat.size <= core_.inline_bytes_max; ++attempt) {
    c.bytes.resize(c.stat.size);
    PERIGEE_ASSIGN(size_t got,
                   open.ReadAt(0, {reinterpret_cast<uint8_t*>(c.bytes.data()), c.bytes.size()}));
    PERIGEE_ASSIGN(FileStat after, StoreDir::Stat(open));
    if (got == c.bytes.size() && after.SameContent(c.stat)) {
      c.is_inline = true;
      return c;
    }
    c.stat = after;
  }
  c.bytes.clear();
  return c;
}

Status Publisher::SyncBytes(const FilePtr& file, File& open) {
  {
    std::lock_guard lock(file->mu);
    if (file->sync_failed)
      return Status(Code::kIo,
                    "an earlier sync of this burst file failed; its content is uncertain");
  }
  PERIGEE_FAILPOINT_STATUS(burst_fsync_before_data);
  Status s = open.SyncData();
  if (s.ok()) s = core_.store->SyncName(file->dir);
  if (!s.ok()) {
    std::lock_guard lock(file->mu);
    file->sync_failed = true;
    core_.stats->sync_failures->Add();
    core_.Report(Core::NameOf(*file) + ": sync failed, stays unsynced: " + s.ToString());
    return s;
  }
  core_.stats->syncs->Add();
  PERIGEE_FAILPOINT(burst_fsync_after_data);
  return Status::Ok();
}

Status Publisher::PublishHeld(const FilePtr& file, bool sync) {
  BurstRecord was;
  {
    std::lock_guard lock(file->mu);
    if (file->gone || file->orphan) return Status::Ok();
    was = file->rec;
  }
  PERIGEE_ASSIGN(auto open, core_.store->Open(file->dir, file->burst, OpenMode::kRead));
  PERIGEE_ASSIGN(Content content, Look(file, *open));
  if (was.generation != 0 && core_.store->fine_timestamps() && SameAsPublished(was, content.stat)) {
    if (!was.registered) {
      Status s = RegisterHeld(file, sync);
      if (!s.ok() && !Postponed(s)) return s;
    }
    return sync ? MakeDurableHeld(file, *open) : Status::Ok();
  }
  // Not the writer (fsync through a reader's handle): what it may have changed is found by the
  // seal.
  if (!was.writing)
    return sync && was.generation != 0 ? MakeDurableHeld(file, *open) : Status::Ok();
  if (sync && !content.is_inline) PERIGEE_TRY(SyncBytes(file, *open));
  {
    std::lock_guard lock(file->mu);
    BurstRecord& rec = file->rec;
    rec.generation = rec.writer_generation;
    rec.size = content.stat.size;
    rec.mtime = content.stat.mtime;
    rec.ctime = content.stat.ctime;
    rec.home = content.is_inline ? Home::kInline : Home::kBurst;
    rec.inline_crc = content.is_inline ? Crc32c(AsBytes(content.bytes)) : 0;
    rec.durability = sync && !content.is_inline ? Durability::kLocal : Durability::kUnsynced;
    if (sync && !content.is_inline) rec.synced_generation = rec.generation;
    rec.registered = false;
    rec.boot = core_.boot;
    rec.state = BurstState::kPublished;
    rec.resident_synced = false;
    file->source.reset();
    file->residency.Clear();
    file->residency.Set({0, rec.size},
                        content.is_inline ? RangeState::kResident : RangeState::kDirty);
    file->SetAllocated(content.stat.allocated);
  }
  PERIGEE_FAILPOINT_STATUS(burst_publish_before_journal);
  PERIGEE_TRY(core_.Save(file, sync && !content.is_inline ? Durable::kYes : Durable::kNo));
  PERIGEE_FAILPOINT_STATUS(burst_publish_before_commit);
  // Inline content is durable with the namespace, at once.
  if (sync && content.is_inline && core_.names) core_.names->AwaitTold(was.id);
  Status s = Register(file, sync, &content);
  PERIGEE_FAILPOINT(burst_publish_after_commit);
  if (s.ok()) return s;
  if (!Postponed(s)) return s;
  // What was asked for in durability is given here. Whoever makes the name tells of it, too.
  if (!core_.names || !core_.names->Waits(was.id)) RegisterLater();
  if (sync && content.is_inline) return MakeDurableHeld(file, *open);
  return Status::Ok();
}

// After a publish whose outcome is unknown: did it happen?
Result<bool> Publisher::AlreadyCommitted(const FilePtr& file) {
  wire::FileId id;
  {
    std::lock_guard lock(file->mu);
    id = file->rec.id;
  }
  PERIGEE_ASSIGN(wire::RecordReply reply, core_.saves->GetAttr({.id = id}));
  std::lock_guard lock(file->mu);
  BurstRecord& rec = file->rec;
  const auto& committed = reply.record.committed;
  bool ours = IsWriter(core_, reply.record, file->burst);
  if (committed && committed->generation == rec.generation && committed->size == rec.size &&
      committed->mtime == rec.mtime && (ours || IsOurs(core_, committed->layout, file->burst))) {
    rec.writer_generation = ours ? reply.record.writer->generation : rec.generation + 1;
    return true;
  }
  if (ours) {
    rec.writer_generation = reply.record.writer->generation;
    rec.Renumber(rec.writer_generation);
  }
  return false;
}

Status Publisher::RegisterHeld(const FilePtr& file, bool sync) {
  return Register(file, sync, nullptr);
}

Status Publisher::Register(const FilePtr& file, bool sync, const Content* fresh) {
  const uint64_t life = core_.Life();
  bool unknown;
  wire::FileId id;
  {
    std::lock_guard lock(file->mu);
    if (file->rec.registered || file->orphan || file->gone || file->rec.generation == 0)
      return Status::Ok();
    unknown = file->maybe_committed;
    id = file->rec.id;
  }
  if (core_.names && core_.names->Waits(id)) {
    if (!core_.names->there()) core_.stats->publish_failures->Add();
    return Status(Code::kUnavailable, "the file's name is made at objectd first");
  }
  bool committed = false;
  if (unknown) {
    Result<bool> already = AlreadyCommitted(file);
    if (!already.ok()) {
      return IsGone(already.status()) ? Orphan(file, life) : already.status();
    }
    committed = *already;
  }
  wire::PublishRequest q;
  std::string bytes;
  if (!committed) PERIGEE_TRY(Build(file, sync, fresh, &q, &bytes));
  if (!committed) {
    auto publish = [&] {
      Status s = core_.saves->Publish(q, AsBytes(bytes)).status();
      if (!q.has_inline || (!s.Is(Code::kTooLarge) && !s.Is(Code::kNoSpace))) return s;
      if (s.Is(Code::kTooLarge))
        core_.inline_bytes_max =
            std::min(core_.inline_bytes_max.load(), q.size == 0 ? 0 : q.size - 1);
      q.has_inline = false;
      {
        std::lock_guard lock(file->mu);
        file->rec.home = Home::kBurst;
      }
      return core_.saves->Publish(q).status();
    };
    Status s = publish();
    if (IsGone(s)) {
      Result<wire::RecordReply> now = core_.saves->GetAttr({.id = q.id});
      if (!now.ok()) return IsGone(now.status()) ? Orphan(file, life) : std::move(now).TakeStatus();
      PERIGEE_ASSIGN(bool told, TellWriter(file, now->record));
      if (!told) PERIGEE_TRY(MoveBeside(file, *now));
      {
        std::lock_guard lock(file->mu);
        q.id = file->rec.id;
        q.generation = file->rec.generation;
      }
      s = publish();
    }
    if (!s.ok()) {
      core_.stats->publish_failures->Add();
      std::lock_guard lock(file->mu);
      if (IsAway(s)) file->maybe_committed = true;
      return s.With("publish");
    }
    core_.stats->publishes->Add();
    if (q.has_inline) core_.stats->publishes_inline->Add();
  }
  Registered(file, life, sync && !committed);
  return Status::Ok();
}

Status Publisher::Build(const FilePtr& file, bool sync, const Content* fresh,
                        wire::PublishRequest* q, std::string* bytes) {
  std::unique_ptr<File> open;
  if (fresh == nullptr) {
    PERIGEE_ASSIGN(open, core_.store->Open(file->dir, file->burst, OpenMode::kRead));
  }
  std::lock_guard lock(file->mu);
  BurstRecord& rec = file->rec;
  q->id = rec.id;
  q->node = core_.node;
  q->burst = file->burst;
  q->generation = rec.generation;
  q->size = rec.size;
  q->mtime = rec.mtime;
  q->durability = rec.home == Home::kInline ? Durability::kUnsynced : rec.durability;
  q->has_inline = rec.home == Home::kInline;
  q->sync = sync;
  if (!q->has_inline) return Status::Ok();
  if (fresh != nullptr) {
    *bytes = fresh->bytes;
    return Status::Ok();
  }
  bytes->resize(rec.size);
  PERIGEE_ASSIGN(size_t got,
                 open->ReadAt(0, {reinterpret_cast<uint8_t*>(bytes->data()), bytes->size()}));
  if (got == rec.size && Crc32c(AsBytes(*bytes)) == rec.inline_crc) return Status::Ok();
  // Written again meanwhile: as a burst layout the generation is whatever the file holds, and the
  // next publish is exact.
  rec.home = Home::kBurst;
  q->has_inline = false;
  bytes->clear();
  return Status::Ok();
}

void Publisher::Registered(const FilePtr& file, uint64_t life, bool object) {
  FilePtr before;
  bool unsynced;
  {
    std::lock_guard lock(file->mu);
    BurstRecord& rec = file->rec;
    rec.registered = true;
    file->registered_in = life;
    file->maybe_committed = false;
    rec.writer_generation = std::max(rec.writer_generation, rec.generation + 1);
    if (rec.home == Home::kInline && object) rec.durability = Durability::kObject;
    unsynced = rec.durability == Durability::kUnsynced ||
               (rec.home == Home::kInline && rec.durability != Durability::kObject);
    before = std::move(file->predecessor);
    file->predecessor.reset();
  }
  if (before) {
    before->flush_cancel = true;
    core_.RetireIfUnneeded(before);
  }
  if (unsynced) on_unsynced_(file);
  core_.table->NotifyProgress();
}

class Publisher::Kept final : public KeptFile {
 public:
  Kept(Publisher* publisher, FilePtr file) : publisher_(publisher), file_(std::move(file)) {
    if (file_) hold_.emplace(file_, BusyHold::Try());
  }
  bool held() const { return hold_ && hold_->held(); }
  void Told(uint64_t life) override {
    publisher_->core_.stats->publishes->Add();
    if (request.has_inline) publisher_->core_.stats->publishes_inline->Add();
    publisher_->Registered(file_, life, false);
  }
  void Unanswered() override {
    std::lock_guard lock(file_->mu);
    file_->maybe_committed = true;
  }

 private:
  Publisher* const publisher_;
  const FilePtr file_;
  std::optional<BusyHold> hold_;
};

std::unique_ptr<KeptFile> Publisher::Keep(wire::FileId id) {
  FilePtr file = core_.table->Current(id);
  auto kept = std::make_unique<Kept>(this, file);
  if (!file) return kept;
  {
    std::lock_guard lock(file->mu);
    if (file->gone) return kept;
    if (!kept->held()) return nullptr;
    if (file->rec.registered || file->rec.generation == 0 || file->orphan ||
        file->maybe_committed || file->needs_reconcile)
      return kept;
    kept->ctime = file->rec.ctime;
  }
  Status built = Build(file, false, nullptr, &kept->request, &kept->bytes);
  kept->closed = built.ok();
  if (!built.ok()) {
    log::Error("closed_file_unread", {{"burst", HexEncode64(file->burst)}, {"error", built}});
    RegisterLater();
  }
  return kept;
}

// Raises committed, unchanged content to the class that fsync promises.
Status Publisher::MakeDurableHeld(const FilePtr& file, File& open) {
  Home home;
  Durability durability;
  bool registered;
  uint64_t registered_in;
  wire::SetDurabilityRequest q;
  {
    std::lock_guard lock(file->mu);
    if (file->orphan || file->gone) return Status::Ok();
    home = file->rec.home;
    durability = file->rec.durability;
    registered = file->rec.registered;
    registered_in = file->registered_in;
    q = {.id = file->rec.id,
         .node = core_.node,
         .burst = file->burst,
         .generation = file->rec.generation,
         .durability = Durability::kLocal,
         .sync = true};
  }
  if (home == Home::kBlobs || home == Home::kPeer || durability >= Durability::kLocal) {
    if (home != Home::kBurst || !registered) return Status::Ok();
    // Local already; the commit that says so has to be durable as well, or the journal that makes
    // it again.
    Status s = core_.SyncIn(registered_in);
    if (s.ok() || !IsAway(s)) return s;
    core_.recheck(file);
    return core_.index->Sync();
  }
  if (home == Home::kInline && registered) {
    Status s = core_.SyncIn(registered_in);
    if (s.ok()) {
      {
        std::lock_guard lock(file->mu);
        if (file->rec.generation == q.generation) file->rec.durability = Durability::kObject;
      }
      return core_.Save(file);
    }
    if (!IsAway(s)) return s;
    core_.recheck(file);
  }
  PERIGEE_TRY(SyncBytes(file, open));
  {
    std::lock_guard lock(file->mu);
    file->rec.durability = Durability::kLocal;
    file->rec.synced_generation = file->rec.generation;
    file->rec.resident_synced = true;
  }
  PERIGEE_TRY(core_.Save(file, Durable::kYes));
  PERIGEE_FAILPOINT(burst_fsync_after_index);
  if (!registered || home != Home::kBurst) return Status::Ok();
  Status s = core_.saves->SetDurability(q).status();
  PERIGEE_FAILPOINT(burst_fsync_after_commit);
  // Not there: replaced, or it lost its power, and the name is in the journal.
  if (IsGone(s) && !core_.SyncIn(registered_in).ok()) {
    core_.recheck(file);
    return core_.index->Sync();
  }
  // Away or replaced: the bytes are safe here, and the journal says so.
  return s.ok() || IsAway(s) || IsGone(s) ? Status::Ok() : s;
}

// objectd answered in `life`, or later, that it does not have the file.
Status Publisher::Orphan(const FilePtr& file, uint64_t life) {
  wire::FileId id;
  {
    std::lock_guard lock(file->mu);
    id = file->rec.id;
  }
  PERIGEE_TRY(core_.SyncIn(life));  // or it may have lost what this node made
  if (core_.Keeps(id)) return Status(Code::kStale, "the journal of names makes it once more");
  std::lock_guard lock(file->mu);
  file->orphan = true;
  file->rec.registered = true;  // nothing is left to register
  file->flush_cancel = true;
  file->changed.NotifyAll();
  return Status::Ok();
}

Result<wire::WriterInfo> Publisher::TakeBack(wire::FileId id) {
  FilePtr file = core_.table->Current(id);
  if (!file) return NotHere();
  BusyHold hold(file);
  if (!hold.held()) return NotHere();
  PERIGEE_ASSIGN(auto open, core_.store->Open(file->dir, file->burst, OpenMode::kRead));
  {
    std::lock_guard lock(file->mu);
    const BurstRecord& rec = file->rec;
    if (file->corrupt || file->lost || !file->Whole() || !rec.SurvivedWhole(core_.boot))
      return NotHere();
  }
  // It was as durable as the namespace; now this is all there is.
  PERIGEE_TRY(SyncBytes(file, *open));
  wire::WriterInfo writer{.node = core_.node, .burst = file->burst};
  {
    std::lock_guard lock(file->mu);
    BurstRecord& rec = file->rec;
    file->orphan = file->released = file->superseded = file->maybe_committed = false;
    rec.writing = true;
    if (rec.generation != 0) {
      file->OnlyHere(rec.generation, true);
      rec.state = BurstState::kPublished;
    }
    file->needs_reconcile = file->writers == 0;  // which seals it once it is there
    writer.generation = std::max<uint64_t>(rec.writer_generation, 1);
  }
  PERIGEE_TRY(core_.Save(file, Durable::kYes));
  return writer;
}

uint64_t Publisher::waiting() const {
  uint64_t n = 0;
  for (const FilePtr& f : core_.table->All()) {
    std::lock_guard lock(f->mu);
    if (!f->rec.registered && f->rec.generation != 0 && !f->orphan && !f->gone && f->rec.id != 0)
      ++n;
  }
  return n;
}

Status Publisher::RegisterWaiting(bool* left) {
  std::vector<FilePtr> all = core_.table->All();
  // Burst ids tell the order.
  std::sort(all.begin(), all.end(),
            [](const FilePtr& a, const FilePtr& b) { return a->burst < b->burst; });
  *left = false;
  for (const FilePtr& f : all) {
    if (core_.stopping) return Status(Code::kUnavailable, "stopping");
    wire::FileId id;
    {
      std::lock_guard lock(f->mu);
      if (f->rec.registered || f->rec.generation == 0 || f->orphan || f->gone || f->needs_reconcile)
        continue;
      id = f->rec.id;
    }
    if (core_.names && core_.names->Waits(id)) {
      *left = true;
      continue;
    }
    Status s;
    {
      BusyHold hold(f);
      if (!hold.held()) continue;
      s = RegisterHeld(f, false);
      if (s.ok()) {
        if (Status saved = core_.Save(f); !saved.ok())
          log::Error("burst_record_not_saved", {{"error", saved}});
      }
    }
    core_.RetireIfUnneeded(f);  // it may have been unlinked while it was busy
    if (s.ok()) continue;
    *left = true;
    if (IsAway(s)) return s;
    if (Postponed(s)) continue;
    log::Error("publish_refused", {{"burst", HexEncode64(f->burst)}, {"error", s}});
  }
  return Status::Ok();
}

void Publisher::RegisterLater() {
  if (core_.stopping || retry_armed_.exchange(true)) return;
  auto attempt = [this] {
    retry_armed_ = false;
    bool left = false;
    Status s = RegisterWaiting(&left);
    s.Ignore();  // what is left is tried again
    if (left) RegisterLater();
  };
  if (core_.work->PostAfter(kRetryEvery, attempt) == 0) retry_armed_ = false;
}

}  // namespace perigee::bufferd
