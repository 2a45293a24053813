#include "objectd/volume/fsck_drives.h"

#include <algorithm>

#include "base/bytes.h"
#include "objectd/kv/key_space.h"
#include "objectd/volume/missing_shards.h"
#include "objectd/volume/reference_keys.h"
#include "objectd/volume/shard_check.h"

namespace perigee::objectd {

using wire::FsckKind;

namespace {

constexpr size_t kBlobsPerPage = 500;
constexpr size_t kShardsPerPage = 500;
constexpr size_t kGarbageRowsPerScan = 1000;
constexpr size_t kCursorBytes = 20;

std::string NameOf(const wire::BlobId& blob) {
  return "blob " + std::to_string(blob.volume) + "/" + std::to_string(blob.seq);
}

std::string NameOf(const wire::BlobId& blob, uint32_t index, const Drive& drive) {
  return NameOf(blob) + ": shard " + std::to_string(index) + " on " + drive.dir();
}

bool Found(wire::FsckReply* reply, bool repair, FsckKind kind, std::string what,
           std::string remedy) {
  reply->findings.push_back({kind, std::move(what), std::move(remedy), repair, {}});
  return repair;
}

// The volume says that the shard belongs there, or that it is on its way.
bool BelongsTo(const std::optional<VolumeRecord>& volume, const Drive& drive, uint32_t index) {
  if (!volume) return false;
  const std::vector<uint64_t> places = PlacesOf(*volume, index);
  return std::find(places.begin(), places.end(), drive.id()) != places.end();
}

}  // namespace

Result<DriveFsck::Cursor> DriveFsck::Parse(const std::string& text) {
  Cursor cursor;
  if (text.empty()) return cursor;
  if (text.size() != kCursorBytes)
    return Status(Code::kInvalidArgument, "not a cursor of this check");
  cursor.at = GetBe64(text);
  cursor.next = GetBe64(std::string_view(text).substr(8));
  cursor.volume = GetBe32(std::string_view(text).substr(16));
  return cursor;
}

std::string DriveFsck::Format(const Cursor& cursor) {
  std::string text;
  AppendBe64(&text, cursor.at);
  AppendBe64(&text, cursor.next);
  AppendBe32(&text, cursor.volume);
  return text;
}

Result<wire::FsckReply> DriveFsck::Run(const wire::FsckRequest& request) {
  wire::FsckReply reply;
  PERIGEE_ASSIGN(Cursor cursor, Parse(request.cursor));
  switch (request.check) {
    case wire::FsckCheck::kDrift:
      PERIGEE_TRY(Drift(cursor, request.repair, &reply));
      return reply;
    case wire::FsckCheck::kShards:
      PERIGEE_TRY(Shards(cursor, request.repair, &reply));
      return reply;
    case wire::FsckCheck::kOrphans:
      PERIGEE_TRY(Orphans(cursor, request.repair, &reply));
      return reply;
    default:
      return Status(Code::kInvalidArgument, "not a check of the drives");
  }
}

std::shared_ptr<Drive> DriveFsck::OnlineDrive(uint64_t id) const {
  auto drive = deps_.drives->Find(id);
  if (!drive || !drive->online() || deps_.table->StateOf(id) != wire::DriveState::kOnline)
    return nullptr;
  return drive;
}

std::shared_ptr<Drive> DriveFsck::DriveFrom(uint64_t from) const {
  std::shared_ptr<Drive> first;
  for (const DriveSlot& slot : deps_.drives->Slots()) {
    if (slot.drive_id < from || (first && first->id() < slot.drive_id)) continue;
    if (auto drive = OnlineDrive(slot.drive_id)) first = std::move(drive);
  }
  return first;
}

// One segment: what it has that the index has not. The other way round is found with the shards:
// each is read by its index entry there.
Status DriveFsck::Drift(Cursor cursor, bool repair, wire::FsckReply* reply) {
  auto drive = DriveFrom(cursor.at);
  if (!drive) {
    reply->end = true;
    return Status::Ok();
  }
  if (drive->id() != cursor.at) cursor = {drive->id(), 0, 0};
  PERIGEE_ASSIGN(SegmentAudit audit, drive->AuditSegment(static_cast<uint32_t>(cursor.next)));
  reply->looked = audit.records;
  for (const ShardKey& key : audit.unindexed) {
    const wire::BlobId blob{key.volume, key.seq};
    auto volume = deps_.table->FindVolume(key.volume);
    if (!BelongsTo(volume, *drive, key.index)) continue;
    PERIGEE_ASSIGN(bool wanted, IsReferenced(*deps_.store, key.volume, key.seq));
    if (!wanted) continue;
    // The index may have got its entry meanwhile.
    auto now = CheckShard(*drive, *volume, blob, key.index);
    if (now.ok()) continue;
    now.status().Ignore();  // that is what is reported
    if (Found(reply, repair, FsckKind::kIndexDrift,
              NameOf(blob, key.index, *drive) + " is in segment " + std::to_string(audit.segment) +
                  ", but not in the drive's index",
              "puts it into the index"))
      PERIGEE_TRY(drive->Reindex(blob, key.index).status());
  }
  reply->cursor = audit.segment == 0 ? Format({drive->id() + 1, 0, 0})
                                     : Format({drive->id(), audit.segment, 0});
  return Status::Ok();
}

// Blobs with references, volume by volume.
Status DriveFsck::Shards(Cursor cursor, bool repair, wire::FsckReply* reply) {
  std::optional<VolumeRecord> volume;
  for (const VolumeRecord& record : deps_.table->Volumes())
    if (record.volume >= cursor.at && (!volume || record.volume < volume->volume)) volume = record;
  if (!volume) {
    reply->end = true;
    return Status::Ok();
  }
  if (volume->volume != cursor.at) cursor.next = 0;
  PERIGEE_ASSIGN(BlobPage page,
                 ReferencedBlobs(*deps_.store, volume->volume, cursor.next, kBlobsPerPage));
  for (uint64_t seq : page.seqs) PERIGEE_TRY(CheckBlob(*volume, seq, repair, reply));
  reply->looked = page.seqs.size();
  reply->cursor = page.end ? Format({uint64_t{volume->volume} + 1, 0, 0})
                           : Format({volume->volume, page.next, 0});
  return Status::Ok();
}

Status DriveFsck::CheckBlob(const VolumeRecord& volume, uint64_t seq, bool repair,
                            wire::FsckReply* reply) {
  const wire::BlobId blob{volume.volume, seq};
  PERIGEE_ASSIGN(auto missing,
                 MissingShards(*deps_.store, *deps_.drives, *deps_.table, volume, seq));
  for (uint32_t index : missing) {
    auto drive = OnlineDrive(volume.drives[index]);
    if (!drive) continue;
    if (Found(reply, repair, FsckKind::kMissingShard, NameOf(blob, index, *drive) + " is missing",
              "rebuilds it from the others"))
      deps_.repair->Report({blob, {index}, "fsck: missing", {}});
  }
  for (uint32_t index = 0; index < volume.drives.size(); index++) {
    auto drive = OnlineDrive(volume.drives[index]);
    if (!drive || std::find(missing.begin(), missing.end(), index) != missing.end()) continue;
    wire::ShardReadRequest head;
    head.drive_id = drive->id();
    head.blob = blob;
    head.index = index;
    auto there = drive->ReadShard(head, rdma::TrafficClass::kRepair);
    if (there.ok() || there.code() == Code::kUnavailable) {
      there.status().Ignore();
      continue;
    }
    // No such shard, as of copies; or the index says so, and its record does not.
    auto checked = CheckShard(*drive, volume, blob, index);
    if (checked.code() != Code::kCorrupt) {
      checked.status().Ignore();
      continue;
    }
    PERIGEE_ASSIGN(bool wanted, IsReferenced(*deps_.store, blob.volume, seq));
    if (wanted &&
        Found(reply, repair, FsckKind::kIndexDrift,
              NameOf(blob, index, *drive) +
                  " is in the drive's index, but not in its segment: " + checked.status().message(),
              "makes the index entry anew; rebuilds the shard if it is in no segment")) {
      PERIGEE_TRY(drive->Reindex(blob, index).status());
      deps_.repair->Report({blob, {index}, "fsck: index drift", {}});
    }
  }
  return Status::Ok();
}

// Order of the looks: liveness.h.
Status DriveFsck::Orphans(Cursor cursor, bool repair, wire::FsckReply* reply) {
  auto drive = DriveFrom(cursor.at);
  if (!drive) {
    reply->end = true;
    return Status::Ok();
  }
  if (drive->id() != cursor.at) cursor = {drive->id(), 0, 0};
  auto shards = drive->ListShards({cursor.volume, cursor.next, {}}, kShardsPerPage);
  if (!shards.ok()) {
    if (shards.code() != Code::kUnavailable) return std::move(shards).TakeStatus();
    shards.status().Ignore();  // it went offline just now
    reply->cursor = Format({drive->id() + 1, 0, 0});
    return Status::Ok();
  }
  PERIGEE_ASSIGN(LeasedRanges leased, LeasedRanges::Read(*deps_.store));
  for (const auto& [blob, index] : *shards)
    PERIGEE_TRY(CheckOrphan(*drive, blob, index, leased, repair, reply));
  reply->looked = shards->size();
  reply->cursor =
      shards->size() < kShardsPerPage
          ? Format({drive->id() + 1, 0, 0})
          : Format({drive->id(), shards->back().first.seq + 1, shards->back().first.volume});
  return Status::Ok();
}

// A garbage row covers the blob: the collector will come.
Result<bool> DriveFsck::InGarbage(const wire::BlobId& blob) {
  bool covered = false;
  auto read = deps_.store->Run([&](kv::Transaction& txn) -> Status {
    covered = false;
    kv::Range range = kv::PrefixRange(std::string(1, static_cast<char>(kv::KeySpace::kGarbage)));
    while (!covered) {
      PERIGEE_ASSIGN(auto rows, txn.Scan(range, kGarbageRowsPerScan, kv::Direction::kForward,
                                         kv::ReadMode::kSnapshot));
      for (const auto& [key, value] : rows) {
        PERIGEE_ASSIGN(GarbageKey garbage, DecodeGarbageKey(key));
        if (garbage.kind == GarbageKind::kList) continue;
        PERIGEE_ASSIGN(GarbageRow row, DecodeGarbageValue(value));
        covered = covered || (garbage.volume == blob.volume && blob.seq >= garbage.first &&
                              blob.seq - garbage.first < row.count);
      }
      if (rows.size() < kGarbageRowsPerScan) return Status::Ok();
      range.begin = rows.back().first + '\0';
    }
    return Status::Ok();
  });
  if (!read.ok()) return std::move(read).TakeStatus();
  return covered;
}

Status DriveFsck::CheckOrphan(Drive& drive, const wire::BlobId& blob, uint32_t index,
                              const LeasedRanges& leased, bool repair, wire::FsckReply* reply) {
  if (leased.Covers(blob.volume, blob.seq)) return Status::Ok();
  auto volume = deps_.table->FindVolume(blob.volume);
  const bool in_place = BelongsTo(volume, drive, index);
  PERIGEE_ASSIGN(bool wanted, IsReferenced(*deps_.store, blob.volume, blob.seq));
  if (wanted && in_place) return Status::Ok();
  if (!wanted) {
    PERIGEE_ASSIGN(bool covered, InGarbage(blob));
    if (covered) return Status::Ok();
  }
  // The collector may have been at it just now.
  PERIGEE_ASSIGN(auto listed, drive.ListShards(blob, kShardsPerPage));
  if (std::find(listed.begin(), listed.end(), std::pair(blob, index)) == listed.end())
    return Status::Ok();
  if (wanted) {
    if (Found(reply, repair, FsckKind::kOrphanBlob,
              NameOf(blob, index, drive) + ", where its volume has another place for it",
              volume ? "deletes it" : "") &&
        volume && !BelongsTo(deps_.table->FindVolume(blob.volume), drive, index))
      return drive.DeleteShard(blob, index);
    return Status::Ok();
  }
  if (!Found(reply, repair, FsckKind::kOrphanBlob,
             NameOf(blob, index, drive) + ": nothing refers to the blob",
             "gives it to the collector"))
    return Status::Ok();
  // Not deleted here: the collector asks again, under conflict, when the row is durable.
  auto given = deps_.store->Run([&](kv::Transaction& txn) -> Status {
    GarbageKey garbage;
    garbage.time = deps_.clock->Wall();
    garbage.volume = blob.volume;
    garbage.first = blob.seq;
    GarbageRow what;
    what.count = 1;
    txn.Put(EncodeGarbageKey(garbage), GarbageValue(what));
    return Status::Ok();
  });
  return given.ok() ? Status::Ok() : std::move(given).TakeStatus();
}

}  // namespace perigee::objectd
