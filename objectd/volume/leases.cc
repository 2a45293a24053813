// The part of VolumeTable that writers use: leases of sequences, and rows of long extent lists.

#include <algorithm>
#include <map>
#include <tuple>

#include "base/failpoint.h"
#include "objectd/volume/reference_keys.h"
#include "objectd/volume/volume_layout.h"
#include "objectd/volume/volume_table.h"

namespace perigee::objectd {
namespace {

constexpr uint32_t kLeaseBlobsMax = 64;
constexpr uint64_t kSequenceBatch = 1024;
constexpr size_t kExtentsPerPageMax = 1024;
constexpr size_t kGivenUpMax = 256;
constexpr size_t kIntentsPerCommit = 256;

// Those of them that are there and of this node.
Status EndGivenUp(kv::Transaction& txn, const wire::LeaseRequest& request, int64_t now) {
  std::vector<std::string> keys;
  for (uint64_t intent : request.given_up) keys.push_back(IntentKey(intent));
  if (keys.empty()) return Status::Ok();
  PERIGEE_ASSIGN(auto rows, txn.GetMany(keys, kv::ReadMode::kConflict));
  for (size_t i = 0; i < rows.size(); i++) {
    if (!rows[i]) continue;
    PERIGEE_ASSIGN(IntentRow row, DecodeIntentValue(*rows[i]));
    if (row.node == request.node) EndIntent(txn, keys[i], row, now);
  }
  return Status::Ok();
}

}  // namespace

kv::IdAllocator& VolumeTable::Sequences(uint32_t volume) {
  std::lock_guard lock(mu_);
  auto& sequences = sequences_[volume];
  if (!sequences)
    sequences =
        std::make_unique<kv::IdAllocator>(*store_, SequenceCounterKey(volume), kSequenceBatch);
  return *sequences;
}

// The volume of that width for new blobs, 0 when none can take any. A lower rank is better: what a
// node's loss would cost comes first, then room, then that nothing of it is on its way elsewhere.
uint32_t VolumeTable::PickBest(const client::VolumeMap& map, uint32_t k, uint64_t spread) const {
  std::map<std::tuple<uint32_t, bool, bool>, std::vector<uint32_t>> ranked;
  std::lock_guard lock(mu_);
  for (const wire::VolumeInfo& volume : map.volumes) {
    if (!volume.writable || volume.k != k) continue;
    bool low = false, closed = false;
    std::vector<uint64_t> nodes;
    for (uint64_t id : volume.drives) {
      const wire::DriveInfo* drive = map.FindDrive(id);
      low = low || !drive ||
            (drive->total_bytes != 0 && drive->free_bytes < options_.low_space_bytes);
      nodes.push_back(drive ? drive->node : 0);
      auto place = places_.find(id);
      closed = closed || (place != places_.end() && place->second.closed);
    }
    if (closed) continue;
    auto record = volumes_.find(volume.volume);
    const bool moves = record != volumes_.end() && !record->second.moves.empty();
    if (moves && volume.m == 0) continue;
    ranked[{MostOnOneNode(nodes), low, moves}].push_back(volume.volume);
  }
  return ranked.empty() ? 0 : PickVolume(ranked.begin()->second, spread);
}

Result<wire::VolumeInfo> VolumeTable::PickWritable(uint64_t spread) {
  constexpr int kAttempts = 4;  // several drives may go at once
  for (int attempt = 0; attempt < kAttempts; attempt++) {
    const std::vector<PlacedDrive> usable = UsableDrives();
    const uint32_t k = WidestData(drives_->k(), drives_->m(), usable.size());
    if (k == 0) {
      return Status(Code::kUnavailable, "only " + std::to_string(usable.size()) +
                                            " drives are online; writing needs " +
                                            std::to_string(drives_->m() + 1));
    }
    auto map = Map();
    const uint32_t picked = PickBest(*map, k, spread);
    if (picked != 0) return *map->Find(picked);
    // Nobody made volumes of these drives yet. Whoever has the turn first does; the others find
    // them.
    Turn turn(this);
    if (Map()->epoch == map->epoch) PERIGEE_TRY(CreateVolumes(k, usable));
  }
  return Status(Code::kBusy, "drives are changing; try again");
}

Result<wire::LeaseReply> VolumeTable::Lease(const wire::LeaseRequest& request) {
  if (request.given_up.size() > kGivenUpMax)
    return Status(Code::kInvalidArgument, "too many leases are given up at once");
  wire::LeaseReply reply;
  if (request.count == 0) {
    PERIGEE_FAILPOINT_STATUS(lease_before_commit);
    PERIGEE_TRY(store_->RunDurable(
        [&](kv::Transaction& txn) { return EndGivenUp(txn, request, clock_->Wall()); }));
    PERIGEE_FAILPOINT(lease_after_commit);
    return reply;
  }
  PERIGEE_ASSIGN(reply.volume, PickWritable(request.spread));
  reply.count = std::min(request.count, kLeaseBlobsMax);
  PERIGEE_ASSIGN(reply.first_seq, Sequences(reply.volume.volume).NextRange(reply.count));
  PERIGEE_ASSIGN(reply.intent, intents_.Next());
  reply.expires = clock_->Wall() + options_.lease;

  IntentRow row;
  row.volume = reply.volume.volume;
  row.first_seq = reply.first_seq;
  row.count = reply.count;
  row.expires = reply.expires;
  row.node = request.node;
  row.incarnation = request.incarnation;
  PERIGEE_FAILPOINT_STATUS(lease_before_commit);
  PERIGEE_TRY(store_->RunDurable([&](kv::Transaction& txn) -> Status {
    txn.Put(IntentKey(reply.intent), IntentValue(row));
    return EndGivenUp(txn, request, clock_->Wall());
  }));
  PERIGEE_FAILPOINT(lease_after_commit);
  return reply;
}

Status VolumeTable::EndLeasesBefore(wire::NodeId node, uint64_t incarnation) {
  kv::Range left = IntentRange();
  bool end = false;
  while (!end) {
    PERIGEE_FAILPOINT_STATUS(lease_before_commit);
    std::string last;
    PERIGEE_TRY(store_->RunDurable([&](kv::Transaction& txn) -> Status {
      // A snapshot read, for the collector's reason: a commit that uses a lease conflicts with
      // its end.
      PERIGEE_ASSIGN(auto rows, txn.Scan(left, kIntentsPerCommit, kv::Direction::kForward,
                                         kv::ReadMode::kSnapshot));
      for (const auto& [key, value] : rows) {
        PERIGEE_ASSIGN(IntentRow row, DecodeIntentValue(value));
        if (row.node == node && row.incarnation < incarnation)
          EndIntent(txn, key, row, clock_->Wall());
      }
      end = rows.size() < kIntentsPerCommit;
      if (!rows.empty()) last = rows.back().first;
      return Status::Ok();
    }));
    PERIGEE_FAILPOINT(lease_after_commit);
    left.begin = last + '\0';
  }
  return Status::Ok();
}

Result<uint64_t> VolumeTable::AddExtents(const wire::AddExtentsRequest& request) {
  uint64_t list = request.list_id;
  if (list == 0) {
    PERIGEE_ASSIGN(list, lists_.Next());
  }
  const int64_t expires = clock_->Wall() + options_.list_lease;
  PERIGEE_FAILPOINT_STATUS(extents_before_commit);
  PERIGEE_TRY(store_->RunDurable([&](kv::Transaction& txn) -> Status {
    if (request.list_id != 0) {
      // Only lists that this table handed out, and that nobody uses yet, grow.
      PERIGEE_ASSIGN(auto value, txn.Get(ListHeadKey(list), kv::ReadMode::kConflict));
      if (!value) return Status(Code::kStale, "extent list " + std::to_string(list) + " is gone");
      PERIGEE_ASSIGN(ListHead head, DecodeListHead(*value));
      if (head.references > 0)
        return Status(Code::kInvalidArgument, "extent list " + std::to_string(list) + " is in use");
    }
    return AddListExtents(txn, list, request.extents, request.intents, expires);
  }));
  PERIGEE_FAILPOINT(extents_after_commit);
  return list;
}

Result<wire::GetExtentsReply> VolumeTable::GetExtents(const wire::GetExtentsRequest& request) {
  wire::GetExtentsReply reply;
  const size_t limit = std::clamp<size_t>(request.limit, 1, kExtentsPerPageMax);
  auto read = store_->Run([&](kv::Transaction& txn) -> Status {
    PERIGEE_ASSIGN(auto head, txn.Get(ListHeadKey(request.list_id), kv::ReadMode::kSnapshot));
    if (!head) return Status(Code::kNotFound, "no extent list " + std::to_string(request.list_id));
    PERIGEE_ASSIGN(reply.extents, ReadListExtents(txn, request.list_id, request.offset, limit));
    return Status::Ok();
  });
  if (!read.ok()) return std::move(read).TakeStatus();
  reply.end = reply.extents.size() < limit;
  return reply;
}

}  // namespace perigee::objectd
