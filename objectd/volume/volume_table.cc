#include "objectd/volume/volume_table.h"

#include <algorithm>
#include <set>
#include <tuple>

#include "base/failpoint.h"
#include "base/log.h"
#include "objectd/volume/reference_keys.h"
#include "objectd/volume/volume_layout.h"

namespace perigee::objectd {
namespace {

using wire::DriveState;

constexpr uint64_t kIntentBatch = 256;
constexpr uint64_t kListBatch = 64;
constexpr size_t kPageRows = 500;

}  // namespace

VolumeTable::Turn::Turn(VolumeTable* table) : table_(table) {
  std::unique_lock lock(table_->mu_);
  while (table_->turn_taken_) table_->turn_free_.Wait(lock);
  table_->turn_taken_ = true;
}

VolumeTable::Turn::~Turn() {
  std::lock_guard lock(table_->mu_);
  table_->turn_taken_ = false;
  table_->turn_free_.NotifyOne();
}

VolumeTable::VolumeTable(Options options, kv::Store* store, DriveCatalog* drives, Clock* clock)
    : options_(std::move(options)),
      store_(store),
      drives_(drives),
      clock_(clock),
      intents_(*store, IntentCounterKey(), kIntentBatch),
      lists_(*store, ListCounterKey(), kListBatch) {}

VolumeTable::~VolumeTable() = default;

Result<std::unique_ptr<VolumeTable>> VolumeTable::Create(Options options, kv::Store* store,
                                                         DriveCatalog* drives, Clock* clock) {
  std::unique_ptr<VolumeTable> table(new VolumeTable(std::move(options), store, drives, clock));
  PERIGEE_TRY(table->Load());
  PERIGEE_TRY(table->SyncWithDrives());
  if (table->Volumes().empty()) {
    std::vector<PlacedDrive> all;
    for (const DriveSlot& slot : drives->Slots()) all.push_back({slot.drive_id, slot.node});
    Turn turn(table.get());
    PERIGEE_TRY(table->CreateVolumes(drives->k(), all));
  }
  table->RefreshSpace();
  return table;
}

Status VolumeTable::Load() {
  std::map<uint32_t, VolumeRecord> volumes;
  std::map<uint64_t, DriveRecord> drives;
  uint64_t epoch = 0;
  auto read = store_->Run([&](kv::Transaction& txn) -> Status {
    volumes.clear();
    drives.clear();
    PERIGEE_ASSIGN(auto stored, txn.Get(MapEpochKey(), kv::ReadMode::kSnapshot));
    if (stored) {
      PERIGEE_ASSIGN(epoch, DecodeEpoch(*stored));
    }
    for (kv::Range range : {VolumeRange(), DriveRange()}) {
      while (true) {
        PERIGEE_ASSIGN(auto rows, txn.Scan(range, kPageRows, kv::Direction::kForward,
                                           kv::ReadMode::kSnapshot));
        for (const auto& [key, value] : rows) {
          if (IsVolumeKey(key)) {
            PERIGEE_ASSIGN(VolumeRecord record, wire::Decode<VolumeRecord>(value));
            volumes[record.volume] = std::move(record);
          } else if (key.size() == DriveKey(0).size()) {
            PERIGEE_ASSIGN(DriveRecord record, wire::Decode<DriveRecord>(value));
            if (key == DriveKey(record.drive_id)) drives[record.drive_id] = std::move(record);
          }
        }
        if (rows.size() < kPageRows) break;
        range.begin = rows.back().first + '\0';
      }
    }
    return Status::Ok();
  });
  if (!read.ok()) return std::move(read).TakeStatus();
  for (const auto& [id, volume] : volumes) {
    if (volume.k < 1 || volume.drives.size() != volume.k + volume.m)
      return Status(Code::kCorrupt,
                    "the record of volume " + std::to_string(id) + " makes no sense");
  }
  std::lock_guard lock(mu_);
  epoch_ = epoch;
  volumes_ = std::move(volumes);
  records_ = std::move(drives);
  PublishLocked();
  return Status::Ok();
}

Status VolumeTable::Commit(Changes changes) {
  if (changes.empty()) return Status::Ok();
  uint64_t epoch = 0;
  {
    std::lock_guard lock(mu_);
    epoch = epoch_ + 1;
  }
  for (VolumeRecord& volume : changes.volumes)
    if (volume.epoch == 0) volume.epoch = epoch;
  PERIGEE_FAILPOINT_STATUS(drive_state_before_commit);
  PERIGEE_TRY(store_->RunDurable([&](kv::Transaction& txn) -> Status {
    for (const VolumeRecord& volume : changes.volumes)
      txn.Put(VolumeKey(volume.volume), wire::Encode(volume));
    for (const DriveRecord& drive : changes.drives)
      txn.Put(DriveKey(drive.drive_id), wire::Encode(drive));
    for (uint64_t id : changes.forgotten) txn.Delete(DriveKey(id));
    txn.Put(MapEpochKey(), EncodeEpoch(epoch));
    return Status::Ok();
  }));
  PERIGEE_FAILPOINT(drive_state_after_commit);
  std::lock_guard lock(mu_);
  epoch_ = epoch;
  for (VolumeRecord& volume : changes.volumes) volumes_[volume.volume] = std::move(volume);
  for (DriveRecord& drive : changes.drives) records_[drive.drive_id] = std::move(drive);
  for (uint64_t id : changes.forgotten) records_.erase(id);
  PublishLocked();
  return Status::Ok();
}

void VolumeTable::PublishLocked() {
  auto map = std::make_shared<client::VolumeMap>();
  map->epoch = epoch_;
  for (const auto& [id, record] : records_) {
    wire::DriveInfo info;
    info.drive_id = id;
    info.state = record.state;
    info.dir = record.dir;
    info.node = record.node;
    info.reason = record.reason;
    if (auto place = places_.find(id); place != places_.end()) info.address = place->second.address;
    if (auto space = space_.find(id); space != space_.end()) {
      info.total_bytes = space->second.total_bytes;
      info.free_bytes = space->second.free_bytes;
    }
    map->drives.push_back(std::move(info));
  }
  // Ids are random; people know drives by their directories.
  std::sort(map->drives.begin(), map->drives.end(),
            [](const wire::DriveInfo& a, const wire::DriveInfo& b) {
              return std::tie(a.dir, a.drive_id) < std::tie(b.dir, b.drive_id);
            });
  for (const auto& [id, record] : volumes_) {
    wire::VolumeInfo info;
    info.volume = id;
    info.k = record.k;
    info.m = record.m;
    info.drives = record.drives;
    info.epoch = record.epoch;
    info.writable = std::all_of(record.drives.begin(), record.drives.end(), [&](uint64_t drive) {
      auto it = records_.find(drive);
      return it != records_.end() && it->second.state == DriveState::kOnline;
    });
    map->volumes.push_back(std::move(info));
  }
  map_ = std::move(map);
}

std::shared_ptr<const client::VolumeMap> VolumeTable::Map() const {
  std::lock_guard lock(mu_);
  return map_;
}

std::vector<VolumeRecord> VolumeTable::Volumes() const {
  std::lock_guard lock(mu_);
  std::vector<VolumeRecord> all;
  for (const auto& [id, record] : volumes_) all.push_back(record);
  return all;
}

std::vector<DriveRecord> VolumeTable::Drives() const {
  std::lock_guard lock(mu_);
  std::vector<DriveRecord> all;
  for (const auto& [id, record] : records_) all.push_back(record);
  return all;
}

std::optional<VolumeRecord> VolumeTable::FindVolume(uint32_t volume) const {
  std::lock_guard lock(mu_);
  auto it = volumes_.find(volume);
  if (it == volumes_.end()) return std::nullopt;
  return it->second;
}

DriveState VolumeTable::StateOf(uint64_t drive_id) const {
  std::lock_guard lock(mu_);
  auto it = records_.find(drive_id);
  return it == records_.end() ? DriveState::kLost : it->second.state;
}

// By slot.
std::vector<PlacedDrive> VolumeTable::UsableDrives() const {
  std::lock_guard lock(mu_);
  std::vector<const DriveRecord*> usable;
  for (const auto& [id, record] : records_) {
    auto place = places_.find(id);
    const bool closed = place != places_.end() && place->second.closed;
    if (record.state == DriveState::kOnline && !closed) usable.push_back(&record);
  }
  std::sort(usable.begin(), usable.end(), [](auto* a, auto* b) { return a->slot < b->slot; });
  std::vector<PlacedDrive> drives;
  for (const DriveRecord* record : usable) drives.push_back({record->drive_id, record->node});
  return drives;
}

Status VolumeTable::CreateVolumes(uint32_t k, const std::vector<PlacedDrive>& drives) {
  Changes changes;
  uint32_t next = 1;
  {
    std::lock_guard lock(mu_);
    if (!volumes_.empty()) next = volumes_.rbegin()->first + 1;
  }
  for (auto& plan : PlanVolumes(drives, k, drives_->m(), drives_->cluster_id() + next)) {
    VolumeRecord record;
    record.volume = next++;
    record.k = k;
    record.m = drives_->m();
    record.drives = std::move(plan);
    changes.volumes.push_back(std::move(record));
  }
  log::Info("volumes_created", {{"count", changes.volumes.size()}, {"k", k}, {"m", drives_->m()}});
  return Commit(std::move(changes));
}

Status VolumeTable::SetDriveState(uint64_t drive_id, DriveState state, const std::string& reason) {
  Turn turn(this);
  Changes changes;
  {
    std::lock_guard lock(mu_);
    auto it = records_.find(drive_id);
    if (it == records_.end()) return Status(Code::kNotFound, "no drive " + HexEncode64(drive_id));
    if (it->second.state == state) return Status::Ok();
    DriveRecord record = it->second;
    record.state = state;
    record.reason = state == DriveState::kOnline ? "" : reason;
    record.since = clock_->Wall();
    changes.drives.push_back(std::move(record));
  }
  return Commit(std::move(changes));
}

Status VolumeTable::SyncWithDrives() {
  const std::vector<DriveSlot> slots = drives_->Slots();
  Turn turn(this);
  Changes changes;
  {
    std::lock_guard lock(mu_);
    std::map<uint64_t, Place> places;
    for (const DriveSlot& slot : slots)
      places[slot.drive_id] = {slot.address, slot.closed, slot.leaving};
    if (places != places_) {
      places_ = std::move(places);
      PublishLocked();
    }
    const bool first_time = records_.empty();
    std::set<uint64_t> present;
    for (const DriveSlot& slot : slots) {
      present.insert(slot.drive_id);
      auto it = records_.find(slot.drive_id);
      DriveRecord record;
      if (it != records_.end()) record = it->second;
      DriveState state = record.state;
      std::string reason = record.reason;
      if (!slot.drive) {
        state = DriveState::kLost;
        reason = slot.problem;
      } else if (!slot.drive->online()) {
        state = DriveState::kOffline;
        reason = slot.drive->offline_reason();
      } else if (it == records_.end()) {
        // A new cluster's drive is empty and right; a replaced drive's successor has everything to
        // get.
        state = first_time ? DriveState::kOnline : DriveState::kRepairing;
        reason = first_time ? "" : "being filled";
      } else if (state != DriveState::kOnline && state != DriveState::kRepairing) {
        state = DriveState::kRepairing;
        reason = "back after: " + record.reason;
      }
      if (it != records_.end() && state == record.state && slot.dir == record.dir &&
          slot.node == record.node)
        continue;
      record.drive_id = slot.drive_id;
      record.slot = slot.slot;
      record.dir = slot.dir;
      record.node = slot.node;
      if (state != record.state || it == records_.end()) record.since = clock_->Wall();
      record.state = state;
      record.reason = reason;
      changes.drives.push_back(std::move(record));
    }
    for (const auto& [id, record] : records_) {
      if (present.contains(id) || record.state == DriveState::kLost) continue;
      DriveRecord lost = record;
      lost.state = DriveState::kLost;
      lost.reason = "replaced";
      lost.since = clock_->Wall();
      changes.drives.push_back(std::move(lost));
    }
  }
  for (const DriveRecord& record : changes.drives) {
    if (record.state == DriveState::kOnline) continue;
    log::Warn("drive_state",
              {{"dir", record.dir}, {"state", NameOf(record.state)}, {"reason", record.reason}});
  }
  return Commit(std::move(changes));
}

Status VolumeTable::SetVerify(const std::vector<uint32_t>& volumes, int64_t verify_after) {
  Turn turn(this);
  Changes changes;
  {
    std::lock_guard lock(mu_);
    for (uint32_t volume : volumes) {
      auto it = volumes_.find(volume);
      if (it == volumes_.end() || it->second.verify_after == verify_after) continue;
      changes.volumes.push_back(it->second);
      changes.volumes.back().verify_after = verify_after;
    }
  }
  return Commit(std::move(changes));
}

Status VolumeTable::ForgetRetired() {
  std::set<uint64_t> used;
  for (const DriveSlot& slot : drives_->Slots()) used.insert(slot.drive_id);
  Turn turn(this);
  Changes changes;
  {
    std::lock_guard lock(mu_);
    for (const auto& [id, volume] : volumes_)
      used.insert(volume.drives.begin(), volume.drives.end());
    for (const auto& [id, record] : records_)
      if (!used.contains(id)) changes.forgotten.push_back(id);
  }
  return Commit(std::move(changes));
}

int64_t VolumeTable::LeasesOver() const { return clock_->Wall() + options_.lease; }

void VolumeTable::RefreshSpace() {
  std::map<uint64_t, SpaceInfo> space;
  for (const DriveSlot& slot : drives_->Slots()) {
    if (!slot.drive || !slot.drive->online()) continue;
    auto info = slot.drive->Space();
    if (info.ok()) space[slot.drive_id] = *info;
  }
  std::lock_guard lock(mu_);
  space_ = std::move(space);
  PublishLocked();
}

}  // namespace perigee::objectd
