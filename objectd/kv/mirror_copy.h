#pragma once
// How a mirror gets what another one has: by the other's write-ahead log when it reaches back far
// enough, or whole.
//
// A mirror that is in sync but far behind is never overwritten in place, since what it has was
// acknowledged: the copy is made beside it in <dir>.copy, then <dir> becomes <dir>.old and the copy
// <dir>. A crash in between is undone by RecoverMirrorDir.
// Thread rule: one thread per target.

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "objectd/kv/rocks_mirror.h"
#include "objectd/kv/rocks_view.h"

namespace perigee::objectd::kv {

// Which side a failed copy is to be blamed on.
enum class CopyFault { kNone, kSource, kTarget, kCancelled };
struct CopyOutcome {
  CopyFault fault = CopyFault::kNone;
  Status status;
};

// Puts all of `view` into the empty `to`, which is then synced and stands at the view's position.
CopyOutcome CopySnapshot(RocksView& view, RocksMirror& to, const std::atomic<bool>* cancelled);

// Follows the log of `source`, which must outlive it. `to` stands at `have`; `sequence` is a
// RocksDB sequence number of the source at or before the first batch wanted.
class WalFollower {
 public:
  WalFollower(RocksMirror& source, RocksMirror& to, Position have, uint64_t sequence)
      : source_(source), to_(to), have_(have), sequence_(sequence) {}
  // Until `to` stands at `until`, which the source has. Not synced. A log that does not reach back
  // far enough: kSource with kStale, and a whole copy is the way.
  CopyOutcome FollowTo(Position until);
  Position have() const { return have_; }

 private:
  CopyOutcome FollowOnce(Position until);

  RocksMirror& source_;
  RocksMirror& to_;
  Position have_;
  uint64_t sequence_;
};

// Where in the source's log the commits after `have` begin; kStale when they are not in it.
Result<uint64_t> FindInLog(RocksMirror& source, Position have);

// Keeps the source from deleting files (its log among them) while a copy is made from it.
class FileDeletionPause {
 public:
  explicit FileDeletionPause(std::shared_ptr<RocksMirror> source);
  ~FileDeletionPause();
  FileDeletionPause(const FileDeletionPause&) = delete;
  FileDeletionPause& operator=(const FileDeletionPause&) = delete;
  Status status() const { return status_; }

 private:
  const std::shared_ptr<RocksMirror> source_;
  Status status_;
};

// Makes `place` hold what `source` has, at its newest position. The mirror in `place` must be
// closed.
CopyOutcome ReplaceByCopy(std::shared_ptr<RocksMirror> source, std::shared_ptr<RocksEngine> engine,
                          const MirrorPlace& place);
// Before a mirror is opened: finishes or undoes an interrupted ReplaceByCopy.
Status RecoverMirrorDir(const std::string& dir);
// Removes whatever is in `dir` and makes it, durably.
Status ClearMirrorDir(const std::string& dir);

}  // namespace perigee::objectd::kv
