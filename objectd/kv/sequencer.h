#pragma once
// Sequencer: the one order of all commits. Validates a transaction against the commits after its
// snapshot, resolves atomic operations to plain values (so that every mirror gets the same bytes),
// numbers it and hands it to the mirrors.
//
// Nothing is read from a drive under the lock: the base of an atomic operation comes from a small
// cache of counters, or is read before, and used only when no commit has written it since.
// Thread rule: thread-safe. Lock order: this, then that of MirrorSet, RowCache or
// VacantRanges.

#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>

#include "objectd/kv/commit_window.h"
#include "objectd/kv/feed_index.h"
#include "objectd/kv/mirror_set.h"
#include "objectd/kv/overlay_transaction.h"
#include "objectd/kv/row_cache.h"
#include "objectd/kv/store_format.h"
#include "objectd/kv/vacant_ranges.h"

namespace perigee::objectd::kv {

class Sequencer {
 public:
  Sequencer(MirrorSet& mirrors, RowCache& rows, VacantRanges& vacant, FeedIndex feed, Head head);

  // The position of the commit, which is enqueued, not yet visible. kConflict: run the closure
  // again.
  Result<Position> Commit(const OverlayTransaction& txn, Position snapshot);
  Position LastPosition();  // visible or about to be
  Status CheckFeed(Position after, Position visible);
  bool Lost(Position position);
  // A view of `at` holds nothing in the range, which has an end. Kept, unless a later commit may
  // have written there.
  void NoteVacant(const Range& range, Position at);
  // Runs `fn` between two commits, with the position of the last one.
  void BetweenCommits(const std::function<void(Position last)>& fn);

 private:
  struct Base {
    Position at = 0;  // the value was this as of then
    std::optional<std::string> value;
  };
  using Bases = std::map<std::string, Base, std::less<>>;
  // With mu_ held. The keys whose base is neither cached nor in `bases`.
  std::vector<std::string> MissingBases(const WriteSet& writes, const Bases& bases) const;
  const std::optional<std::string>* FindBase(const std::string& key, const Bases& bases) const;
  Result<Position> Assign(const WriteSet& writes, const Bases& bases);
  Status ReadBases(const std::vector<std::string>& keys, Position at_least, Bases* bases);
  void Remember(const std::string& key, const std::optional<std::string>& value, bool counter);

  MirrorSet& mirrors_;
  RowCache& rows_;
  VacantRanges& vacant_;
  std::mutex mu_;  // guards all below; held over memory operations only
  CommitWindow window_;
  FeedIndex feed_;
  Head head_;
  std::unordered_map<std::string, std::optional<std::string>>
      counters_;  // current values, emptied when too many
};

}  // namespace perigee::objectd::kv
