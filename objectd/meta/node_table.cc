#include "objectd/meta/node_table.h"

#include "base/bytes.h"
#include "base/failpoint.h"
#include "objectd/kv/key_space.h"
#include "objectd/meta/keys.h"

namespace perigee::objectd {
namespace {

constexpr size_t kNodesMax = 100'000;
constexpr size_t kAddressBytesMax = 1024;

}  // namespace

Status NodeTable::Register(const wire::RegisterNodeRequest& node) {
  if (node.node == 0 || node.address.empty() || node.address.size() > kAddressBytesMax ||
      node.name.size() > kAddressBytesMax) {
    return Status(Code::kInvalidArgument, "a node registers with its id and address");
  }
  PERIGEE_FAILPOINT_STATUS(node_before_commit);
  PERIGEE_TRY(store_.RunDurable([&](kv::Transaction& txn) -> Status {
    const std::string key = keys::Node(node.node), value = EncodeRow(node);
    PERIGEE_ASSIGN(auto known, txn.Get(key, kv::ReadMode::kConflict));
    if (known != value) txn.Put(key, value);
    return Status::Ok();
  }));
  PERIGEE_FAILPOINT_STATUS(node_after_commit);
  return Status::Ok();
}

Result<wire::RegisterNodeRequest> NodeTable::Find(wire::NodeId node) {
  wire::RegisterNodeRequest row;
  auto read = store_.Run([&](kv::Transaction& txn) -> Status {
    PERIGEE_ASSIGN(auto value, txn.Get(keys::Node(node), kv::ReadMode::kSnapshot));
    if (!value) return Status(Code::kNotFound, "node " + HexEncode64(node) + " never registered");
    PERIGEE_ASSIGN(row, DecodeRow<wire::RegisterNodeRequest>(*value, "a node"));
    return Status::Ok();
  });
  if (!read.ok()) return std::move(read).TakeStatus();
  return row;
}

Result<std::vector<wire::RegisterNodeRequest>> NodeTable::All() {
  std::vector<wire::RegisterNodeRequest> nodes;
  auto read = store_.Run([&](kv::Transaction& txn) -> Status {
    nodes.clear();
    PERIGEE_ASSIGN(auto rows,
                   txn.Scan(kv::PrefixRange(std::string(1, static_cast<char>(kv::KeySpace::kNode))),
                            kNodesMax, kv::Direction::kForward, kv::ReadMode::kSnapshot));
    for (const auto& [key, value] : rows) {
      PERIGEE_ASSIGN(auto row, DecodeRow<wire::RegisterNodeRequest>(value, "a node"));
      nodes.push_back(std::move(row));
    }
    return Status::Ok();
  });
  if (!read.ok()) return std::move(read).TakeStatus();
  return nodes;
}

}  // namespace perigee::objectd
