#include "bufferd/core.h"

#include "base/failpoint.h"
#include "base/log.h"

namespace perigee::bufferd {

metrics::Counter* Stats::Make(metrics::Registry& registry, const std::string& name,
                              const std::string& help) {
  metrics::Counter* counter = registry.GetCounter("perigee_bufferd_" + name + "_total", help);
  all_.emplace_back(name, counter);
  return counter;
}

Stats::Stats(metrics::Registry& r) {
  opens_descriptor = Make(r, "opens_descriptor", "opens answered with a wholly resident file");
  opens_cached = Make(r, "opens_cached", "opens answered before the file was resident");
  creates = Make(r, "creates", "files created");
  publishes = Make(r, "publishes", "contents committed");
  publishes_inline = Make(r, "publishes_inline", "contents committed inline");
  publish_failures =
      Make(r, "publish_failures", "publishes that the namespace refused or did not answer");
  syncs = Make(r, "syncs", "burst files synced");
  sync_failures = Make(r, "sync_failures", "burst files whose sync failed: they stay unsynced");
  seals = Make(r, "seals", "burst files sealed");
  seal_refusals =
      Make(r, "seal_refusals", "seal tests refused: a writable descriptor or mapping was left");
  bytes_filled_blobs = Make(r, "bytes_filled_blobs", "bytes fetched from the object tier");
  bytes_filled_peer = Make(r, "bytes_filled_peer", "bytes fetched from other nodes' buffers");
  bytes_filled_inline = Make(r, "bytes_filled_inline", "bytes fetched from the namespace");
  bytes_flushed = Make(r, "bytes_flushed", "bytes copied to the object tier");
  files_flushed = Make(r, "files_flushed", "files copied to the object tier");
  flush_failures = Make(r, "flush_failures", "flushes that failed and are tried again");
  flush_cancelled =
      Make(r, "flush_cancelled", "flushes given up because the file was opened again");
  bytes_read_burst = Make(r, "bytes_read_burst", "bytes served to other nodes and to the S3 door");
  bytes_written_slow = Make(r, "bytes_written_slow", "bytes written through the daemon");
  evicted_files = Make(r, "evicted_files", "clean files evicted");
  evicted_bytes = Make(r, "evicted_bytes", "bytes evicted");
  released_files = Make(r, "released_files", "burst files that the namespace released");
  corrupt_files = Make(r, "corrupt_files", "burst files that failed their checksums");
  fell_back = Make(r, "fell_back", "unsynced versions that a reboot took");
  lost_files = Make(r, "lost_files", "versions whose burst file is missing");
  rewritten_torn =
      Make(r, "rewritten_torn", "files that were being rewritten in place at a reboot");
  set_aside = Make(r, "set_aside", "burst files in <store>/lost, as of the start");
}

std::vector<wire::NamedCount> Stats::Snapshot() const {
  std::vector<wire::NamedCount> out;
  for (const auto& [name, counter] : all_)
    out.push_back({name, static_cast<uint64_t>(counter->Value())});
  return out;
}

Status Core::Save(const FilePtr& file, Durable durable) {
  BurstRecord record;
  uint64_t seq;
  {
    std::lock_guard lock(file->mu);
    if (file->gone) return Status::Ok();
    record = file->ToStore();
    seq = ++file->save_seq;
  }
  std::lock_guard lock(file->save_mu);
  if (seq < file->saved_seq) {
    // A later state is stored already; what was asked for here is only its durability.
    return durable == Durable::kYes ? index->Sync() : Status::Ok();
  }
  file->saved_seq = seq;
  return index->Put(record, durable);
}

void Core::Forget(const FilePtr& file) {
  ForgetRecord(file);
  Unlink(file);
}

void Core::ForgetRecord(const FilePtr& file) {
  table->Remove(file);
  Undelegate(file);
  {
    std::lock_guard lock(file->save_mu);
    file->saved_seq = UINT64_MAX;  // a Save on its way must not bring the record back
    if (Status s = index->Remove(file->burst); !s.ok())
      log::Error("burst_record_not_removed", {{"burst", HexEncode64(file->burst)}, {"error", s}});
  }
}

void Core::Unlink(const FilePtr& file) {
  PERIGEE_FAILPOINT(burst_forget_before_unlink);
  if (Status s = store->Unlink(file->dir, file->burst); !s.ok() && !s.Is(Code::kNotFound)) {
    log::Error("burst_file_not_removed", {{"burst", HexEncode64(file->burst)}, {"error", s}});
  }
  PERIGEE_FAILPOINT(burst_forget_after_unlink);
  {
    std::lock_guard lock(file->mu);
    // Whoever still refers to it keeps no space; those who have it open do.
    if (file->readers == 0 && file->writers == 0) file->SetAllocated(0);
    file->changed.NotifyAll();
  }
  table->NotifyProgress();
}

void Core::Drop(const FilePtr& file) {
  {
    std::lock_guard lock(file->mu);
    file->gone = true;
    file->flush_cancel = true;
  }
  Forget(file);
}

void Core::Undelegate(const FilePtr& file) {
  if (delegations == nullptr) return;
  wire::FileId id;
  {
    std::lock_guard lock(file->mu);
    id = file->rec.id;
  }
  delegations->Drop(id);
}

void Core::RetireIfUnneeded(const FilePtr& file) {
  wire::FileId id;
  {
    std::lock_guard lock(file->mu);
    if (!file->superseded && !file->orphan) return;
    id = file->rec.id;
  }
  bool kept = Keeps(id);
  {
    std::lock_guard lock(file->mu);
    bool unneeded = file->superseded || (file->orphan && !kept);
    if (!unneeded || file->gone || file->busy || file->readers > 0 || file->writers > 0 ||
        file->fills_in_flight > 0)
      return;
    // The feed tells when the namespace let go of it, durably; but not of small content that the
    // namespace has itself.
    bool told = file->rec.home == Home::kBurst || !file->rec.registered;
    if (file->OnlyCopy() && !file->released && (told || !file->orphan)) return;
    if (file->rec.state == wire::BurstState::kFlushing) return;
    file->gone = true;
  }
  ForgetRecord(file);
  if (!unlink->Post([this, file] { Unlink(file); }).ok()) Unlink(file);
}

std::string Core::NameOf(const BurstFile& file) {
  return "file " + HexEncode64(file.rec.id) + " (burst " + HexEncode64(file.burst) + ")";
}

void Core::Report(std::string line) {
  log::Warn("burst_report", {{"what", line}});
  std::lock_guard lock(mu_);
  reported_.push_back(std::move(line));
  if (reported_.size() > 64) reported_.pop_front();
}

std::vector<std::string> Core::Reported() const {
  std::lock_guard lock(mu_);
  return {reported_.begin(), reported_.end()};
}

}  // namespace perigee::bufferd
