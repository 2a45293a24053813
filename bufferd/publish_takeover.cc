// What is written here while another node may write the same file: objectd was away from this node,
// or lost its power, and gave the file to whoever asked since.

#include "base/bytes.h"
#include "base/failpoint.h"
#include "base/log.h"
#include "bufferd/publish.h"

namespace perigee::bufferd {

// This node writes the file, and objectd does not know: it was opened without it, or objectd lost
// its power before it knew durably. Where nobody else writes it, or has since, it hears of it now.
// False: another has taken over. kStale: try again.
Result<bool> Publisher::TellWriter(const FilePtr& file, const wire::Record& now) {
  wire::OpenWriteRequest q{.id = now.id, .node = core_.node, .burst = file->burst};
  q.expect_generation = now.committed ? now.committed->generation : 0;
  {
    std::lock_guard lock(file->mu);
    if (!file->rec.writing || file->superseded ||
        q.expect_generation >= file->rec.writer_generation)
      return false;
  }
  Result<wire::RecordReply> reply = wire::RecordReply{.record = now};
  if (now.writer && now.writer->node != core_.node)
    reply = core_.saves->ReclaimWriter({.id = now.id});  // its end may have been lost over there
  if (reply.ok()) reply = core_.saves->OpenWrite(q);
  if (!reply.ok()) {
    if (reply.status().Is(Code::kBusy)) return false;
    // Removed or changed since it was looked at: the next try finds out.
    return IsGone(reply.status()) ? Status(Code::kStale, "the file changed meanwhile")
                                  : std::move(reply).TakeStatus();
  }
  if (!reply->record.writer) return Status(Code::kInternal, "OpenWrite gave no writer");
  std::lock_guard lock(file->mu);
  BurstRecord& rec = file->rec;
  rec.writer_generation = reply->record.writer->generation;
  if (rec.generation != 0 && !rec.registered) rec.Renumber(rec.writer_generation);
  file->untold = false;
  return true;
}

void Publisher::TellWriters() {
  for (const FilePtr& file : core_.table->All()) {
    {
      std::lock_guard lock(file->mu);
      if (!file->untold || file->gone || file->orphan) continue;
    }
    BusyHold hold(file);
    if (!hold.held()) continue;
    Result<wire::RecordReply> now = core_.saves->GetAttr({.id = file->rec.id});
    Result<bool> told = now.ok() ? TellWriter(file, now->record) : now.status();
    // Its close finds out as well.
    if (!told.ok() || !*told)
      log::Info("writer_not_told", {{"burst", HexEncode64(file->burst)},
                                    {"why", told.ok() ? Status::Ok() : told.status()}});
  }
}

// Another node has taken the file over. Both contents are kept: this one becomes a file of its own,
// in the same directory. Its name follows from the burst file, so that after a crash it is found
// again and not made twice.
Status Publisher::MoveBeside(const FilePtr& file, const wire::RecordReply& theirs) {
  // Replaced here as well: the one that replaced it is registered, or moved, in its own turn.
  if (core_.table->IsBeforeCurrent(file))
    return Status(Code::kStale, "a newer content of this node comes first");
  const std::string name = ConflictName(theirs.name, core_.node + file->burst);
  wire::MakeRequest q{
      .parent = theirs.parent,
      .name = name,
      .mode = theirs.record.mode,
      .uid = theirs.record.uid,
      .gid = theirs.record.gid,
      .writer = wire::WriterInfo{.node = core_.node, .burst = file->burst, .generation = 1}};
  Result<wire::RecordReply> made = core_.saves->Create(q);
  PERIGEE_FAILPOINT(burst_beside_after_create);
  if (made.code() == Code::kAlreadyExists)
    made = core_.saves->Lookup({.parent = theirs.parent, .name = name});
  if (!made.ok()) return std::move(made).TakeStatus().With("a name beside the other content");
  if (!IsWriter(core_, made->record, file->burst))
    return Status(Code::kIo, "another writer took over, and " + name + " is taken, too");
  PERIGEE_TRY(core_.saves->Sync());  // or its loss there would look like a removal by somebody
  wire::FileId was;
  {
    std::lock_guard lock(file->mu);
    BurstRecord& rec = file->rec;
    was = rec.id;
    rec.id = made->record.id;
    rec.writer_generation = made->record.writer->generation;
    rec.Renumber(rec.writer_generation);
    rec.writing = true;
    // Superseded it was, at the most, by a copy of their content.
    file->superseded = file->untold = file->maybe_committed = false;
  }
  core_.table->Renamed(was, file);
  PERIGEE_TRY(core_.Save(file, Durable::kYes));
  PERIGEE_FAILPOINT(burst_beside_after_journal);
  core_.Report(theirs.name +
               ": another node wrote it while objectd was away from here; what was "
               "written here is " +
               name);
  return Status::Ok();
}

}  // namespace perigee::bufferd
