#include "bufferd/residency.h"

#include <algorithm>

namespace perigee::bufferd {

void Residency::SplitAt(uint64_t at) {
  auto it = ranges_.upper_bound(at);
  if (it == ranges_.begin()) return;
  --it;
  if (it->first == at || it->second.end <= at) return;
  ranges_[at] = it->second;
  it->second.end = at;
}

void Residency::Set(ByteRange range, RangeState state) {
  if (range.begin >= range.end) return;
  SplitAt(range.begin);
  SplitAt(range.end);
  ranges_.erase(ranges_.lower_bound(range.begin), ranges_.lower_bound(range.end));
  if (state == RangeState::kAbsent) return;
  auto it = ranges_.emplace(range.begin, Span{range.end, state}).first;
  auto next = std::next(it);
  if (next != ranges_.end() && next->first == it->second.end && next->second.state == state) {
    it->second.end = next->second.end;
    ranges_.erase(next);
  }
  if (it == ranges_.begin()) return;
  auto before = std::prev(it);
  if (before->second.end == it->first && before->second.state == state) {
    before->second.end = it->second.end;
    ranges_.erase(it);
  }
}

void Residency::Change(RangeState from, RangeState to) {
  std::vector<ByteRange> found = Find({0, UINT64_MAX}, from);
  for (const ByteRange& r : found) Set(r, to);
}

bool Residency::Readable(ByteRange range) const {
  uint64_t at = range.begin;
  while (at < range.end) {
    auto it = ranges_.upper_bound(at);
    if (it == ranges_.begin()) return false;
    --it;
    if (it->second.end <= at || it->second.state < RangeState::kResident) return false;
    at = it->second.end;
  }
  return true;
}

std::vector<ByteRange> Residency::Find(ByteRange within, RangeState state) const {
  std::vector<ByteRange> found;
  uint64_t at = within.begin;
  auto it = ranges_.upper_bound(at);
  if (it != ranges_.begin()) --it;
  for (; at < within.end && it != ranges_.end(); ++it) {
    if (it->second.end <= at) continue;
    if (it->first >= within.end) break;
    if (it->first > at && state == RangeState::kAbsent) found.push_back({at, it->first});
    uint64_t begin = std::max(at, it->first);
    uint64_t end = std::min(within.end, it->second.end);
    if (it->second.state == state) found.push_back({begin, end});
    at = end;
  }
  if (at < within.end && state == RangeState::kAbsent) found.push_back({at, within.end});
  return found;
}

uint64_t Residency::Bytes(RangeState state) const {
  uint64_t bytes = 0;
  for (const auto& [begin, span] : ranges_)
    if (span.state == state) bytes += span.end - begin;
  return bytes;
}

}  // namespace perigee::bufferd
