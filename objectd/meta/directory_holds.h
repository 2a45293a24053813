#pragma once
// DirectoryHolds: which node makes files in a directory without asking.
//
// A node that holds a directory answers there by itself, and tells of it in batches (kMetaApply).
// Until it is taken back, names that are not in the directory come into it by that node alone.
// Whoever else looks for a name there waits until the holder has told all (Take, keep); whoever
// changes names there, until it has given the directory up as well. So no call that begins after a
// change was acknowledged, at any door, sees what was before it. A node that does not answer is
// waited for until its term is over; what it has not told by then it makes later, by the rules for
// changes that were made while objectd was away.
//
// Grants are rows of the store (keys::Hold): another life of objectd knows them. A grant commits a
// write to the directory's liveness row, which all insertions conflict-read: none that began before
// it ends behind it unseen. A directory that others make use of is not granted for a while. As
// CephFS does for asynchronous creates, for whole directories. Thread-safe; Take and Changed block.

#include <atomic>
#include <functional>
#include <map>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "base/clock.h"
#include "base/event.h"
#include "base/metrics.h"
#include "base/status.h"
#include "objectd/kv/store.h"
#include "rdma/wire/meta.h"

namespace perigee::objectd {

class DirectoryHolds {
 public:
  static constexpr Nanos kTerm = wire::kDelegationTermNanos;
  static constexpr Nanos kBarred = 10 * kSecond;  // after others made use of it
  static constexpr size_t kNodeDirsMax = 64;      // that one node holds at once
  static constexpr int kReadsMax = 16;            // elsewhere, before a hold is not worth having

  // kBurstTakeDirectory at that node.
  using Tell = std::function<Status(wire::NodeId node, wire::FileId dir, bool keep, Nanos timeout)>;

  // `tell` is called without a lock.
  static Result<std::unique_ptr<DirectoryHolds>> Create(kv::Store& store, Clock& clock,
                                                        metrics::Registry& metrics, Tell tell);

  wire::NodeId HolderOf(wire::FileId dir) const;  // 0: none
  // How many holds have ended. Who finds a directory held by none has to have begun to read after
  // the last one ended, or it may read what was before that was told.
  uint64_t ended() const { return ended_; }

  // A grant begins, asked for at `at`: nobody gets at the names until End. False: not now. kStale:
  // the node has to give everything up first.
  Result<bool> Begin(wire::NodeId node, wire::FileId dir, int64_t at);
  void End(wire::FileId dir, bool granted);
  // kStale as above.
  Status Renew(wire::NodeId node);
  // Of what it asked for before `at`; `all`: of that all, in this process's time or another's.
  Status Release(wire::NodeId node, const std::vector<wire::FileId>& dirs, bool all, int64_t at);

  // objectd has all that the holder made in `dir` until now; unless `keep`, nobody holds it on
  // return. An error is the store's.
  Status Take(wire::FileId dir, bool keep);
  // After a commit that changed these: directories among them are taken back, for their holders
  // know their records.
  void Changed(const std::vector<wire::FileId>& ids);

 private:
  struct Hold {
    wire::NodeId node = 0;
    bool beginning = false;
    bool taking = false;  // it is being given up
    int64_t at = 0;       // when the node asked for it; 0: in another process's time
    int reads = 0;
  };
  struct NodeState {
    Nanos until = 0;      // the end of its term, not before it ends for the node itself
    bool lapsed = false;  // it ends: no renewal before the node has given everything up
    size_t dirs = 0;
  };

  DirectoryHolds(kv::Store& store, Clock& clock, metrics::Registry& metrics, Tell tell);
  Status Load();
  void AwaitEndOfTerm(wire::NodeId node);
  Status Drop(const std::vector<wire::FileId>& dirs);
  void EraseLocked(wire::FileId dir);
  void BarLocked(wire::FileId dir);

  kv::Store& store_;
  Clock& clock_;
  const Tell tell_;
  metrics::Counter *grants_, *reads_, *taken_, *expiries_;
  std::atomic<size_t> count_{0};  // of holds_
  std::atomic<uint64_t> ended_{0};

  mutable std::mutex mu_;  // guards what follows
  CondVar changed_;
  std::unordered_map<wire::FileId, Hold> holds_;
  std::map<wire::NodeId, NodeState> nodes_;
  std::unordered_map<wire::FileId, Nanos> barred_;  // until then
};

}  // namespace perigee::objectd
