#include "bufferd/recovery.h"

#include <algorithm>
#include <map>
#include <utility>
#include <vector>

#include "base/failpoint.h"
#include "base/log.h"
#include "bufferd/verify.h"

namespace perigee::bufferd {

using wire::BurstState;
using wire::Durability;

namespace {

constexpr Nanos kRetryEvery = 2 * kSecond;
// Clients that hold files open come back within this after a restart of the daemon.
constexpr Nanos kClientsReturn = 5 * kSecond;

bool IsCopy(const BurstRecord& rec) {
  return !rec.writing && (rec.home == Home::kBlobs || rec.home == Home::kPeer ||
                          (rec.home == Home::kInline && rec.registered) ||
                          (rec.home == Home::kNone && rec.state == BurstState::kClean));
}

// That generation, or a newer one.
bool Knows(const wire::Record& record, const BurstRecord& rec) {
  return rec.generation <= (record.committed ? record.committed->generation : 0);
}

// Newer than what the namespace has, where nobody else has written since: closed while it was away
// and did not know of the writer, or committed there and lost with its power. It is registered
// (again): see Publisher::TellWriter. With the file's lock held.
bool Untold(const Core& core, const BurstFile& file, const wire::Record& record) {
  const BurstRecord& rec = file.rec;
  if (file.superseded || (record.writer && record.writer->node != core.node)) return false;
  const bool here =
      rec.registered ? file.OnlyCopy() && rec.SurvivedAsClosed(core.boot) : rec.writing;
  return here && !Knows(record, rec);
}

// Closed here and not registered, and another node has taken the file over: it becomes a file
// beside (Publisher::MoveBeside). With the file's lock held.
bool TakenOver(const Core& core, const BurstFile& file, const wire::Record& record) {
  const BurstRecord& rec = file.rec;
  if (rec.generation == 0 || rec.registered || !rec.writing || file.superseded || file.lost ||
      !rec.SurvivedAsClosed(core.boot))
    return false;
  if (record.writer && record.writer->node != core.node) return true;
  const auto& committed = record.committed;
  return committed && !(committed->generation == rec.generation && committed->size == rec.size &&
                        committed->mtime == rec.mtime);
}

// A publish was committed, its answer lost, and the file published again by the same number.
bool PublishedBefore(const BurstRecord& rec, const wire::Record& record) {
  return !rec.registered && record.committed && record.committed->generation == rec.generation &&
         (record.committed->size != rec.size || record.committed->mtime != rec.mtime);
}

// Of a file whose committed version was lost, in words.
std::string WhatIsLeft(const wire::Record& record) {
  if (!record.previous) return "there was no earlier version";
  const uint64_t generation = record.previous->generation;
  return generation & wire::kOfReplaced ? "fell back to what it had replaced by a rename"
                                        : "fell back to version " + std::to_string(generation);
}

// Which of several burst files of one id serves it.
bool Before(const FilePtr& a, const FilePtr& b) {
  if (a->rec.writing != b->rec.writing) return b->rec.writing;
  if (a->rec.generation != b->rec.generation) return a->rec.generation < b->rec.generation;
  return a->burst < b->burst;
}

}  // namespace

Status Recovery::Load() {
  PERIGEE_ASSIGN(auto found, core_.store->List());
  std::map<wire::BurstId, uint32_t> on_disk;
  for (const auto& f : found) on_disk[f.burst] = f.dir;
  std::vector<BurstRecord> records;
  PERIGEE_TRY(core_.index->ForEach([&](BurstRecord r) { records.push_back(std::move(r)); }));
  std::vector<FilePtr> kept;
  for (BurstRecord& rec : records) {
    auto it = on_disk.find(rec.burst);
    bool has_file = it != on_disk.end();
    if (has_file) {
      rec.dir = it->second;
      on_disk.erase(it);
    }
    PERIGEE_TRY(LoadOne(std::move(rec), has_file, &kept));
  }
  PERIGEE_TRY(ClearUnrecorded(on_disk));
  std::map<wire::FileId, std::vector<FilePtr>> of_id;
  for (const FilePtr& file : kept) {
    core_.table->Add(file);
    if (file->rec.id != 0) of_id[file->rec.id].push_back(file);
  }
  for (auto& [id, files] : of_id) {
    std::sort(files.begin(), files.end(), Before);
    for (size_t i = 0; i + 1 < files.size(); ++i) {
      files[i]->superseded = true;
      files[i + 1]->predecessor = files[i];
    }
    core_.table->SetCurrent(id, files.back());
  }
  return Status::Ok();
}

// Files without records are creates that were cut off, or flushed files; but where the index lost
// records that were synced, they may be the only copies.
Status Recovery::ClearUnrecorded(const std::map<wire::BurstId, uint32_t>& files) {
  for (const auto& [burst, dir] : files) {
    if (core_.index->damaged()) {
      log::Error("burst_file_set_aside", {{"burst", HexEncode64(burst)}});
      PERIGEE_TRY(core_.store->SetAside(dir, burst));
    } else {
      log::Info("burst_file_without_record", {{"burst", HexEncode64(burst)}});
      PERIGEE_TRY(core_.store->Unlink(dir, burst));
    }
  }
  if (core_.index->damaged()) {
    // Changes may get numbers once more that objectd was told of.
    PERIGEE_TRY(core_.index->RemoveValue(kNamesJournal));
    PERIGEE_TRY(core_.index->SettleDamage());
  }
  PERIGEE_ASSIGN(uint64_t aside, core_.store->CountAside());
  if (aside == 0) return Status::Ok();
  core_.stats->set_aside->Add(static_cast<double>(aside));
  core_.Report(std::to_string(aside) + " burst files in " + core_.store->root() +
               "/lost: their records were lost when the index was damaged");
  return Status::Ok();
}

Status Recovery::LoadOne(BurstRecord rec, bool has_file, std::vector<FilePtr>* kept) {
  bool rebooted = rec.boot != core_.boot;
  bool copy = IsCopy(rec);
  bool never_published = rec.generation == 0 && !rec.writing;
  if (!has_file && (copy || never_published)) return core_.index->Remove(rec.burst);
  uint64_t allocated = 0;
  if (has_file) {
    PERIGEE_ASSIGN(auto open, core_.store->Open(rec.dir, rec.burst, OpenMode::kRead));
    PERIGEE_ASSIGN(FileStat stat, StoreDir::Stat(*open));
    allocated = stat.allocated;
    if (copy && ((rebooted && !rec.resident_synced) || stat.size != rec.size)) {
      PERIGEE_TRY(core_.index->Remove(rec.burst));
      return core_.store->Unlink(rec.dir, rec.burst);
    }
  }
  if (rec.state == BurstState::kFlushing) rec.state = BurstState::kSealed;
  if (copy) rec.boot = core_.boot;
  FilePtr file = core_.table->Make(std::move(rec));
  file->lost = !has_file;
  file->needs_reconcile = true;
  file->unverified = rebooted;
  file->sealed_at = core_.clock->Monotonic();
  file->SetAllocated(allocated);
  kept->push_back(std::move(file));
  return Status::Ok();
}

// What was superseded by content that is gone. What it was found to be, it was found as the one
// before: it is asked about again.
void Recovery::ServeAgain(FilePtr before) {
  FilePtr file = parts_.sealer->Reinstate(std::move(before));
  if (!file) return;
  {
    std::lock_guard lock(file->mu);
    file->needs_reconcile = true;
  }
  ReconcileAll();
}

// To the one before, if `file` served. One that did not keeps its predecessor for those after it.
void Recovery::GiveWay(const FilePtr& file) {
  FilePtr before;
  wire::FileId id;
  {
    std::lock_guard lock(file->mu);
    id = file->rec.id;
  }
  if (core_.table->Current(id) != file) return;
  {
    std::lock_guard lock(file->mu);
    before = std::exchange(file->predecessor, nullptr);
  }
  ServeAgain(std::move(before));
}

Status Recovery::Reconcile(const FilePtr& file) {
  Verdict verdict;
  bool dropped;
  {
    BusyHold hold(file);
    if (!hold.held()) return Status::Ok();
    bool written;
    {
      std::lock_guard lock(file->mu);
      if (!file->needs_reconcile) return Status::Ok();
      written = file->writers > 0;
    }
    if (written) return ReconcileWritten(file);
    parts_.flusher->CancelAndWait(file);
    PERIGEE_ASSIGN(verdict, ReconcileHeld(file));
    std::lock_guard lock(file->mu);
    file->needs_reconcile = false;
    dropped = verdict == Verdict::kDrop;
    if (!dropped && file->rec.registered && file->rec.generation != 0) file->predecessor.reset();
    if (dropped && file->readers > 0) {
      // Those who have it open keep it; it goes with the last of them.
      file->released = file->superseded = true;
      file->rec.registered = true;  // nothing is left to register
      verdict = Verdict::kKeep;
    }
  }
  if (dropped) GiveWay(file);
  if (verdict == Verdict::kDrop) {
    core_.Drop(file);
    return Status::Ok();
  }
  PERIGEE_TRY(core_.Save(file));
  bool unsealed, unsynced, unregistered;
  {
    std::lock_guard lock(file->mu);
    unsealed = file->Unsealed();
    unregistered = !file->rec.registered && file->rec.generation != 0;
    unsynced = file->rec.generation != 0 &&
               (file->rec.durability == Durability::kUnsynced ||
                (file->rec.home == Home::kInline && file->rec.durability != Durability::kObject));
  }
  if (unregistered) parts_.publisher->RegisterLater();
  if (unsynced) parts_.syncer->Add(file);
  if (unsealed)
    parts_.sealer->Queue(file, kClientsReturn);
  else
    parts_.flusher->Add(file);
  core_.RetireIfUnneeded(file);
  core_.table->NotifyProgress();
  return Status::Ok();
}

// Its bytes are its writers'. What was published of it, and objectd has lost, is registered again.
Status Recovery::ReconcileWritten(const FilePtr& file) {
  const uint64_t life = core_.Life();
  wire::FileId id;
  {
    std::lock_guard lock(file->mu);
    id = file->rec.registered && file->rec.generation != 0 && file->OnlyCopy() ? file->rec.id : 0;
  }
  Result<wire::RecordReply> now = Status(Code::kNotFound, "not asked");
  if (id != 0) now = core_.meta->GetAttr({.id = id});
  if (!now.ok() && IsAway(now.status())) return std::move(now).TakeStatus();
  bool lost = false;
  {
    std::lock_guard lock(file->mu);
    file->needs_reconcile = false;
    if (now.ok() && Knows(now->record, file->rec)) file->registered_in = life;
    lost = now.ok() && !Knows(now->record, file->rec) && !file->superseded;
    if (lost) file->rec.registered = false;
  }
  if (lost) parts_.publisher->RegisterLater();
  return Status::Ok();
}

Result<Recovery::Verdict> Recovery::ReconcileHeld(const FilePtr& file) {
  BurstRecord rec;
  bool rebooted, untold;
  {
    std::lock_guard lock(file->mu);
    rec = file->rec;
    rebooted = rec.boot != core_.boot || file->lost;
  }
  if (rec.id == 0) return UnfinishedCreate(file, rec);
  const uint64_t life = core_.Life();
  Result<wire::RecordReply> reply = core_.meta->GetAttr({.id = rec.id});
  if (!reply.ok()) {
    // The journal of names is about to make it there once more.
    if (!IsGone(reply.status()) || core_.Keeps(rec.id)) return std::move(reply).TakeStatus();
    // Nothing is destroyed before the commit that released it is durable.
    PERIGEE_TRY(core_.SyncIn(life));
    return Verdict::kDrop;
  }
  const wire::Record& record = reply->record;
  bool committed_here = record.committed && IsOurs(core_, record.committed->layout, file->burst);
  bool previous_here = record.previous && IsOurs(core_, record.previous->layout, file->burst);
  bool writer_here = IsWriter(core_, record, file->burst);
  {
    std::lock_guard lock(file->mu);
    untold = Untold(core_, *file, record);
    if (record.committed && record.committed->generation == rec.generation)
      file->registered_in = life;
  }
  if (!committed_here && !writer_here && !untold) {
    {
      std::lock_guard lock(file->mu);
      if (TakenOver(core_, *file, record)) {
        file->rec.boot = core_.boot;
        file->rec.state = BurstState::kPublished;
        return Verdict::kKeep;
      }
    }
    if (!previous_here) return Unnamed(file, record, life);
    const wire::Layout& now = record.committed->layout;
    bool unsynced = record.committed->durability < Durability::kLocal;
    if (unsynced && now.kind == wire::LayoutKind::kBurst && now.node == core_.node &&
        !core_.table->Find(now.burst)) {
      PERIGEE_TRY(FallBack(record));
      return ReconcileHeld(file);
    }
    std::lock_guard lock(file->mu);
    file->superseded = true;
    file->rec.writing = false;
    file->rec.registered = true;
    if (file->Unsealed()) file->rec.state = BurstState::kSealed;
    return Verdict::kKeep;
  }
  return rebooted ? AfterReboot(file, record) : AfterCrash(file, record);
}

Result<Recovery::Verdict> Recovery::UnfinishedCreate(const FilePtr& file, const BurstRecord& rec) {
  Result<wire::RecordReply> reply = core_.meta->Lookup({.parent = rec.parent, .name = rec.name});
  if (!reply.ok() && IsAway(reply.status())) return std::move(reply).TakeStatus();
  if (reply.ok() && IsWriter(core_, reply->record, file->burst)) {
    Status s =
        core_.meta->EndWrite({.id = reply->record.id, .node = core_.node, .burst = file->burst})
            .status();
    if (!s.ok() && !IsGone(s)) return s;
  }
  return Verdict::kDrop;
}

// Nothing in the namespace names this burst file: a copy of what is committed stays, everything
// else goes.
Result<Recovery::Verdict> Recovery::Unnamed(const FilePtr& file, const wire::Record& record,
                                            uint64_t life) {
  {
    std::lock_guard lock(file->mu);
    BurstRecord& rec = file->rec;
    bool same =
        record.committed ? record.committed->generation == rec.generation : rec.generation == 0;
    if (same && !rec.writing && rec.SurvivedWhole(core_.boot) && !file->lost) {
      if (record.committed && rec.home == Home::kBurst) {
        // A flush was committed and its answer lost.
        rec.home = Home::kBlobs;
        file->residency.Change(RangeState::kDirty, RangeState::kResident);
        rec.resident_synced = rec.synced_generation == rec.generation;
      }
      rec.registered = true;
      // Inline content is as durable as its commit, which the syncer sees to.
      if (!record.committed)
        rec.durability = Durability::kObject;
      else if (rec.home != Home::kInline)
        rec.durability = std::max(rec.durability, record.committed->durability);
      if (rec.home == Home::kBlobs) rec.durability = Durability::kObject;
      rec.state = file->Settled();
      rec.boot = core_.boot;
      return Verdict::kKeep;
    }
  }
  PERIGEE_TRY(core_.SyncIn(life));
  return Verdict::kDrop;
}

// The committed version was unsynced, and the power cut took its burst file, or what was in it.
Status Recovery::FallBack(const wire::Record& record) {
  const wire::Version& version = *record.committed;
  PERIGEE_FAILPOINT(burst_recover_before_fallback);
  Result<wire::RecordReply> reply = core_.meta->FallBack({.id = record.id,
                                                          .node = core_.node,
                                                          .burst = version.layout.burst,
                                                          .generation = version.generation});
  if (!reply.ok() && !IsGone(reply.status())) return std::move(reply).TakeStatus();
  const auto* now = reply.ok() && reply->record.committed ? &*reply->record.committed : nullptr;
  if (now && now->layout.kind == wire::LayoutKind::kBurst && now->layout.node == core_.node) {
    if (FilePtr file = core_.table->Find(now->layout.burst)) ServeAgain(file);
  }
  PERIGEE_FAILPOINT(burst_recover_after_fallback);
  core_.stats->fell_back->Add();
  core_.Report("file " + HexEncode64(record.id) + ": version " +
               std::to_string(version.generation) + " (" + std::to_string(version.size) +
               " bytes) was unsynced when the node went down; " + WhatIsLeft(record));
  return Status::Ok();
}

// A write that was not committed ends. A file whose first content was closed, and is lost, goes:
// its name alone would be an empty file.
Status Recovery::EndLost(const FilePtr& file, const wire::Record& record) {
  bool first;
  {
    std::lock_guard lock(file->mu);
    first = file->rec.generation != 0 && !file->predecessor && !record.committed &&
            !record.previous && IsWriter(core_, record, file->burst);
  }
  Status s = first
                 ? core_.meta->FallBack({.id = record.id, .node = core_.node, .burst = file->burst})
                       .status()
                 : core_.meta->EndWrite({.id = record.id, .node = core_.node, .burst = file->burst})
                       .status();
  return IsGone(s) ? Status::Ok() : s;
}

// After power loss the bytes are those of the record if every block still has its checksum.
bool Recovery::Intact(const FilePtr& file, const BurstRecord& rec) {
  auto crcs = core_.index->GetCrcs(file->burst);
  if (!crcs.ok() || crcs->generation != rec.generation || crcs->size != rec.size) return false;
  auto open = core_.store->Open(file->dir, file->burst, OpenMode::kRead);
  if (!open.ok()) return false;
  auto stat = StoreDir::Stat(**open);
  if (!stat.ok() || stat->size != rec.size) return false;
  auto bad = FindBadBlock(**open, *crcs, 0, BlockCount(*crcs));
  return bad.ok() && !*bad;
}

bool Recovery::TimesMoved(const FilePtr& file, const BurstRecord& rec) {
  auto open = core_.store->Open(file->dir, file->burst, OpenMode::kRead);
  if (!open.ok()) return true;
  auto stat = StoreDir::Stat(**open);
  return !stat.ok() || !stat->SameContent({rec.size, rec.mtime, rec.ctime, 0});
}

Result<Recovery::Verdict> Recovery::AfterReboot(const FilePtr& file, const wire::Record& record) {
  BurstRecord rec;
  bool lost;
  {
    std::lock_guard lock(file->mu);
    rec = file->rec;
    lost = file->lost;
  }
  bool committed_here = record.committed && IsOurs(core_, record.committed->layout, file->burst);
  bool writer_here = IsWriter(core_, record, file->burst);
  // Small content that the namespace has not heard of, or has lost, is here only.
  const bool known = rec.registered && Knows(record, rec);
  bool kept_here = rec.home == Home::kBurst || (rec.home == Home::kInline && !known);
  bool synced = kept_here && rec.synced_generation != 0 && rec.synced_generation == rec.generation;
  if (synced && !lost && (!rec.writing || (!committed_here && !known) || Intact(file, rec))) {
    std::lock_guard lock(file->mu);
    file->rec.boot = core_.boot;
  } else if (!committed_here) {
    // The write was never published: what was committed before it stands, and is elsewhere.
    if (rec.home != Home::kNone && !Knows(record, rec)) {
      core_.stats->fell_back->Add();
      core_.Report(Core::NameOf(*file) +
                   ": content that was closed while the namespace did not know of it was unsynced "
                   "when the node went down");
    }
    PERIGEE_TRY(EndLost(file, record));
    return Verdict::kDrop;
  } else if (lost && record.committed->durability >= Durability::kLocal) {
    core_.stats->lost_files->Add();
    core_.Report(Core::NameOf(*file) +
                 ": its burst file is missing from the store, though it was synced");
    std::lock_guard lock(file->mu);
    file->corrupt = true;
    file->rec.boot = core_.boot;
    file->rec.writing = false;
    file->rec.registered = true;
    file->rec.state = BurstState::kSealed;
    return Verdict::kKeep;
  } else {
    bool whole_elsewhere = record.previous && !IsOurs(core_, record.previous->layout, file->burst);
    // The namespace may not have heard that it was synced.
    bool unsynced = record.committed->durability < Durability::kLocal && !synced;
    if (lost || (unsynced && (whole_elsewhere || rec.synced_generation == 0))) {
      PERIGEE_TRY(FallBack(record));
      Status s =
          writer_here
              ? core_.meta->EndWrite({.id = rec.id, .node = core_.node, .burst = file->burst})
                    .status()
              : Status::Ok();
      if (!s.ok() && !IsGone(s)) return s;
      return Verdict::kDrop;
    }
    // Where not even the times moved, nothing was written for all that is known; still not proven,
    // so not the same version.
    if (TimesMoved(file, rec)) {
      core_.stats->rewritten_torn->Add();
      core_.Report(Core::NameOf(*file) +
                   ": was being rewritten in place when the node went down; its content is what "
                   "the local file system kept");
    }
    std::lock_guard lock(file->mu);
    file->rec.ctime = 0;  // the seal publishes it as a new generation
    file->rec.durability = Durability::kUnsynced;
    file->rec.boot = core_.boot;
  }
  return AfterCrash(file, record);
}

// The daemon died, the machine did not: the bytes are what the last writer left, or is still
// writing.
Result<Recovery::Verdict> Recovery::AfterCrash(const FilePtr& file, const wire::Record& record) {
  bool committed_here = record.committed && IsOurs(core_, record.committed->layout, file->burst);
  bool writer_here = IsWriter(core_, record, file->burst);
  bool told = true, gone = false;
  wire::SetDurabilityRequest raise{.id = record.id, .node = core_.node, .burst = file->burst};
  {
    std::lock_guard lock(file->mu);
    BurstRecord& rec = file->rec;
    const bool was_writing = rec.writing, whole = file->Whole() && !file->lost && !file->corrupt;
    const bool other = PublishedBefore(rec, record);
    const bool untold = !writer_here && Untold(core_, *file, record);
    rec.writing = writer_here || untold;
    if (writer_here) rec.writer_generation = record.writer->generation;
    if (untold) {
      rec.registered = false;
      rec.writer_generation = rec.generation;
    }
    if (committed_here && writer_here && other && rec.ctime != 0) {
      rec.Renumber(rec.writer_generation);
    } else if (committed_here) {
      rec.registered = record.committed->generation >= rec.generation;
      if (rec.registered && (other || record.committed->generation != rec.generation)) {
        rec.generation = record.committed->generation;
        rec.ctime = 0;  // the seal publishes it as a new generation
      }
      if (rec.registered && !other && rec.durability > record.committed->durability) {
        told = false;
        raise.generation = rec.generation;
        raise.durability = rec.durability;
      }
    } else if (writer_here && !other && record.committed && rec.home == Home::kInline &&
               record.committed->generation == rec.generation) {
      rec.registered = true;
    } else if (writer_here && (other || rec.generation >= record.writer->generation)) {
      // Removed there, what the object tier had of it as well, and its name made again.
      const bool was_there = rec.durability > Durability::kLocal || rec.home == Home::kBlobs ||
                             rec.home == Home::kPeer;
      gone = was_there && !whole;
      if (was_there) {
        file->OnlyHere(record.writer->generation,
                       rec.resident_synced || rec.synced_generation == rec.generation);
      } else {
        rec.registered = false;
        rec.Renumber(rec.writer_generation);
      }
    }
    if (rec.writing)
      rec.state = rec.generation == 0 ? BurstState::kWriting : BurstState::kPublished;
    else if (rec.ctime == 0 || was_writing)  // the seal looks for what was written since
      rec.state = BurstState::kPublished;
    else
      rec.state = file->Settled();
    file->sealed_at = core_.clock->Monotonic();
  }
  if (gone) {
    core_.Report(Core::NameOf(*file) + ": its content is not in the object tier any more");
    Status s =
        core_.meta->EndWrite({.id = raise.id, .node = core_.node, .burst = file->burst}).status();
    if (!s.ok() && !IsGone(s)) return s;
    return Verdict::kDrop;
  }
  if (!told) {
    // The record was durable before; only the telling was lost.
    core_.meta->SetDurability(raise).status().Ignore();
  }
  return Verdict::kKeep;
}

Status Recovery::Released(const FilePtr& file, Release release, client::MetaClient& objectd) {
  const uint64_t life = release == Release::kMaybe ? core_.Life() : 0;
  wire::FileId id;
  {
    std::lock_guard lock(file->mu);
    if (file->gone || file->rec.id == 0) return Status::Ok();  // 0: its create is under way
    id = file->rec.id;
  }
  Result<wire::RecordReply> reply = objectd.GetAttr({.id = id});
  if (!reply.ok() && !IsGone(reply.status())) return std::move(reply).TakeStatus();
  bool gone = !reply.ok();
  if (!gone) {
    const wire::Record& r = reply->record;
    if ((r.committed && IsOurs(core_, r.committed->layout, file->burst)) ||
        (r.previous && IsOurs(core_, r.previous->layout, file->burst)) ||
        IsWriter(core_, r, file->burst)) {
      return Status::Ok();
    }
    std::lock_guard lock(file->mu);
    // What the namespace has not heard of it cannot have let go of.
    const bool untold = (file->untold && !file->superseded) || Untold(core_, *file, r);
    if (release != Release::kDurable && untold) return Status::Ok();
    // Another node has taken it over: what is closed here, or will be, goes beside.
    const bool unheard = file->writers > 0 || (!file->rec.registered && file->rec.generation != 0);
    if (unheard) return Status::Ok();
    // Flushed, and now a copy of what is committed: stays until it is evicted.
    if (r.committed && r.committed->generation == file->rec.generation && !file->superseded)
      return Status::Ok();
  }
  if (release == Release::kMaybe) PERIGEE_TRY(core_.SyncIn(life));
  {
    std::lock_guard lock(file->mu);
    file->released = true;
    if (gone)
      file->orphan = true;
    else
      file->superseded = true;
    file->flush_cancel = true;
  }
  core_.stats->released_files->Add();
  core_.RetireIfUnneeded(file);
  return Status::Ok();
}

void Recovery::FlagAll() {
  for (const FilePtr& file : core_.table->All()) {
    std::lock_guard lock(file->mu);
    if (file->writers == 0 && !file->gone && !file->Unsealed()) file->needs_reconcile = true;
  }
}

void Recovery::FlagUnsettled() {
  for (const FilePtr& file : core_.table->All()) {
    std::lock_guard lock(file->mu);
    if (!file->gone && !file->orphan && file->rec.registered && file->OnlyCopy())
      file->needs_reconcile = true;
  }
}

void Recovery::Recheck(const FilePtr& file) {
  {
    std::lock_guard lock(file->mu);
    if (file->gone || file->orphan || !file->rec.registered) return;
    file->needs_reconcile = true;
  }
  ReconcileAll();
}

uint64_t Recovery::left() const {
  uint64_t n = 0;
  for (const FilePtr& file : core_.table->All()) {
    std::lock_guard lock(file->mu);
    if (file->needs_reconcile && !file->gone) ++n;
  }
  return n;
}

void Recovery::ReconcileAll() {
  if (core_.stopping || armed_.exchange(true)) return;
  auto run = [this] {
    armed_ = false;
    for (const FilePtr& file : core_.table->All()) {
      if (core_.stopping) return;
      {
        std::lock_guard lock(file->mu);
        if (!file->needs_reconcile || file->gone) continue;
      }
      Status s = Reconcile(file);
      if (s.ok()) continue;
      if (IsGone(s)) continue;  // kept by the journal of names
      if (!IsAway(s))
        log::Error("burst_reconcile_failed", {{"burst", HexEncode64(file->burst)}, {"error", s}});
      else
        break;
    }
    if (left() == 0) return;
    if (core_.stopping || armed_.exchange(true)) return;
    auto again = [this] {
      armed_ = false;
      ReconcileAll();
    };
    if (core_.work->PostAfter(kRetryEvery, again) == 0) armed_ = false;
  };
  if (!core_.work->Post(run).ok()) armed_ = false;
}

void Recovery::Lost(const wire::Record& record) {
  const wire::Version& version = *record.committed;
  if (version.durability != Durability::kUnsynced) {
    core_.stats->lost_files->Add();
    log::Error("burst_file_lost",
               {{"file", HexEncode64(record.id)}, {"burst", HexEncode64(version.layout.burst)}});
    return;
  }
  if (Status s = FallBack(record); !s.ok())
    log::Warn("fall_back_failed", {{"file", HexEncode64(record.id)}, {"error", s}});
}

}  // namespace perigee::bufferd
