#pragma once
// Delegations: which nodes may answer for which files without asking.
//
// A node that opens a file may be delegated it: until it is recalled, or the node's term is over,
// what the record said still holds. Whoever changes a file waits, after the commit and before the
// reply, until every node that was delegated it has answered the recall or has run out of term
// (Settle). So no open that begins after a change was acknowledged sees what was before it.
//
// Kept in memory. After a start, the nodes that may still hold something of the process before are
// waited for until they say that they do not, or for one term. The names come from NFSv4's read
// delegations (RFC 8881, section 10.4). Thread-safe; Settle blocks.

#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <unordered_map>
#include <vector>

#include "base/clock.h"
#include "base/event.h"
#include "base/metrics.h"
#include "base/status.h"
#include "rdma/wire/meta.h"

namespace perigee::objectd {

class Delegations {
 public:
  static constexpr Nanos kTerm = wire::kDelegationTermNanos;
  static constexpr size_t kNodeFilesMax = 1 << 18;  // that one node may be delegated at once

  // kBurstRecall at that node.
  using Recall =
      std::function<Status(wire::NodeId node, const std::vector<wire::FileId>& ids, Nanos timeout)>;

  // `unheard`: the nodes that an earlier process may have delegated something to.
  Delegations(Clock& clock, metrics::Registry& metrics, Recall recall,
              std::vector<wire::NodeId> unheard);

  // Before the record is read that is handed out under it. False: not now.
  bool Grant(wire::NodeId node, wire::FileId id);
  // The term starts anew; `none_held`: all that was granted until now is given up. kStale: it has
  // to be, first: what the node holds is of another process's time, or a recall went unanswered.
  Status Renew(wire::NodeId node, bool none_held);
  // After the commit that changed these files.
  void Settle(const std::vector<wire::FileId>& changed);

 private:
  struct Holder {
    wire::NodeId node = 0;
    uint64_t grant = 0;  // the last one's number
  };
  struct NodeState {
    bool lapsed = true;  // its term ends: no renewal before it has said that it holds nothing
    Nanos until = 0;     // the end of its term, not before it ends for the node itself
    size_t files = 0;
  };
  using Held = std::map<wire::NodeId, std::vector<std::pair<wire::FileId, uint64_t>>>;

  void AwaitUnheard();
  Nanos EndOfTerm(wire::NodeId node);
  Held HeldOf(const std::vector<wire::FileId>& changed);
  void Drop(wire::NodeId node, const std::vector<std::pair<wire::FileId, uint64_t>>& recalled);

  Clock& clock_;
  const Recall recall_;
  const Nanos started_;
  metrics::Counter *grants_, *recalls_, *expiries_;

  std::mutex mu_;  // guards what follows
  CondVar heard_;
  std::set<wire::NodeId> unheard_;
  uint64_t next_grant_ = 1;
  std::unordered_map<wire::FileId, std::vector<Holder>> files_;
  std::map<wire::NodeId, NodeState> nodes_;
};

}  // namespace perigee::objectd
