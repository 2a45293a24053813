#include "bufferd/open.h"

#include <algorithm>

#include "base/failpoint.h"
#include "base/log.h"
#include "bufferd/verify.h"
#include "tiers/prefetch/readahead.h"

namespace perigee::bufferd {

using wire::Access;
using wire::BurstState;
using wire::Durability;
using wire::LayoutKind;
using wire::OpenKind;

namespace {

// kConflict inside this file: the picture changed while it was looked at; look again.
constexpr int kLooksMax = 16;

Status LookAgain() { return Status(Code::kConflict, "the file changed while it was opened"); }

Home HomeOf(const Core& core, const wire::Version& version) {
  switch (version.layout.kind) {
    case LayoutKind::kBlobs:
    case LayoutKind::kCold:
      return Home::kBlobs;
    case LayoutKind::kInline:
    case LayoutKind::kNone:
      return Home::kInline;
    case LayoutKind::kBurst:
      return version.layout.node == core.node ? Home::kBurst : Home::kPeer;
  }
  return Home::kBlobs;
}

OpenAsk ById(OpenAsk ask, wire::FileId id) {
  ask.id = id;
  return ask;
}

}  // namespace

Status CheckAccess(const wire::Record& record, const wire::Caller& caller, Access access) {
  if (!caller.enforce || caller.uid == 0) return Status::Ok();
  uint32_t want = access == Access::kRead ? 4 : 6;
  bool in_group = caller.gid == record.gid || std::find(caller.groups.begin(), caller.groups.end(),
                                                        record.gid) != caller.groups.end();
  uint32_t bits = caller.uid == record.uid ? record.mode >> 6
                  : in_group               ? record.mode >> 3
                                           : record.mode;
  if ((bits & want) == want) return Status::Ok();
  return Status(Code::kPermissionDenied, "the file's mode does not allow this");
}

Result<wire::RecordReply> Opener::Resolve(const wire::Caller& caller, const std::string& path) {
  std::string trimmed = path;
  while (!trimmed.empty() && trimmed.back() == '/') trimmed.pop_back();
  while (!trimmed.empty() && trimmed.front() == '/') trimmed.erase(0, 1);
  if (trimmed.empty()) return core_.named->GetAttr({.id = wire::kRootId});
  return core_.named->Lookup({.caller = caller, .parent = wire::kRootId, .path = trimmed});
}

Result<Opened> Opener::Open(const OpenAsk& ask) {
  for (int look = 0; look < kLooksMax; ++look) {
    if (core_.stopping) return Status(Code::kUnavailable, "bufferd is stopping");
    // What is told opens for everybody; what is not, for who may read it without asking.
    if (ask.id != 0 && core_.names && (ask.access == Access::kWrite || ask.caller.enforce))
      core_.names->AwaitTold(ask.id);
    std::optional<Delegations::Mark> mark;
    // While names change here, objectd may answer with a name that was changed here since.
    if (ask.want_delegation && core_.delegations) mark = core_.delegations->Begin();
    if (core_.names && !core_.names->there()) mark.reset();
    Result<wire::RecordReply> found =
        ask.id != 0 ? core_.meta->GetAttr({.id = ask.id, .delegate_to = mark ? core_.node : 0})
                    : Resolve(ask.caller, ask.path);
    if (!found.ok()) {
      if (ask.id != 0 && IsAway(found.status())) return OpenAway(ask, found.status());
      return std::move(found).TakeStatus();
    }
    const wire::Record& record = found->record;
    if (ask.id == 0 && core_.names && core_.names->Waits(record.id)) {
      PERIGEE_TRY(CheckAccess(record, ask.caller, ask.access));
      Status why(Code::kUnavailable, "objectd is away");
      why.Ignore();  // it may be opened all the same
      return OpenAway(ById(ask, record.id), why);
    }
    if (record.kind == wire::FileKind::kDirectory)
      return Status(Code::kIsDirectory, "is a directory");
    if (record.kind != wire::FileKind::kFile)
      return Status(Code::kInvalidArgument, "not a regular file");
    PERIGEE_TRY(CheckAccess(record, ask.caller, ask.access));
    Result<Opened> opened =
        ask.access == Access::kRead ? OpenRead(record, ask) : OpenWrite(record, ask);
    if (opened.ok()) {
      opened->access = ask.access;
      core_.stats->opens_descriptor->Add(opened->kind == OpenKind::kDescriptor ? 1 : 0);
      core_.stats->opens_cached->Add(opened->kind == OpenKind::kCached ? 1 : 0);
      if (mark && found->delegated && opened->kind == OpenKind::kDescriptor)
        Delegate(*found, *mark, &*opened);
      return opened;
    }
    // It fell silent meanwhile.
    bool silent = opened.code() == Code::kUnavailable || opened.code() == Code::kDeadlineExceeded;
    if (silent && ask.access == Access::kWrite && core_.names)
      return OpenAway(ById(ask, record.id), opened.status());
    if (opened.code() != Code::kConflict) return opened;
  }
  return Status(Code::kBusy, "the file keeps changing while it is opened");
}

void Opener::Delegate(const wire::RecordReply& found, const Delegations::Mark& mark,
                      Opened* opened) {
  opened->delegation = core_.delegations->Take(found.record.id, mark);
  if (!opened->delegation) return;
  opened->delegation->parent = found.parent;
  opened->delegation->name = found.name;
}

// With the file's lock held: what it holds is what the record names.
bool Opener::Serves(const BurstFile& file, const wire::Record& record) const {
  if (file.gone || file.rec.id != record.id) return false;
  if (IsWriter(core_, record, file.burst)) return true;
  if (file.rec.generation != 0 && !file.rec.registered)
    return true;  // newer than what the namespace has
  if (!record.committed) return file.rec.generation == 0 && !file.rec.writing;
  if (IsOurs(core_, record.committed->layout, file.burst)) return true;
  return !file.rec.writing && file.rec.generation == record.committed->generation;
}

Result<FilePtr> Opener::ServingFile(const wire::Record& record) {
  FilePtr file = core_.table->Current(record.id);
  if (file) {
    std::lock_guard lock(file->mu);
    if (Serves(*file, record)) return file;
  }
  if (record.committed && record.committed->layout.kind == LayoutKind::kBurst &&
      record.committed->layout.node == core_.node) {
    FilePtr named = core_.table->Find(record.committed->layout.burst);
    if (!named) {
      parts_.lost(record);
      if (record.committed->durability == Durability::kUnsynced) return LookAgain();
      return Status(Code::kCorrupt, "the content was in a burst file of this node that is lost");
    }
    std::lock_guard lock(named->mu);
    if (named->gone) return LookAgain();
    return named;
  }
  return FilePtr();
}

// A handle for reading, if the file still is the one.
bool Opener::TakeReader(const FilePtr& file, const wire::Record& record) {
  std::lock_guard lock(file->mu);
  if (!Serves(*file, record)) return false;
  if (!file->Whole()) {
    if (!record.committed) return false;
    file->source = record.committed;  // it may have moved since it was last opened
  }
  file->orphan = false;  // the namespace has just named it
  ++file->readers;
  file->rec.accessed = core_.clock->Wall();
  return true;
}

void Opener::DropReader(const FilePtr& file) {
  {
    std::lock_guard lock(file->mu);
    --file->readers;
    file->rec.accessed = core_.clock->Wall();
  }
  core_.RetireIfUnneeded(file);
}

void Opener::MakeCurrent(const FilePtr& file) {
  wire::FileId id;
  {
    std::lock_guard lock(file->mu);
    id = file->rec.id;
    file->superseded = false;
  }
  FilePtr before = core_.table->SetCurrent(id, file);
  if (!before) return;
  core_.Undelegate(before);
  {
    std::lock_guard lock(before->mu);
    before->superseded = true;
    before->flush_cancel = true;
  }
  core_.RetireIfUnneeded(before);
}

Result<Opened> Opener::OpenRead(const wire::Record& record, const OpenAsk& ask) {
  PERIGEE_ASSIGN(FilePtr file, ServingFile(record));
  if (!file) {
    BurstTable::Gate gate(*core_.table, record.id);
    PERIGEE_ASSIGN(file, ServingFile(record));
    if (!file && ask.expect_burst != 0)
      return Status(Code::kStale, "another burst file serves this file now");
    if (!file) {
      PERIGEE_ASSIGN(file, MakeCopy(record));
    }
  }
  if (ask.expect_burst != 0 && file->burst != ask.expect_burst)
    return Status(Code::kStale, "another burst file serves this file now");
  bool unchecked;
  {
    std::lock_guard lock(file->mu);
    unchecked = file->needs_reconcile && file->rec.boot != core_.boot;
  }
  // After a reboot it may be of a version that fell back, and torn.
  if (unchecked) {
    PERIGEE_TRY(parts_.reconcile(file));
    return LookAgain();
  }
  PERIGEE_TRY(VerifyOnce(core_, file));
  if (!TakeReader(file, record)) return LookAgain();
  Opened opened{.file = file, .record = record};
  uint64_t missing = 0;
  {
    std::lock_guard lock(file->mu);
    opened.size = file->rec.size;
    if (!file->Whole()) missing = opened.size - file->residency.Bytes(RangeState::kResident);
  }
  if (missing != 0) {
    opened.kind = OpenKind::kCached;
    Nanos wait = std::min(ask.wait_fill, ask.deadline - core_.clock->Monotonic());
    if (tiers::FillFitsWait(missing, parts_.filler->bytes_per_second(),
                            static_cast<uint64_t>(std::max<Nanos>(0, wait) / kMillisecond))) {
      Status s =
          parts_.filler->Ensure(file, {0, opened.size}, core_.clock->Monotonic() + wait, false);
      if (s.ok())
        opened.kind = OpenKind::kDescriptor;
      else if (!s.Is(Code::kDeadlineExceeded)) {
        DropReader(file);
        return s;
      }
    }
  }
  auto open = core_.store->Open(file->dir, file->burst, OpenMode::kRead);
  if (open.ok()) {
    // Being written here: the size is the file's own.
    auto stat = StoreDir::Stat(**open);
    if (stat.ok()) opened.size = stat->size;
  } else {
    DropReader(file);
    return open.status().Is(Code::kNotFound) ? LookAgain() : std::move(open).TakeStatus();
  }
  return opened;
}

// The namespace cannot be asked. What is wholly here still opens for reading, for those who know
// the id, and for writing what this node is the writer of.
Result<Opened> Opener::OpenAway(const OpenAsk& ask, const Status& why) {
  FilePtr file = core_.table->Current(ask.id);
  if (ask.caller.enforce || !file) return why;
  if (ask.access == Access::kWrite)
    return core_.names ? OpenWriterAway(file, ask, why) : Result<Opened>(why);
  // Of one that was never closed, and whose writers died with an earlier run, the one before.
  auto before_unclosed = [](const FilePtr& f) -> FilePtr {
    std::lock_guard lock(f->mu);
    return f->rec.generation == 0 && f->writers == 0 ? f->predecessor : nullptr;
  };
  while (FilePtr before = before_unclosed(file)) file = before;
  Opened opened{.file = file};
  {
    std::lock_guard lock(file->mu);
    if (file->gone || file->orphan || !file->Whole() ||
        (ask.expect_burst != 0 && ask.expect_burst != file->burst))
      return why;
    if (!file->rec.SurvivedWhole(core_.boot)) return why;
    ++file->readers;
    file->rec.accessed = core_.clock->Wall();
    opened.size = file->rec.size;
    opened.record.id = ask.id;
    opened.record.mtime = file->rec.mtime;
    wire::Version version{.generation = file->rec.generation,
                          .size = file->rec.size,
                          .mtime = file->rec.mtime,
                          .durability = file->rec.durability};
    opened.record.committed = version;
  }
  core_.stats->opens_descriptor->Add();
  return opened;
}

Result<Opened> Opener::OpenWriterAway(const FilePtr& file, const OpenAsk& ask, const Status& why) {
  BurstTable::Gate gate(*core_.table, ask.id);
  Opened opened{.file = file, .access = Access::kWrite};
  {
    BusyHold hold(file);
    if (!hold.held() || core_.table->Current(ask.id) != file) return why;
    bool begins;
    {
      std::lock_guard lock(file->mu);
      begins = !file->rec.writing;
    }
    if (!begins || !ask.truncate) parts_.flusher->CancelAndWait(file);
    {
      std::unique_lock lock(file->mu);
      file->changed.Wait(lock, [&] { return file->fills_in_flight == 0 || file->gone; });
      if (file->gone || file->orphan || file->needs_reconcile ||
          (ask.expect_burst != 0 && ask.expect_burst != file->burst))
        return why;
      // Only on what is wholly here, and known to the namespace as it is.
      if (begins && (!file->Whole() || !file->rec.registered || file->corrupt || file->lost))
        return why;
    }
    if (begins && ask.truncate) return WriteNewAway(file, ask, Start::kEmpty);
    if (begins && ask.expect_burst == 0 && CopiedFirst(file, 0)) {
      Result<Opened> copied = WriteNewAway(file, ask, Start::kCopy);
      if (!copied.status().Is(Code::kNoSpace)) return copied;
    }
    if (begins) PERIGEE_TRY(BeginAway(file));
    std::lock_guard lock(file->mu);
    // Asked for and not answered: objectd may know, or not.
    if (file->rec.registered && file->rec.writer_generation <= file->rec.generation) {
      file->rec.writer_generation = file->rec.generation + 1;
      file->untold = true;
    }
    file->rec.state = BurstState::kWriting;
    file->rec.resident_synced = false;
    ++file->writers;
    file->rec.accessed = core_.clock->Wall();
    opened.record.id = ask.id;
    opened.record.mtime = file->rec.mtime;
  }
  if (ask.truncate) {
    if (Status s = Truncate(file, 0); !s.ok()) {
      Release(file, Access::kWrite);
      return s;
    }
  }
  auto open = core_.store->Open(file->dir, file->burst, OpenMode::kRead);
  auto stat = open.ok() ? StoreDir::Stat(**open) : Result<FileStat>(open.status());
  if (!stat.ok()) {
    Release(file, Access::kWrite);
    return std::move(stat).TakeStatus();
  }
  opened.size = stat->size;
  core_.stats->opens_descriptor->Add();
  return opened;
}

// This node becomes the writer without objectd, which hears of it when it is back. The caller has
// BusyHold.
Status Opener::BeginAway(const FilePtr& file) {
  {
    std::lock_guard lock(file->mu);
    file->rec.writing = true;
    file->rec.writer_generation = file->rec.generation + 1;
    file->untold = true;
  }
  PERIGEE_FAILPOINT(burst_rewrite_before_journal);
  Status s = core_.Save(file, Durable::kYes);
  PERIGEE_FAILPOINT(burst_rewrite_after_journal);
  if (s.ok()) return s;
  std::lock_guard lock(file->mu);
  file->rec.writing = file->untold = false;
  return s;
}

// WriteNew without objectd. The caller has BusyHold on `before`.
Result<Opened> Opener::WriteNewAway(const FilePtr& before, const OpenAsk& ask, Start start) {
  BurstRecord rec;
  rec.id = ask.id;
  {
    std::lock_guard lock(before->mu);
    rec.writer_generation = before->rec.generation + 1;
  }
  PERIGEE_ASSIGN(FilePtr file, MakeWritten(std::move(rec), before, start));
  file->untold = true;
  file->writers = 1;
  Replace(before, file);
  Opened opened{.file = file, .access = Access::kWrite, .size = file->rec.size};
  opened.record.id = ask.id;
  opened.record.mtime = file->rec.mtime;
  core_.stats->opens_descriptor->Add();
  return opened;
}

// The old one is kept: it serves until the new content is committed, and again if it never is.
void Opener::Replace(const FilePtr& before, const FilePtr& file) {
  if (before) {
    std::lock_guard lock(file->mu);
    file->predecessor = before->gone ? nullptr : before;
  }
  core_.table->Add(file);
  wire::FileId id = file->rec.id;
  if (FilePtr old = core_.table->SetCurrent(id, file)) {
    core_.Undelegate(old);
    std::lock_guard lock(old->mu);
    old->superseded = true;
  }
  if (Status saved = core_.Save(file); !saved.ok())
    log::Error("burst_record_not_saved", {{"error", saved}});
}

Result<FilePtr> Opener::MakeFile(BurstRecord record) {
  PERIGEE_ASSIGN(record.burst, core_.table->NextBurst());
  PERIGEE_ASSIGN(record.dir, core_.store->Create(record.burst));
  record.boot = core_.boot;
  record.accessed = core_.clock->Wall();
  return core_.table->Make(std::move(record));
}

// A burst file for content that is elsewhere: inline bytes are written at once, others are fetched
// as they are wanted.
Result<FilePtr> Opener::MakeCopy(const wire::Record& record) {
  BurstRecord rec;
  rec.id = record.id;
  rec.state = BurstState::kClean;
  rec.registered = true;
  rec.durability = Durability::kObject;
  std::string bytes;
  const auto& version = record.committed;
  if (version) {
    rec.generation = version->generation;
    rec.size = version->size;
    rec.mtime = version->mtime;
    rec.home = HomeOf(core_, *version);
    rec.durability = version->durability;
    if (version->layout.kind == LayoutKind::kInline && version->size > 0) {
      Result<std::string> got =
          core_.meta->ReadInline({.id = record.id, .generation = version->generation});
      if (!got.ok()) return IsGone(got.status()) ? LookAgain() : std::move(got).TakeStatus();
      bytes = std::move(*got);
      if (bytes.size() != version->size)
        return Status(Code::kCorrupt, "inline content has another length than its record");
      core_.stats->bytes_filled_inline->Add(static_cast<double>(bytes.size()));
    }
  }
  PERIGEE_ASSIGN(FilePtr file, MakeFile(std::move(rec)));
  Status s = [&]() -> Status {
    PERIGEE_ASSIGN(auto open, core_.store->Open(file->dir, file->burst, OpenMode::kReadWrite));
    if (!bytes.empty()) PERIGEE_TRY(open->WriteAt(0, AsBytes(bytes)));
    std::lock_guard lock(file->mu);
    if (file->rec.size != 0 && bytes.empty()) {
      PERIGEE_TRY(open->Truncate(file->rec.size));
      file->source = version;
    } else {
      file->residency.Set({0, file->rec.size}, RangeState::kResident);
    }
    if (version) PERIGEE_TRY(StoreDir::SetMtime(*open, version->mtime));
    PERIGEE_ASSIGN(FileStat stat, StoreDir::Stat(*open));
    file->rec.mtime = stat.mtime;
    file->rec.ctime = stat.ctime;
    file->SetAllocated(stat.allocated);
    return Status::Ok();
  }();
  if (s.ok()) s = core_.Save(file);
  if (!s.ok()) {
    core_.Drop(file);
    return s;
  }
  core_.table->Add(file);
  MakeCurrent(file);
  return file;
}

Result<Opened> Opener::OpenWrite(const wire::Record& record, const OpenAsk& ask) {
  BurstTable::Gate gate(*core_.table, record.id);
  PERIGEE_ASSIGN(FilePtr file, ServingFile(record));
  if (record.writer && record.writer->node != core_.node) {
    Status s = core_.meta->ReclaimWriter({.id = record.id}).status();
    if (s.ok() || IsGone(s)) return LookAgain();
    return IsAway(s) ? std::move(s)
                     : Status(Code::kBusy,
                              "node " + HexEncode64(record.writer->node) + " is writing this file");
  }
  if (ask.expect_burst != 0 && (!file || file->burst != ask.expect_burst))
    return Status(Code::kStale, "another burst file serves this file now");
  bool fresh = false;
  if (file) {
    bool reconcile;
    bool written;
    {
      std::lock_guard lock(file->mu);
      reconcile = file->needs_reconcile;
      written = file->writers > 0;
    }
    if (reconcile) {
      PERIGEE_TRY(parts_.reconcile(file));
      return LookAgain();
    }
    fresh = ask.truncate && !written;
  }
  if (fresh && ask.expect_burst != 0)
    return Status(Code::kStale, "the file is replaced by O_TRUNC");
  if (fresh || (!file && ask.truncate)) return WriteNew(file, record, Start::kEmpty);
  if (!file) {
    PERIGEE_ASSIGN(file, MakeCopy(record));
  }
  PERIGEE_TRY(VerifyOnce(core_, file));
  if (!TakeReader(file, record)) return LookAgain();
  Status whole = parts_.filler->Ensure(file, {0, UINT64_MAX}, ask.deadline, false);
  if (!whole.ok()) {
    DropReader(file);
    return whole;
  }
  parts_.flusher->CancelAndWait(file);  // it has the file open
  const bool copied = ask.expect_burst == 0 && !ask.truncate && CopiedFirst(file, 1);
  Result<Opened> opened =
      copied ? WriteNew(file, record, Start::kCopy) : Rewrite(file, record, ask);
  if (copied && opened.status().Is(Code::kNoSpace)) opened = Rewrite(file, record, ask);
  DropReader(file);
  if (!opened.ok()) parts_.flusher->Add(file);  // it was taken from the queue
  if (!opened.ok() || !ask.truncate) return opened;
  if (Status s = Truncate(file, 0); !s.ok()) {
    Release(file, Access::kWrite);
    return s;
  }
  opened->size = 0;
  return opened;
}

// Writing goes on in the same burst file. The caller has it open for reading, so that it stays.
Result<Opened> Opener::Rewrite(const FilePtr& file, const wire::Record& record,
                               const OpenAsk& ask) {
  (void)ask;
  BusyHold hold(file);
  if (!hold.held()) return LookAgain();
  parts_.flusher->CancelAndWait(file);
  bool journal, open_write;
  wire::OpenWriteRequest q{.node = core_.node, .burst = file->burst};
  {
    std::unique_lock lock(file->mu);
    // The last fetched range is still being recorded.
    file->changed.Wait(lock, [&] { return file->fills_in_flight == 0 || file->gone; });
    if (!Serves(*file, record) && file->writers == 0) return LookAgain();
    open_write = !file->rec.writing;
    journal = open_write && file->rec.generation != 0;
    q.id = file->rec.id;
    // A generation that the namespace does not have yet has to be registered by its own write, not
    // by this one.
    if (open_write && file->rec.generation != 0 && !file->rec.registered)
      return Status(Code::kUnavailable, "an earlier content waits to be registered");
    q.expect_generation = record.committed ? record.committed->generation : 0;
    file->rec.writing = true;
  }
  Status s;
  if (journal) {
    PERIGEE_FAILPOINT(burst_rewrite_before_journal);
    s = core_.Save(file, Durable::kYes);
    PERIGEE_FAILPOINT(burst_rewrite_after_journal);
  }
  Result<wire::RecordReply> reply = wire::RecordReply{.record = record};
  if (s.ok() && open_write) {
    reply = core_.saves->OpenWrite(q);
    s = reply.status();
    if (s.ok() && !reply->record.writer) s = Status(Code::kInternal, "OpenWrite gave no writer");
  }
  if (!s.ok()) {
    {
      std::lock_guard lock(file->mu);
      // Unknown outcomes stay `writing`: the seal ends a write that was never begun without harm.
      if (open_write && !IsAway(s)) file->rec.writing = false;
      if (open_write && IsAway(s)) file->rec.state = BurstState::kWriting;
    }
    if (open_write && IsAway(s)) parts_.sealer->Queue(file);
    if (Status saved = core_.Save(file); !saved.ok())
      log::Error("burst_record_not_saved", {{"error", saved}});
    return IsGone(s) ? LookAgain() : s;
  }
  PERIGEE_FAILPOINT(burst_rewrite_after_open);
  Opened opened{.file = file, .record = reply->record};
  {
    std::lock_guard lock(file->mu);
    if (open_write) file->rec.writer_generation = reply->record.writer->generation;
    file->rec.state = BurstState::kWriting;
    file->rec.resident_synced = false;
    ++file->writers;
    file->rec.accessed = core_.clock->Wall();
    opened.size = file->rec.size;
  }
  auto open = core_.store->Open(file->dir, file->burst, OpenMode::kRead);
  auto stat = open.ok() ? StoreDir::Stat(**open) : Result<FileStat>(open.status());
  if (stat.ok()) opened.size = stat->size;
  core_.table->NotifyProgress();
  return opened;
}

// What is rewritten in place is torn by a power cut, and cannot fall back to what it was.
bool Opener::CopiedFirst(const FilePtr& file, uint32_t own_readers) const {
  std::lock_guard lock(file->mu);
  if (file->rec.home != Home::kBurst || file->rec.size > kCopyMax) return false;
  if (file->writers > 0 || file->readers > own_readers) return false;
  Result<bool> unopened = core_.store->Unopened(file->dir, file->burst);
  return unopened.ok() && *unopened;
}

Status Opener::CopyBytes(const FilePtr& from, const FilePtr& to) {
  PERIGEE_ASSIGN(auto source, core_.store->Open(from->dir, from->burst, OpenMode::kRead));
  PERIGEE_ASSIGN(auto target, core_.store->Open(to->dir, to->burst, OpenMode::kReadWrite));
  PERIGEE_ASSIGN(FileStat was, StoreDir::Stat(*source));
  AlignedBuffer piece(std::min<uint64_t>(was.size, 1 << 20));
  for (uint64_t at = 0; at < was.size;) {
    const uint64_t want = std::min<uint64_t>(piece.size(), was.size - at);
    PERIGEE_ASSIGN(size_t got, source->ReadAt(at, {piece.data(), want}));
    if (got != want) return Status(Code::kIo, "the burst file is shorter than it was");
    PERIGEE_TRY(target->WriteAt(at, {piece.data(), want}));
    at += want;
  }
  PERIGEE_TRY(StoreDir::SetMtime(*target, was.mtime));
  PERIGEE_ASSIGN(FileStat stat, StoreDir::Stat(*target));
  std::lock_guard lock(to->mu);
  to->rec.size = stat.size;
  to->rec.mtime = stat.mtime;
  to->SetAllocated(stat.allocated);
  return Status::Ok();
}

// A burst file to be written, in place of `before`. kNoSpace: and it could not be copied.
Result<FilePtr> Opener::MakeWritten(BurstRecord record, const FilePtr& before, Start start) {
  record.state = BurstState::kWriting;
  record.writing = true;
  PERIGEE_ASSIGN(FilePtr file, MakeFile(std::move(record)));
  // A copy's record is synced, as one's is that is rewritten in place: a power cut does not leave
  // the namespace with a writer that nobody knows.
  const bool copy = start == Start::kCopy;
  Status s = copy ? CopyBytes(before, file) : Status::Ok();
  if (s.ok()) s = core_.Save(file, copy ? Durable::kYes : Durable::kNo);
  if (s.ok()) return file;
  core_.Drop(file);
  return s;
}

// An empty burst file beside the old one (O_TRUNC), or a copy of it. The old one serves remote
// readers until the publish.
Result<Opened> Opener::WriteNew(const FilePtr& before, const wire::Record& record, Start start) {
  std::unique_ptr<BusyHold> hold;
  if (before) {
    hold = std::make_unique<BusyHold>(before);
    if (!hold->held()) return LookAgain();
    // A flush of it goes on: it may hang on a drive, and is of what is committed.
    bool writing, registered;
    {
      std::lock_guard lock(before->mu);
      if (before->writers > 0) return LookAgain();
      writing = before->rec.writing;
      registered = before->rec.registered || before->rec.generation == 0;
    }
    if (!registered) PERIGEE_TRY(parts_.publisher->RegisterHeld(before, false));
    if (writing) {
      Status s = core_.meta->EndWrite({.id = record.id, .node = core_.node, .burst = before->burst})
                     .status();
      if (!s.ok()) return IsGone(s) ? LookAgain() : s;
      std::lock_guard lock(before->mu);
      before->rec.writing = false;
    }
  }
  BurstRecord rec;
  rec.id = record.id;
  PERIGEE_ASSIGN(FilePtr file, MakeWritten(std::move(rec), before, start));
  wire::OpenWriteRequest q{.id = record.id,
                           .expect_generation = record.committed ? record.committed->generation : 0,
                           .node = core_.node,
                           .burst = file->burst,
                           .truncate = start == Start::kEmpty};
  Result<wire::RecordReply> reply = core_.saves->OpenWrite(q);
  Status s = reply.status();
  if (s.ok() && !reply->record.writer) s = Status(Code::kInternal, "OpenWrite gave no writer");
  if (!s.ok()) {
    if (IsAway(s)) {
      // It may have happened: the seal ends it.
      core_.table->Add(file);
      parts_.sealer->Queue(file);
      return s;
    }
    core_.Drop(file);
    return IsGone(s) ? LookAgain() : s;
  }
  {
    std::lock_guard lock(file->mu);
    file->rec.writer_generation = reply->record.writer->generation;
    file->writers = 1;
  }
  Replace(before, file);
  return Opened{.file = file, .record = reply->record, .size = file->rec.size};
}

Result<wire::RecordReply> Opener::ParentOf(const CreateAsk& ask, std::string* name) {
  size_t slash = ask.path.rfind('/');
  size_t bucket_end = ask.path.find('/');
  if (slash == std::string::npos || slash + 1 == ask.path.size() || bucket_end == 0) {
    return Status(Code::kInvalidArgument, "'" + ask.path + "' is not bucket/key");
  }
  *name = ask.path.substr(slash + 1);
  Result<wire::RecordReply> parent = Resolve(ask.caller, ask.path.substr(0, slash));
  if (parent.code() != Code::kNotFound || slash == bucket_end) return parent;
  // S3-like: the directories in between are made, the bucket is not.
  PERIGEE_ASSIGN(wire::RecordReply bucket, Resolve(ask.caller, ask.path.substr(0, bucket_end)));
  return core_.named->Mkdir({.caller = ask.caller,
                             .parent = bucket.record.id,
                             .name = ask.path.substr(bucket_end + 1, slash - bucket_end - 1),
                             .mode = 0755,
                             .uid = ask.uid,
                             .gid = ask.gid,
                             .parents = true});
}

Result<Opened> Opener::Create(const CreateAsk& ask) {
  wire::MakeRequest q{.caller = ask.caller,
                      .parent = ask.parent,
                      .name = ask.name,
                      .mode = ask.mode,
                      .uid = ask.uid,
                      .gid = ask.gid};
  if (q.parent == 0) {
    PERIGEE_ASSIGN(wire::RecordReply parent, ParentOf(ask, &q.name));
    q.parent = parent.record.id;
  }
  PERIGEE_TRY(
      parts_.budget->Admit(0, std::min(ask.deadline, core_.clock->Monotonic() + 5 * kSecond)));
  BurstRecord rec;
  rec.state = BurstState::kWriting;
  rec.writing = true;
  rec.writer_generation = 1;
  q.id = core_.names ? core_.names->TakeId() : 0;
  rec.id = q.id;
  rec.parent = q.parent;
  rec.name = q.name;
  PERIGEE_ASSIGN(FilePtr file, MakeFile(std::move(rec)));
  PERIGEE_TRY(core_.Save(file));
  PERIGEE_FAILPOINT(burst_create_before_name);
  q.writer = wire::WriterInfo{.node = core_.node, .burst = file->burst, .generation = 1};
  Result<wire::RecordReply> reply = core_.named->Create(q);
  PERIGEE_FAILPOINT(burst_create_after_name);
  if (!reply.ok()) {
    if (IsAway(reply.status())) {
      // The name may exist now, with this burst file as its writer: found out before it can confuse
      // anybody.
      {
        std::lock_guard lock(file->mu);
        file->needs_reconcile = true;
      }
      core_.table->Add(file);
      parts_.reconcile_flagged();
      return std::move(reply).TakeStatus();
    }
    core_.Drop(file);
    if (!reply.status().Is(Code::kAlreadyExists) || !ask.replace)
      return std::move(reply).TakeStatus();
    OpenAsk again{
        .caller = ask.caller, .access = Access::kWrite, .truncate = true, .deadline = ask.deadline};
    PERIGEE_ASSIGN(wire::RecordReply found,
                   core_.named->Lookup({.caller = ask.caller, .parent = q.parent, .name = q.name}));
    again.id = found.record.id;
    return Open(again);
  }
  {
    std::lock_guard lock(file->mu);
    file->rec.id = reply->record.id;
    file->rec.parent = 0;
    file->rec.name.clear();
    if (reply->record.writer) file->rec.writer_generation = reply->record.writer->generation;
    file->writers = 1;
  }
  core_.table->Add(file);
  MakeCurrent(file);
  PERIGEE_TRY(core_.Save(file));
  core_.stats->creates->Add();
  return Opened{.file = file, .access = Access::kWrite, .record = reply->record};
}

void Opener::Release(const FilePtr& file, Access access) {
  bool seal;
  {
    std::lock_guard lock(file->mu);
    uint32_t& count = access == Access::kWrite ? file->writers : file->readers;
    PERIGEE_CHECK(count > 0);
    --count;
    file->rec.accessed = core_.clock->Wall();
    seal = access == Access::kWrite && file->writers == 0;
    file->changed.NotifyAll();
  }
  if (seal) parts_.sealer->Queue(file);
  core_.RetireIfUnneeded(file);
}

Status Opener::Truncate(const FilePtr& file, uint64_t size) {
  PERIGEE_ASSIGN(auto open, core_.store->Open(file->dir, file->burst, OpenMode::kReadWrite));
  return open->Truncate(size);
}

Result<FilePtr> Opener::TruncateClosed(const wire::Caller& caller, wire::FileId id, uint64_t size,
                                       Nanos deadline) {
  PERIGEE_ASSIGN(Opened opened, Open({.caller = caller,
                                      .id = id,
                                      .access = Access::kWrite,
                                      .truncate = size == 0,
                                      .deadline = deadline}));
  Status s = Truncate(opened.file, size);
  if (s.ok()) s = parts_.publisher->Publish(opened.file, false);
  Release(opened.file, Access::kWrite);
  if (!s.ok()) return s;
  return opened.file;
}

}  // namespace perigee::bufferd
