#include "bufferd/fsck.h"

#include <algorithm>
#include <map>
#include <set>

#include "base/log.h"

namespace perigee::bufferd {

using wire::FsckKind;

namespace {

constexpr Nanos kBetweenLooks = 2 * kSecond;

void WaitABit(Core& core) {
  const Nanos until = core.clock->Monotonic() + kBetweenLooks;
  while (!core.stopping) {
    const Nanos left = until - core.clock->Monotonic();
    if (left <= 0) return;
    core.table->WaitProgress(left);
  }
}

bool Names(const Core& core, const wire::Record& record, wire::BurstId burst) {
  return (record.committed && IsOurs(core, record.committed->layout, burst)) ||
         (record.previous && IsOurs(core, record.previous->layout, burst)) ||
         IsWriter(core, record, burst);
}

// Nothing in the namespace names the file, and it is not a copy of what is committed.
Result<bool> IsLeaked(Core& core, const FilePtr& file) {
  BurstRecord rec;
  {
    std::lock_guard lock(file->mu);
    if (file->gone || file->readers > 0 || file->writers > 0 || file->busy || file->rec.id == 0 ||
        !file->rec.registered || file->rec.writing)
      return false;  // in use, or on its way to the namespace
    rec = file->rec;
  }
  auto reply = core.meta->In(rdma::TrafficClass::kRepair).GetAttr({.id = rec.id});
  if (!reply.ok()) {
    if (!IsGone(reply.status())) return std::move(reply).TakeStatus();
    reply.status().Ignore();
    return true;
  }
  if (Names(core, reply->record, file->burst)) return false;
  return !reply->record.committed || reply->record.committed->generation != rec.generation;
}

Result<std::vector<FilePtr>> Leaked(Core& core, const std::vector<FilePtr>& among) {
  std::vector<FilePtr> leaked;
  for (const FilePtr& file : among) {
    PERIGEE_ASSIGN(bool is, IsLeaked(core, file));
    if (is) leaked.push_back(file);
  }
  return leaked;
}

// Burst files on the disk that neither the table nor the journal has: (id, directory).
Result<std::map<wire::BurstId, uint32_t>> Unrecorded(Core& core) {
  PERIGEE_ASSIGN(auto found, core.store->List());
  std::map<wire::BurstId, uint32_t> left;
  for (const StoreDir::Found& f : found)
    if (!core.table->Find(f.burst)) left[f.burst] = f.dir;
  if (left.empty()) return left;
  PERIGEE_TRY(core.index->ForEach([&](const BurstRecord& rec) { left.erase(rec.burst); }));
  return left;
}

// The namespace still names it, and it is not here.
Result<bool> IsMissing(Core& core, const wire::NamedBurst& named) {
  if (named.node != core.node || core.table->Find(named.burst)) return false;
  auto reply = core.meta->In(rdma::TrafficClass::kRepair).GetAttr({.id = named.id});
  if (!reply.ok()) {
    if (!IsGone(reply.status())) return std::move(reply).TakeStatus();
    reply.status().Ignore();
    return false;
  }
  return reply->record.committed && IsOurs(core, reply->record.committed->layout, named.burst) &&
         !core.table->Find(named.burst);
}

}  // namespace

Result<wire::BurstFsckReply> CheckStore(Core& core, Recovery& recovery,
                                        const wire::BurstFsckRequest& request) {
  wire::BurstFsckReply reply;
  reply.node = core.node;
  const std::vector<FilePtr> all = core.table->All();
  reply.looked = all.size();
  PERIGEE_ASSIGN(auto leaked, Leaked(core, all));
  PERIGEE_ASSIGN(auto unrecorded, Unrecorded(core));
  std::vector<wire::NamedBurst> missing;
  for (const wire::NamedBurst& named : request.named) {
    PERIGEE_ASSIGN(bool is, IsMissing(core, named));
    if (is) missing.push_back(named);
  }
  if (leaked.empty() && unrecorded.empty() && missing.empty()) return reply;

  WaitABit(core);
  PERIGEE_ASSIGN(leaked, Leaked(core, leaked));
  PERIGEE_ASSIGN(auto still, Unrecorded(core));
  for (const FilePtr& file : leaked) {
    reply.findings.push_back(
        {FsckKind::kLeakedBurstFile,
         "burst file " + HexEncode64(file->burst) + ": no record of the namespace names it",
         "removes it",
         request.repair,
         {}});
    if (!request.repair) continue;
    {
      std::lock_guard lock(file->mu);
      file->needs_reconcile = true;
    }
    PERIGEE_TRY(recovery.Reconcile(file));
  }
  const std::set<wire::BurstId> unnamed(request.unnamed.begin(), request.unnamed.end());
  for (const auto& [burst, dir] : still) {
    if (!unrecorded.contains(burst)) continue;
    if (!request.repair || !unnamed.contains(burst)) {
      reply.unrecorded.push_back(burst);
      continue;
    }
    PERIGEE_TRY(core.store->Unlink(dir, burst));
    log::Info("burst_file_without_record", {{"burst", HexEncode64(burst)}});
    reply.findings.push_back({FsckKind::kLeakedBurstFile,
                              "burst file " + HexEncode64(burst) + ": has no record",
                              "removes it",
                              true,
                              {}});
  }
  for (const wire::NamedBurst& named : missing) {
    PERIGEE_ASSIGN(bool is, IsMissing(core, named));
    if (is)
      reply.findings.push_back({FsckKind::kDanglingReference,
                                "file id " + std::to_string(named.id) +
                                    ": its content was in burst file " + HexEncode64(named.burst) +
                                    ", which is not here",
                                "",
                                false,
                                {}});
  }
  return reply;
}

}  // namespace perigee::bufferd
