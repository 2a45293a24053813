#pragma once
// VersionedMap: ordered keys with the values they had at each position, for MemStore. Old versions
// are pruned behind a horizon that the owner moves.
// Thread rule: guarded by its owner.

#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "objectd/kv/write_set.h"

namespace perigee::objectd::kv {

class VersionedMap {
 public:
  std::optional<std::string> Get(std::string_view key, Position at) const;
  // The first pair of `range`, as of `at`, seen from the end that `direction` starts at.
  std::optional<KeyValue> First(const Range& range, Direction direction, Position at) const;
  void Set(const std::string& key, Position position, std::optional<std::string> value);
  // No reader looks before `horizon` any more.
  void Prune(Position horizon);
  // Takes back everything after `position`.
  void DropAfter(Position position);

 private:
  struct Version {
    Position position;
    std::optional<std::string> value;
  };
  using Versions = std::vector<Version>;  // ascending, never empty
  static const std::string* ValueAt(const Versions& versions, Position at);

  std::map<std::string, Versions, std::less<>> map_;
  std::deque<std::pair<Position, std::string>> written_;  // not pruned yet, by position
};

}  // namespace perigee::objectd::kv
