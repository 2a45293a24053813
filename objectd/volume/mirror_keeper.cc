#include "objectd/volume/mirror_keeper.h"

#include <algorithm>

#include "base/log.h"

namespace perigee::objectd {

Status MirrorKeeper::RunOnce() {
  if (store_ == nullptr) return Status::Ok();
  std::vector<uint64_t> in_sync = store_->InSync();
  for (uint64_t id : in_sync) {
    auto drive = drives_->Find(id);
    if (drive && drive->online()) continue;
    PERIGEE_TRY(store_->EjectMirror(id, drive ? drive->offline_reason() : "its drive is lost"));
  }
  in_sync = store_->InSync();
  std::shared_ptr<Drive> place = NextPlace(in_sync);
  if (!place) return Status::Ok();
  log::Info("mirror_adding", {{"dir", place->dir()}, {"in_sync", in_sync.size()}});
  return store_->AddMirror(DriveSet::PlaceOf(*place));
}

// The drive with the most room, healthy ones first: one that is being filled is as good a place,
// but busier.
std::shared_ptr<Drive> MirrorKeeper::NextPlace(const std::vector<uint64_t>& in_sync) const {
  if (in_sync.size() >= drives_->mirrors_wanted()) return nullptr;
  std::shared_ptr<Drive> best;
  std::pair<bool, uint64_t> best_rank;
  for (const DriveSlot& slot : drives_->Slots()) {
    if (!slot.drive || !slot.drive->online()) continue;
    if (std::find(in_sync.begin(), in_sync.end(), slot.drive_id) != in_sync.end()) continue;
    auto space = slot.drive->Space();
    std::pair rank(table_->StateOf(slot.drive_id) == wire::DriveState::kOnline,
                   space.ok() ? space->free_bytes : 0);
    if (best && rank <= best_rank) continue;
    best = slot.drive;
    best_rank = rank;
  }
  return best;
}

bool MirrorKeeper::Missing() const {
  return store_ != nullptr && NextPlace(store_->InSync()) != nullptr;
}

std::string MirrorKeeper::Describe() const {
  if (store_ == nullptr) return "none: the namespace is in memory";
  std::vector<uint64_t> in_sync = store_->InSync();
  std::string dirs;
  for (const DriveSlot& slot : drives_->Slots())
    if (std::find(in_sync.begin(), in_sync.end(), slot.drive_id) != in_sync.end())
      dirs += " " + slot.dir;
  return std::to_string(in_sync.size()) + " of " + std::to_string(drives_->mirrors_wanted()) +
         " in sync:" + dirs;
}

}  // namespace perigee::objectd
