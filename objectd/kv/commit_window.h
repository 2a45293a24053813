#pragma once
// CommitWindow: which keys the recent commits wrote, so that a commit can be validated against
// those that came after its snapshot. Bounded: the oldest commits are forgotten first, and a
// snapshot older than what is remembered is a conflict (the closure runs again on a newer one).
// Thread rule: guarded by its owner.

#include <cstddef>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "objectd/kv/write_set.h"

namespace perigee::objectd::kv {

class CommitWindow {
 public:
  // Commits up to `floor` are not remembered.
  CommitWindow(size_t bytes_max, Position floor) : bytes_max_(bytes_max), floor_(floor) {}

  // kConflict when a commit after `snapshot` wrote what `reads` names, or when that is not known
  // any more.
  Status Validate(const ReadSet& reads, Position snapshot) const;
  // `keys` sorted, without duplicates; positions grow.
  void Add(Position position, std::vector<std::string> keys);
  // The last commit in the window that wrote `key`; none: it was not written after floor().
  std::optional<Position> LastWrite(std::string_view key) const;
  Position floor() const { return floor_; }
  void Reset(Position floor);

 private:
  struct Commit {
    Position position;
    std::vector<std::string> keys;
    size_t bytes;
  };
  void DropOldest();

  const size_t bytes_max_;
  Position floor_;
  size_t bytes_ = 0;
  std::deque<Commit> commits_;  // by position
  // Views into the keys of the commit that wrote them last.
  std::unordered_map<std::string_view, Position> last_write_;
};

}  // namespace perigee::objectd::kv
