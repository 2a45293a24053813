#include "objectd/kv/versioned_map.h"

#include <algorithm>

namespace perigee::objectd::kv {

const std::string* VersionedMap::ValueAt(const Versions& versions, Position at) {
  for (auto version = versions.rbegin(); version != versions.rend(); ++version) {
    if (version->position <= at) return version->value ? &*version->value : nullptr;
  }
  return nullptr;
}

std::optional<std::string> VersionedMap::Get(std::string_view key, Position at) const {
  auto it = map_.find(key);
  if (it == map_.end()) return std::nullopt;
  const std::string* value = ValueAt(it->second, at);
  if (value == nullptr) return std::nullopt;
  return *value;
}

std::optional<KeyValue> VersionedMap::First(const Range& range, Direction direction,
                                            Position at) const {
  if (IsEmpty(range)) return std::nullopt;
  auto begin = map_.lower_bound(range.begin);
  auto end = range.end.empty() ? map_.end() : map_.lower_bound(range.end);
  if (direction == Direction::kForward) {
    for (; begin != end; ++begin) {
      if (const std::string* value = ValueAt(begin->second, at))
        return KeyValue(begin->first, *value);
    }
  } else {
    while (end != begin) {
      --end;
      if (const std::string* value = ValueAt(end->second, at)) return KeyValue(end->first, *value);
    }
  }
  return std::nullopt;
}

void VersionedMap::Set(const std::string& key, Position position,
                       std::optional<std::string> value) {
  Versions& versions = map_[key];
  PERIGEE_CHECK(versions.empty() || versions.back().position < position);
  versions.push_back({position, std::move(value)});
  written_.emplace_back(position, key);
}

void VersionedMap::Prune(Position horizon) {
  while (!written_.empty() && written_.front().first <= horizon) {
    auto it = map_.find(written_.front().second);
    written_.pop_front();
    if (it == map_.end()) continue;
    Versions& versions = it->second;
    // Of the versions up to the horizon only the newest can be seen, and a deletion not even that.
    auto after = std::find_if(versions.begin(), versions.end(),
                              [&](const Version& v) { return v.position > horizon; });
    if (after == versions.begin()) continue;
    auto keep = std::prev(after);
    if (!keep->value) ++keep;
    versions.erase(versions.begin(), keep);
    if (versions.empty()) map_.erase(it);
  }
}

void VersionedMap::DropAfter(Position position) {
  for (auto it = map_.begin(); it != map_.end();) {
    std::erase_if(it->second, [&](const Version& v) { return v.position > position; });
    it = it->second.empty() ? map_.erase(it) : std::next(it);
  }
  std::erase_if(written_, [&](const auto& w) { return w.first > position; });
}

}  // namespace perigee::objectd::kv
