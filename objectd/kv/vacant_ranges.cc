#include "objectd/kv/vacant_ranges.h"

#include <algorithm>

namespace perigee::objectd::kv {

std::optional<Range> VacantRanges::Next(std::string_view key, Position at) {
  std::lock_guard lock(mu_);
  auto found = by_end_.upper_bound(key);
  while (found != by_end_.end() && found->second.since > at) ++found;
  if (found == by_end_.end()) return std::nullopt;
  return Range{found->second.begin, found->first};
}

void VacantRanges::Add(const Range& range, Position since) {
  std::lock_guard lock(mu_);
  Range joined = range;
  auto next = by_end_.lower_bound(range.begin);
  while (next != by_end_.end() && next->second.begin <= range.end) {
    joined.begin = std::min(joined.begin, next->second.begin);
    joined.end = std::max(joined.end, next->first);
    since = std::max(since, next->second.since);
    next = EraseLocked(next);
  }
  InsertLocked(std::move(joined.begin), std::move(joined.end), since);
}

void VacantRanges::Written(std::string_view key) {
  std::lock_guard lock(mu_);
  auto found = by_end_.upper_bound(key);
  if (found == by_end_.end() || found->second.begin > key) return;
  auto [begin, since] = found->second;
  std::string end = found->first, behind = std::string(key) + '\0';
  EraseLocked(found);
  if (begin < key) InsertLocked(std::move(begin), std::string(key), since);
  if (behind < end) InsertLocked(std::move(behind), std::move(end), since);
}

void VacantRanges::InsertLocked(std::string begin, std::string end, Position since) {
  bytes_ += begin.size() + end.size() + kOverhead;
  if (bytes_ > bytes_max_) {
    by_end_.clear();
    bytes_ = begin.size() + end.size() + kOverhead;
  }
  by_end_.emplace(std::move(end), Vacancy{std::move(begin), since});
}

VacantRanges::ByEnd::iterator VacantRanges::EraseLocked(ByEnd::iterator at) {
  bytes_ -= at->first.size() + at->second.begin.size() + kOverhead;
  return by_end_.erase(at);
}

}  // namespace perigee::objectd::kv
