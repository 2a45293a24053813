#pragma once
// ReleaseFeed: follows the namespace's change feed for burst files of this node that it released,
// and frees them once the release is durable. The position is kept in the index; a lost feed makes
// every file be asked about again. One long poll at a time, on a scheduler of its own. Thread-safe.

#include <deque>
#include <optional>

#include "bufferd/core.h"
#include "bufferd/recovery.h"

namespace perigee::bufferd {

class ReleaseFeed {
 public:
  ReleaseFeed(Core& core, Recovery& recovery, Scheduler* poll)
      : core_(core), recovery_(recovery), poll_(poll) {}
  void Start();
  // One poll and what it brought; the loop's body, and the tests'. False: objectd is away.
  bool Step(uint32_t wait_ms);
  // What was released up to now, which objectd has made durable, at once and on the caller's
  // thread; the loop goes over it once more.
  Status CatchUp(client::MetaClient& objectd);

 private:
  void Loop();
  bool Begin();
  bool Apply(uint64_t durable);
  Result<std::optional<uint64_t>> StoredPosition() const;
  void StorePosition(std::optional<uint64_t> position);  // nothing: the feed was lost
  bool Ours(const wire::Change& change) const;
  Status Release(const wire::Change& change, client::MetaClient& objectd);

  Core& core_;
  Recovery& recovery_;
  Scheduler* const poll_;
  // Used by the loop only.
  std::optional<uint64_t> next_;
  std::deque<wire::Change> pending_;
};

}  // namespace perigee::bufferd
