#pragma once
// Storage nodes, as `perigee node` and `perigee status` show them, and the wait for a drain or a
// repair. Main thread only.

#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "base/clock.h"
#include "rdma/transport.h"
#include "rdma/wire/node.h"

namespace perigee::cli {

nlohmann::json NodeJson(const wire::StorageNodeInfo& node);
nlohmann::json NodesJson(const wire::NodeListReply& list);
// A table, under it what is wrong or going on with each, and what may be lost.
void PrintNodes(const wire::NodeListReply& list);
// What may be lost, alone.
void PrintSurvives(const wire::NodeListReply& list);

struct NodeWait {
  wire::NodeId node = 0;
  std::string name;
  wire::NodeAction action = wire::NodeAction::kDrain;  // or kRepair
  Nanos patience = 0;                                  // how long nothing may move
  std::function<void(Nanos)> pause;
  std::function<void(uint32_t left, uint32_t of)> progress;  // volumes
};
// Until a drained node holds nothing, or what a lost one held is on others (or it is heard again,
// which needs no repair): how it is then. Bears an objectd that is away for less than `patience`.
// Errors: kDeadlineExceeded: nothing moved for so long, and why; kPreconditionFailed: the drain was
// given up; kNotFound: no such node any more.
Result<wire::StorageNodeInfo> WaitForNode(rdma::Channel& objectd, const Clock& clock,
                                          const NodeWait& wait);

}  // namespace perigee::cli
