#include "bufferd/engine.h"

#include "base/log.h"
#include "bufferd/remote_read.h"

namespace perigee::bufferd {

using wire::BurstState;
using wire::Durability;

Result<std::unique_ptr<Engine>> Engine::Create(EngineDeps deps, EngineOptions options) {
  std::unique_ptr<Engine> engine(new Engine(std::move(deps), std::move(options)));
  PERIGEE_TRY(engine->Build());
  return engine;
}

Engine::~Engine() { Stop(); }

Status Engine::Build() {
  PERIGEE_ASSIGN(store_, StoreDir::Open(*deps_.disk, *deps_.clock, options_.store_dir));
  PERIGEE_ASSIGN(table_, BurstTable::Create(deps_.index));
  stats_ = std::make_unique<Stats>(*deps_.metrics);
  core_.clock = deps_.clock;
  core_.work = deps_.work;
  core_.fill = deps_.fill;
  core_.flush = deps_.flush;
  core_.unlink = deps_.unlink;
  core_.store = store_.get();
  core_.index = deps_.index;
  core_.table = table_.get();
  core_.meta = deps_.meta;
  saves_ = std::make_unique<client::MetaClient>(deps_.meta->In(rdma::TrafficClass::kCheckpoint));
  flushes_ = std::make_unique<client::MetaClient>(deps_.meta->In(rdma::TrafficClass::kFlush));
  core_.saves = saves_.get();
  core_.flushes = flushes_.get();
  core_.feed = deps_.feed ? deps_.feed : deps_.meta;
  core_.names = deps_.names;
  core_.delegations = deps_.delegations;
  if (deps_.names) named_ = std::make_unique<client::MetaClient>(deps_.names->calls());
  core_.named = named_ ? named_.get() : deps_.meta;
  core_.blobs = deps_.blobs;
  core_.blobs_ahead = deps_.blobs_ahead ? deps_.blobs_ahead : deps_.blobs;
  core_.make_writer = deps_.make_writer;
  core_.peers = deps_.peers;
  core_.stats = stats_.get();
  core_.node = options_.node;
  core_.boot = options_.boot_id;

  publisher_ = std::make_unique<Publisher>(core_, [this](const FilePtr& f) { syncer_->Add(f); });
  syncer_ = std::make_unique<Syncer>(core_);
  sealer_ = std::make_unique<Sealer>(core_, *publisher_, [this](const FilePtr& f) { OnSealed(f); });
  scrub_ = std::make_unique<Scrub>(core_, *sealer_, options_.scrub, deps_.metrics);
  flusher_ = std::make_unique<Flusher>(core_, options_.flush,
                                       [this](const FilePtr& f) { sealer_->Queue(f); });
  evictor_ = std::make_unique<Evictor>(core_);
  PERIGEE_ASSIGN(budget_, Budget::Create(core_, options_.budget, [this] {
                   if (!budget_) return;  // its first look, while it is being made
                   evictor_->Wake();
                   flusher_->ForceOldest();
                 }));
  evictor_->SetBudget(budget_.get());
  filler_ = std::make_unique<Filler>(core_, [this](const FilePtr& f) { syncer_->Add(f); });
  filler_->SetBudget(budget_.get());
  recovery_ = std::make_unique<Recovery>(core_, Recovery::Parts{.publisher = publisher_.get(),
                                                                .sealer = sealer_.get(),
                                                                .flusher = flusher_.get(),
                                                                .syncer = syncer_.get()});
  opener_ = std::make_unique<Opener>(
      core_,
      Opener::Parts{.publisher = publisher_.get(),
                    .sealer = sealer_.get(),
                    .flusher = flusher_.get(),
                    .filler = filler_.get(),
                    .budget = budget_.get(),
                    .reconcile = [this](const FilePtr& f) { return recovery_->Reconcile(f); },
                    .reconcile_flagged = [this] { recovery_->ReconcileAll(); },
                    .lost = [this](const wire::Record& r) { recovery_->Lost(r); }});
  core_.recheck = [this](const FilePtr& f) { recovery_->Recheck(f); };
  feed_ = std::make_unique<ReleaseFeed>(core_, *recovery_, deps_.poll);
  return Status::Ok();
}

Status Engine::Start() {
  PERIGEE_TRY(recovery_->Load());
  if (core_.names) PERIGEE_TRY(StartNames());
  recovery_->ReconcileAll();
  feed_->Start();
  PollBudget();
  if (Status s = scrub_->Start(); !s.ok()) log::Error("scrub_not_started", {{"error", s}});
  return Status::Ok();
}

Status Engine::StartNames() {
  return core_.names->Start(
      {.owned = [this](wire::FileId id) { return Owned(id); },
       .describe = [this](wire::Record* record) { DescribeClosed(record); },
       .at_risk = [this](wire::FileId id) { return AtRisk(id); },
       .commit = [this](wire::FileId id) { return Commit(id); },
       .commit_all =
           [this] {
             bool left;
             return publisher_->RegisterWaiting(&left);
           },
       .keep = [this](wire::FileId id) { return publisher_->Keep(id); },
       .again = [this](wire::FileId id) { return publisher_->TakeBack(id); },
       .let_go =
           [this](wire::FileId id) {
             if (FilePtr file = core_.table->Current(id)) core_.RetireIfUnneeded(file);
           },
       .released = [this](const wire::Record& record) { OnUnlinked(record); },
       .discarded = [this](const wire::Record& record) { Discard(record.id); },
       .hear_removals = [this](client::MetaClient& objectd) { return feed_->CatchUp(objectd); },
       .went_away =
           [this] {
             if (core_.delegations) core_.delegations->Forgo();
           },
       .caught_up =
           [this](bool restarted) {
             if (restarted) recovery_->FlagUnsettled();
             publisher_->TellWriters();
             recovery_->ReconcileAll();
             publisher_->RegisterLater();
           },
       .report = [this](std::string line) { core_.Report(std::move(line)); }});
}

Status Engine::ReadForPeer(const wire::BurstReadRequest& q, MutableBytes out) {
  Status s = ReadBurst(core_, q, out);
  if (!s.Is(Code::kUnavailable) || core_.table->Find(q.burst)) return s;
  auto now = core_.meta->GetAttr({.id = q.id});
  if (!now.ok() || core_.table->Find(q.burst)) return s;
  const auto& committed = now->record.committed;
  if (!committed || !IsOurs(core_, committed->layout, q.burst) ||
      committed->durability != wire::Durability::kUnsynced)
    return s;
  recovery_->Lost(now->record);
  return Status(Code::kStale, "the content was lost with the power, and fell back");
}

bool Engine::Owned(wire::FileId id) const {
  FilePtr file = core_.table->Current(id);
  if (!file) return false;
  std::lock_guard lock(file->mu);
  return !file->gone && !file->orphan;
}

bool Engine::AtRisk(wire::FileId id) const {
  FilePtr file = core_.table->Current(id);
  if (!file) return false;
  std::lock_guard lock(file->mu);
  return !file->gone && !file->orphan && file->rec.durability == Durability::kUnsynced;
}

Status Engine::Commit(wire::FileId id) {
  FilePtr file = core_.table->Current(id);
  if (!file) return Status::Ok();
  bool unchecked;
  {
    std::lock_guard lock(file->mu);
    unchecked = file->needs_reconcile;
  }
  // After a reboot it may be torn.
  if (unchecked) PERIGEE_TRY(recovery_->Reconcile(file));
  BusyHold hold(file);
  return hold.held() ? publisher_->RegisterHeld(file, false) : Status::Ok();
}

void Engine::Discard(wire::FileId id) {
  FilePtr file = core_.table->Current(id);
  if (!file) return;
  {
    std::lock_guard lock(file->mu);
    file->orphan = file->released = true;
    file->flush_cancel = true;
  }
  core_.RetireIfUnneeded(file);
}

void Engine::DescribeClosed(wire::Record* record) const {
  FilePtr file = table_->Current(record->id);
  if (!file) return;
  std::lock_guard lock(file->mu);
  const BurstRecord& rec = file->rec;
  // Registered or not: the record may be of before.
  bool older = !record->committed || record->committed->generation < rec.generation;
  if (rec.generation == 0 || file->gone || file->orphan || (rec.registered && !older)) return;
  record->committed = wire::Version{.generation = rec.generation,
                                    .size = rec.size,
                                    .mtime = rec.mtime,
                                    .durability = rec.durability};
  record->committed->layout.kind = wire::LayoutKind::kBurst;
  record->committed->layout.node = options_.node;
  record->committed->layout.burst = file->burst;
  record->mtime = rec.mtime;
  record->ctime = std::max(record->ctime, rec.ctime);
}

void Engine::Stop() {
  core_.stopping = true;
  if (core_.names) core_.names->Stop();
  if (table_) table_->NotifyProgress();
}

void Engine::PollBudget() {
  if (core_.stopping) return;
  if (Status s = budget_->Poll(); !s.ok()) log::Error("budget_poll_failed", {{"error", s}});
  // Nobody writes or fills: nothing grows, so look rarely.
  bool active = false;
  for (const FilePtr& file : table_->All()) {
    std::lock_guard lock(file->mu);
    if (file->writers > 0 || file->fills_in_flight > 0) {
      active = true;
      break;
    }
  }
  (void)core_.work->PostAfter(
      active || budget_->Low() ? options_.budget_poll : 10 * options_.budget_poll,
      [this] { PollBudget(); });
}

void Engine::OnSealed(const FilePtr& file) {
  flusher_->Add(file);
  // The linger is when the checksums are made; a flush that comes first makes them itself.
  Status posted = core_.work->Post([this, file] {
    Status s = sealer_->Checksum(file);
    if (!s.ok() && !s.Is(Code::kConflict) && !s.Is(Code::kNotFound))
      log::Warn("checksums_failed", {{"burst", HexEncode64(file->burst)}, {"error", s}});
  });
  posted.Ignore();
}

Status Engine::Fsync(const FilePtr& file, Durability durability, Nanos deadline) {
  if (durability == Durability::kUnsynced) return publisher_->Publish(file, false);
  if (durability > Durability::kObject)
    return Status(Code::kInvalidArgument, "no such durability class");
  if (durability == Durability::kPartner)
    return Status(Code::kUnimplemented, "partner copies are not there yet");
  PERIGEE_TRY(publisher_->Publish(file, true));
  while (durability == Durability::kObject) {
    bool open;
    {
      std::lock_guard lock(file->mu);
      if (file->gone || file->orphan || !file->OnlyCopy()) return Status::Ok();
      open = file->Unsealed();
    }
    Status s;
    if (open)
      s = flusher_->FlushOpen(file);
    else
      flusher_->Force(file);
    if (open && s.ok()) continue;
    if (!s.ok() && !s.Is(Code::kConflict) && !IsAway(s)) return s;
    Nanos left = deadline - core_.clock->Monotonic();
    if (left <= 0 || core_.stopping)
      return Status(Code::kDeadlineExceeded,
                    "not in the object tier in time: " + (s.ok() ? "waiting" : s.message()));
    table_->WaitProgress(std::min<Nanos>(left, 100 * kMillisecond));
    // Written between publish and copy: another publish, then.
    if (s.Is(Code::kConflict)) PERIGEE_TRY(publisher_->Publish(file, true));
  }
  return Status::Ok();
}

Status Engine::Sync(wire::FileId id, Nanos deadline) {
  FilePtr file = table_->Current(id);
  return file ? Fsync(file, Durability::kLocal, deadline) : Status::Ok();
}

Status Engine::Write(const FilePtr& file, uint64_t offset, ConstBytes data, Nanos deadline) {
  if (budget_->Low()) PERIGEE_TRY(budget_->Admit(data.size(), deadline));
  PERIGEE_ASSIGN(auto open, store_->Open(file->dir, file->burst, OpenMode::kReadWrite));
  PERIGEE_TRY(open->WriteAt(offset, data));
  core_.stats->bytes_written_slow->Add(static_cast<double>(data.size()));
  return Status::Ok();
}

wire::BurstStatReply Engine::Describe(const FilePtr& file) const {
  wire::BurstStatReply reply;
  bool live;
  {
    std::lock_guard lock(file->mu);
    reply = file->Describe();
    live = file->Unsealed();
  }
  if (!live) return reply;
  auto open = store_->Open(file->dir, file->burst, OpenMode::kRead);
  auto stat = open.ok() ? StoreDir::Stat(**open) : Result<FileStat>(open.status());
  if (!stat.ok()) return reply;
  reply.size = reply.resident_bytes = reply.dirty_bytes = stat->size;
  reply.mtime = stat->mtime;
  reply.allocated_bytes = stat->allocated;
  return reply;
}

void Engine::OnUnlinked(const wire::Record& record) {
  if (record.nlink > 1 || record.kind != wire::FileKind::kFile) return;
  FilePtr file = table_->Current(record.id);
  if (!file) return;
  {
    std::lock_guard lock(file->mu);
    file->orphan = true;
    file->flush_cancel = true;
  }
  core_.RetireIfUnneeded(file);
}

Status Engine::SetMtime(wire::FileId id, int64_t mtime) {
  FilePtr file = table_->Current(id);
  if (!file) return Status::Ok();
  PERIGEE_ASSIGN(auto open, store_->Open(file->dir, file->burst, OpenMode::kRead));
  std::lock_guard lock(file->mu);
  PERIGEE_ASSIGN(FileStat before, StoreDir::Stat(*open));
  PERIGEE_TRY(StoreDir::SetMtime(*open, mtime));
  PERIGEE_ASSIGN(FileStat after, StoreDir::Stat(*open));
  // Only the times moved: not a change of content. One that was there already stays one.
  if (before.SameContent({file->rec.size, file->rec.mtime, file->rec.ctime, 0})) {
    file->rec.mtime = after.mtime;
    file->rec.ctime = after.ctime;
  }
  return Status::Ok();
}

bool Engine::Writes(const wire::WriterOf& q) const {
  FilePtr file = table_->Find(q.burst);
  if (!file) return table_->OfThisRun(q.burst);
  std::lock_guard lock(file->mu);
  return !file->gone && file->rec.id == q.id && (file->rec.writing || file->writers > 0);
}

void Engine::FillStatus(wire::BufferdStatusReply* status) const {
  status->node = options_.node;
  status->store_dir = options_.store_dir;
  status->budget_bytes = budget_->budget_bytes();
  status->reserve_bytes = budget_->reserve_bytes();
  status->used_bytes = budget_->used_bytes();
  status->flush_held = flusher_->held();
  status->flushing = flusher_->running();
  status->registered_later = publisher_->waiting() + (core_.names ? core_.names->waiting() : 0);
  status->counters = stats_->Snapshot();
  status->reported = core_.Reported();
  wire::RiskRow rows[3];
  int64_t oldest = 0;
  Nanos now = core_.clock->Wall();
  for (const FilePtr& file : table_->All()) {
    std::lock_guard lock(file->mu);
    if (file->gone || file->orphan) continue;
    ++status->files;
    bool at_risk = file->OnlyCopy() && !file->superseded;
    if (at_risk || file->Unsealed()) ++status->dirty_files;
    if (!at_risk) continue;
    auto& row = rows[std::min<size_t>(static_cast<size_t>(file->rec.durability), 2)];
    row.files += 1;
    row.bytes += file->rec.size;
    oldest = std::max(oldest, now - (file->rec.ctime > 0 ? file->rec.ctime : file->rec.mtime));
  }
  for (size_t i = 0; i < 3; ++i) {
    if (rows[i].files == 0) continue;
    rows[i].durability = static_cast<Durability>(i);
    status->at_risk.push_back(rows[i]);
  }
  status->oldest_unflushed_s = oldest / kSecond;
}

}  // namespace perigee::bufferd
