#pragma once
// NodeTable: where the cluster's nodes are reached. A node registers at start and when its
// connection is new; rows are in the store (KeySpace::kNode), so every objectd knows them after a
// restart. Thread-safe.

#include <string>
#include <vector>

#include "objectd/kv/store.h"
#include "rdma/wire/meta.h"

namespace perigee::objectd {

class NodeTable {
 public:
  explicit NodeTable(kv::Store& store) : store_(store) {}
  // Durable on return. kInvalidArgument for node 0 or no address.
  Status Register(const wire::RegisterNodeRequest& node);
  // As it last registered; kNotFound: never.
  Result<wire::RegisterNodeRequest> Find(wire::NodeId node);
  Result<std::vector<wire::RegisterNodeRequest>> All();

 private:
  kv::Store& store_;
};

}  // namespace perigee::objectd
