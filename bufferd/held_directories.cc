#include "bufferd/held_directories.h"

namespace perigee::bufferd {

HeldDirectories::Row* HeldDirectories::RowOf(wire::FileId dir) {
  if (rows_.size() >= kRowsMax && !rows_.contains(dir)) rows_.clear();
  return &rows_[dir];
}

HeldDirectory* HeldDirectories::CountCreate(wire::FileId dir, Nanos now) {
  if (held_.size() >= kDirsMax || names_ >= kNamesMax / 2 || held_.contains(dir)) return nullptr;
  Row& row = *RowOf(dir);
  if (row.barred > now) return nullptr;
  if (row.creates == 0 || now - row.since > kRow) row = {.since = now};
  if (++row.creates < kCreatesInARow) return nullptr;
  row.creates = 0;
  HeldDirectory& held = held_[dir];
  held = {.number = next_number_++, .used = now};
  return &held;
}

bool HeldDirectories::AddName(HeldDirectory* held, const std::string& name) {
  if (held->names.insert(name).second) ++names_;
  return names_ <= kNamesMax;
}

void HeldDirectories::Drop(wire::FileId dir) {
  auto it = held_.find(dir);
  if (it == held_.end()) return;
  names_ -= it->second.names.size();
  held_.erase(it);
}

void HeldDirectories::Bar(wire::FileId dir, Nanos now, Nanos time) {
  Drop(dir);
  RowOf(dir)->barred = now + time;
}

void HeldDirectories::Clear() {
  held_.clear();
  names_ = 0;
}

}  // namespace perigee::bufferd
