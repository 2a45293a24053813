#pragma once
// FeedIndex: how far back the change feed reaches, and which positions never came to be.
//
// Trimming is by marks: every 1/64 of the events kept, the position and the count of events so far
// are noted, and when enough events follow a mark, everything up to it goes. So at least
// `events_kept` events stay, and about 64 marks.
// A gap (last, resumed) is left by a crash: commits after `last` were lost, the next one is
// `resumed`. A consumer whose position lies inside a gap has seen events that did not happen: it is
// told to resync.
// Thread rule: guarded by its owner.

#include <cstdint>
#include <deque>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "objectd/kv/store.h"

namespace perigee::objectd::kv {

class FeedIndex {
 public:
  struct Mark {
    Position position;
    uint64_t events_total;  // emitted up to and with that commit
  };
  struct Gap {
    Position last, resumed;
  };
  // What a commit changed here, for engines that store it.
  struct Step {
    std::optional<Mark> added;
    std::optional<Position> low_water;  // new: events up to it are gone
    std::vector<Position> marks_gone;
    std::vector<Position> gaps_gone;  // by Gap::last
  };
  static constexpr size_t kGapsMax = 256;

  explicit FeedIndex(uint64_t events_kept);
  // From what was stored; both ascending.
  void Restore(Position low_water, uint64_t events_total, std::vector<Mark> marks,
               std::vector<Gap> gaps);

  Step Commit(Position position, size_t events);
  Step AddGap(Gap gap);

  // kResync when a reader that stands at `after` would miss something; `visible` is where the feed
  // ends.
  Status Check(Position after, Position visible) const;
  bool Lost(Position position) const;  // of a commit that a crash took back
  uint64_t events_total() const { return events_total_; }
  Position low_water() const { return low_water_; }

 private:
  void RaiseLowWater(Position to, Step* step);

  const uint64_t events_kept_;
  Position low_water_ = 0;
  uint64_t events_total_ = 0;
  std::deque<Mark> marks_;
  std::deque<Gap> gaps_;
};

// Builds a page out of events in order. A page ends between commits: it may be over `limit` by what
// is left of one.
class FeedPageBuilder {
 public:
  FeedPageBuilder(Position after, size_t limit) : limit_(limit), next_(after) {}
  bool Add(Position position,
           std::string_view event);  // false: the page is full, this one is not in it
  // `visible`: where the feed ended when it was read.
  FeedPage Finish(Position visible, Position durable) &&;

 private:
  const size_t limit_;
  Position next_;
  bool full_ = false;
  FeedPage page_;
};

}  // namespace perigee::objectd::kv
