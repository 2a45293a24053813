#include "objectd/metadata_room.h"

#include <algorithm>

#include "base/options.h"

namespace perigee::objectd {

namespace {

constexpr Nanos kLookEvery = 100 * kMillisecond;

// Half of what SegmentSet leaves free.
uint64_t LeastFree(uint64_t total) {
  uint64_t least = std::min<uint64_t>(64 << 20, total / 8);
  return std::clamp<uint64_t>(total / 50, least, uint64_t{1} << 30) / 2;
}

}  // namespace

std::string MetadataRoom::Look() const {
  for (const std::string& dir : dirs_()) {
    auto space = disk_.Space(dir);
    if (!space.ok()) continue;  // the mirror keeper's business
    if (space->free_bytes >= LeastFree(space->total_bytes)) continue;
    return "the namespace's mirror in " + dir + " has only " + FormatBytes(space->free_bytes) +
           " of room left";
  }
  return {};
}

Status MetadataRoom::Check() {
  std::lock_guard lock(mu_);
  Nanos now = RealClock::Get().Monotonic();
  if (looked_ == 0 || now - looked_ > kLookEvery) {
    full_ = Look();
    looked_ = now;
  }
  return full_.empty() ? Status::Ok() : Status(Code::kNoSpace, full_);
}

}  // namespace perigee::objectd
