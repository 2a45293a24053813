#pragma once
// VacantRanges: ranges of keys in which nothing is stored, learned by scans that passed many
// deleted keys there. Until these are compacted away each scan over them would pass them again,
// half a microsecond each; with what is known here it goes on behind them. A range holds for every
// view from a position on, for as long as it is here: a commit that puts a key into it takes the
// key out before any view can hold the commit. Bounded in bytes; when full, all is forgotten.
// Thread rule: thread-safe.

#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "objectd/kv/store.h"

namespace perigee::objectd::kv {

class VacantRanges {
 public:
  explicit VacantRanges(size_t bytes_max) : bytes_max_(bytes_max) {}

  // The first one that ends behind `key` and holds for a view of `at`. `key` may be in it.
  std::optional<Range> Next(std::string_view key, Position at);
  // Nothing is in `range` as of `since`, nor has a commit after it that was told to Written. The
  // range has an end. Neither call may overtake the other: the sequencer makes both.
  void Add(const Range& range, Position since);
  // A commit puts a value under `key`.
  void Written(std::string_view key);

 private:
  struct Vacancy {
    std::string begin;
    Position since;
  };
  using ByEnd = std::map<std::string, Vacancy, std::less<>>;  // apart from each other
  static constexpr size_t kOverhead = 160;  // of two strings, and of a node of the map

  void InsertLocked(std::string begin, std::string end, Position since);
  ByEnd::iterator EraseLocked(ByEnd::iterator at);

  const size_t bytes_max_;
  std::mutex mu_;  // guards all below
  ByEnd by_end_;
  size_t bytes_ = 0;
};

}  // namespace perigee::objectd::kv
