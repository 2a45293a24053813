#include "fuse/node_table.h"

namespace perigee::fuse {

static std::shared_ptr<Node> MakeNode(uint64_t node_id, wire::FileId file, wire::FileKind kind) {
  auto node = std::make_shared<Node>();
  node->node_id = node_id;
  node->file = file;
  if (kind == wire::FileKind::kDirectory) node->directory = std::make_unique<DirectoryAttributes>();
  return node;
}

NodeTable::NodeTable() {
  auto root = MakeNode(1, wire::kRootId, wire::FileKind::kDirectory);
  root->lookups = 1;
  by_node_[1] = root;
  current_[wire::kRootId] = root;
}

std::shared_ptr<Node> NodeTable::Lookup(const wire::Record& record) {
  std::lock_guard lock(mu_);
  auto& slot = current_[record.id];
  if (!slot) {
    slot = MakeNode(next_id_++, record.id, record.kind);
    by_node_[slot->node_id] = slot;
  }
  ++slot->lookups;
  return slot;
}

std::shared_ptr<Node> NodeTable::Find(uint64_t node_id) const {
  std::lock_guard lock(mu_);
  auto it = by_node_.find(node_id);
  return it == by_node_.end() ? nullptr : it->second;
}

std::shared_ptr<Node> NodeTable::Current(wire::FileId file) const {
  std::lock_guard lock(mu_);
  auto it = current_.find(file);
  return it == current_.end() ? nullptr : it->second;
}

void NodeTable::Forget(uint64_t node_id, uint64_t lookups) {
  std::lock_guard lock(mu_);
  auto it = by_node_.find(node_id);
  if (it == by_node_.end() || node_id == 1) return;
  Node& node = *it->second;
  node.lookups -= std::min(node.lookups, lookups);
  if (node.lookups != 0) return;
  if (node.current) current_.erase(node.file);
  by_node_.erase(it);
}

void NodeTable::Retire(Node& node) {
  std::lock_guard lock(mu_);
  if (!node.current || node.node_id == 1) return;
  node.current = false;
  current_.erase(node.file);
}

size_t NodeTable::size() const {
  std::lock_guard lock(mu_);
  return by_node_.size();
}

}  // namespace perigee::fuse
