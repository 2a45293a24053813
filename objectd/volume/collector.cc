#include "objectd/volume/collector.h"

#include <algorithm>
#include <set>

#include "base/failpoint.h"
#include "base/log.h"

namespace perigee::objectd {
namespace {

constexpr uint64_t kBlobsPerCommit = 128;
constexpr size_t kListRowsPerCommit = 32;

}  // namespace

Result<bool> Collector::RunOnce() {
  PERIGEE_ASSIGN(bool more_leases, ExpireLeases());
  std::vector<kv::KeyValue> rows;
  const int64_t due = clock_->Wall() - options_.grace;
  PERIGEE_ASSIGN(kv::Position seen, store_->Run([&](kv::Transaction& txn) -> Status {
    PERIGEE_ASSIGN(rows, txn.Scan(GarbageUntil(due), options_.rows, kv::Direction::kForward,
                                  kv::ReadMode::kSnapshot));
    return Status::Ok();
  }));
  rows_waiting_ = rows.size();
  if (rows.empty()) return more_leases;
  // What a crash could still take back must not be acted on.
  PERIGEE_FAILPOINT_STATUS(collect_before_durable);
  PERIGEE_TRY(store_->WaitDurable(seen));
  PERIGEE_FAILPOINT_STATUS(collect_after_durable);
  for (const auto& [raw_key, value] : rows) {
    auto key = DecodeGarbageKey(raw_key);
    if (!key.ok()) {
      log::Error("garbage_row_unreadable", {{"cause", key.status()}});
      continue;
    }
    PERIGEE_TRY(Take(*key, raw_key, value));
  }
  return more_leases || rows.size() == options_.rows;
}

// Some of them each time, in a circle: ones that last long must not hide those behind them.
Result<bool> Collector::ExpireLeases() {
  const int64_t now = clock_->Wall();
  bool full = false;
  std::string next;
  kv::Range range = IntentRange();
  if (!lease_cursor_.empty()) range.begin = lease_cursor_;
  PERIGEE_FAILPOINT_STATUS(collect_before_commit);
  auto expired = store_->Run([&](kv::Transaction& txn) -> Status {
    // A snapshot read suffices: a commit that uses a lease conflicts with its deletion, and one
    // that came before has its references in the store when the row written here is looked at.
    PERIGEE_ASSIGN(auto rows, txn.Scan(range, options_.rows, kv::Direction::kForward,
                                       kv::ReadMode::kSnapshot));
    size_t taken = 0;
    for (const auto& [key, value] : rows) {
      PERIGEE_ASSIGN(IntentRow row, DecodeIntentValue(value));
      if (row.expires > now) continue;
      EndIntent(txn, key, row, now);
      taken++;
    }
    const bool more = rows.size() == options_.rows;
    full = more && taken > 0;
    next = more ? rows.back().first + '\0' : "";
    return Status::Ok();
  });
  PERIGEE_FAILPOINT(collect_after_commit);
  if (!expired.ok()) return std::move(expired).TakeStatus();
  lease_cursor_ = std::move(next);
  return full;
}

Status Collector::Take(const GarbageKey& key, const std::string& raw_key,
                       const std::string& value) {
  if (key.kind == GarbageKind::kList) {
    PERIGEE_TRY(TakeList(key.first));
  } else {
    PERIGEE_ASSIGN(GarbageRow row, DecodeGarbageValue(value));
    PERIGEE_TRY(TakeExtent(key.volume, key.first, row.count, key.owner));
  }
  return DeleteKeys({raw_key});
}

// Takes the owner's references from the blobs, and frees those that have no other.
Status Collector::TakeExtent(uint32_t volume, uint64_t first, uint64_t count,
                             const ContentOwner& owner) {
  const bool owned = owner.id != 0 || owner.generation != 0;
  for (uint64_t at = 0; at < count; at += kBlobsPerCommit) {
    const uint64_t n = std::min(kBlobsPerCommit, count - at);
    std::vector<uint64_t> dead;
    PERIGEE_FAILPOINT_STATUS(collect_before_commit);
    PERIGEE_TRY(store_->RunDurable([&](kv::Transaction& txn) -> Status {
      dead.clear();
      for (uint64_t seq = first + at; seq < first + at + n; seq++) {
        if (owned) txn.Delete(ReferenceKey(volume, seq, owner));
        PERIGEE_ASSIGN(auto holders, txn.Scan(BlobReferences(volume, seq), 1,
                                              kv::Direction::kForward, kv::ReadMode::kConflict));
        if (holders.empty()) dead.push_back(seq);
      }
      return Status::Ok();
    }));
    PERIGEE_FAILPOINT(collect_after_commit);
    DeleteShards(volume, dead);
  }
  return Status::Ok();
}

Status Collector::TakeList(uint64_t list_id) {
  bool take = false;
  PERIGEE_FAILPOINT_STATUS(collect_before_commit);
  PERIGEE_TRY(store_->RunDurable([&](kv::Transaction& txn) -> Status {
    take = false;
    PERIGEE_ASSIGN(auto value, txn.Get(ListHeadKey(list_id), kv::ReadMode::kConflict));
    if (!value) return Status::Ok();
    PERIGEE_ASSIGN(ListHead head, DecodeListHead(*value));
    take = head.references == 0;
    if (!take || head.dead) return Status::Ok();
    head.dead = true;  // from now on nobody can begin to use it
    txn.Put(ListHeadKey(list_id), ListHeadValue(head));
    return Status::Ok();
  }));
  PERIGEE_FAILPOINT(collect_after_commit);
  if (!take) return Status::Ok();
  while (true) {
    std::vector<kv::KeyValue> rows;
    auto read = store_->Run([&](kv::Transaction& txn) -> Status {
      PERIGEE_ASSIGN(rows, txn.Scan(ListExtents(list_id, 0), kListRowsPerCommit,
                                    kv::Direction::kForward, kv::ReadMode::kSnapshot));
      return Status::Ok();
    });
    if (!read.ok()) return std::move(read).TakeStatus();
    if (rows.empty()) return DeleteKeys({ListHeadKey(list_id)});
    std::vector<std::string> keys;
    for (const auto& [key, value] : rows) {
      PERIGEE_ASSIGN(wire::Extent extent, DecodeListExtent(value));
      PERIGEE_TRY(TakeExtent(extent.volume, extent.first_seq, extent.count, ListOwner(list_id)));
      keys.push_back(key);
    }
    PERIGEE_TRY(DeleteKeys(keys));
  }
}

Status Collector::DeleteKeys(const std::vector<std::string>& keys) {
  PERIGEE_FAILPOINT_STATUS(collect_before_commit);
  auto deleted = store_->Run([&](kv::Transaction& txn) -> Status {
    for (const std::string& key : keys) txn.Delete(key);
    return Status::Ok();
  });
  PERIGEE_FAILPOINT(collect_after_commit);
  if (!deleted.ok()) return std::move(deleted).TakeStatus();
  return Status::Ok();
}

void Collector::DeleteShards(uint32_t volume, const std::vector<uint64_t>& seqs) {
  if (seqs.empty()) return;
  auto record = table_->FindVolume(volume);
  if (!record) return;
  // A drive that is being filled in another's place may have the shard already, and one that is
  // left may have it still.
  const std::vector<DriveSlot> slots = drives_->Slots();
  const std::vector<DriveRecord> records = table_->Drives();
  std::vector<std::vector<std::shared_ptr<Drive>>> places(record->drives.size());
  std::set<uint64_t> missed;
  for (size_t i = 0; i < places.size(); i++) {
    auto mine = std::find_if(records.begin(), records.end(),
                             [&](const DriveRecord& r) { return r.drive_id == record->drives[i]; });
    const std::vector<uint64_t> named = PlacesOf(*record, static_cast<uint32_t>(i));
    for (const DriveSlot& slot : slots) {
      bool same = std::find(named.begin(), named.end(), slot.drive_id) != named.end() ||
                  (mine != records.end() && mine->slot == slot.slot);
      if (!same) continue;
      if (slot.drive && slot.drive->online())
        places[i].push_back(slot.drive);
      else
        missed.insert(slot.drive_id);
    }
  }
  PERIGEE_FAILPOINT(collect_before_delete);
  for (uint64_t seq : seqs) {
    for (uint32_t i = 0; i < places.size(); i++) {
      for (const auto& drive : places[i]) {
        Status deleted = drive->DeleteShard(wire::BlobId{volume, seq}, i);
        if (!deleted.ok()) missed.insert(drive->id());
      }
    }
    blobs_freed_++;
  }
  for (uint64_t drive : missed) missed_(drive);
  PERIGEE_FAILPOINT(collect_after_delete);
}

}  // namespace perigee::objectd
