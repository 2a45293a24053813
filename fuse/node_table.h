#pragma once
// Nodes: what the kernel knows by a node id. One node is one (file id, burst file); st_ino is the
// file id.
//
// A file id has one current node. It gets a successor only when another burst file must serve the
// name while the old one is open; the old node then lives on for those who opened it, and is no
// longer found by lookups.
//
// Open mode, the kernel's rule (fs/fuse/iomode.c): while any passthrough open exists all opens are
// passthrough with the same backing, while any cached open exists none is. It is decided under the
// node's lock, when the reply is made, and holds until the last release. Thread rule: the table is
// thread-safe; a node's open state is guarded by its mutex. Nodes are freed when the kernel has
// forgotten them and nothing has them open.

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <unordered_map>

#include "fuse/directory_attributes.h"
#include "rdma/transport.h"
#include "rdma/wire/record.h"

namespace perigee::fuse {

enum class OpenMode { kNone, kCached, kPassthrough };

struct Handle;

struct Node {
  uint64_t node_id = 0;
  wire::FileId file = 0;
  std::unique_ptr<DirectoryAttributes> directory;  // null: it is none

  uint64_t lookups = 0;  // guarded by the table
  bool current = true;   // guarded by the table

  std::mutex mu;
  // Guarded by mu:
  wire::BurstId burst = 0;  // that serves the open handles; 0 when nothing is open
  OpenMode mode = OpenMode::kNone;
  uint32_t opens = 0;
  uint32_t write_opens = 0;
  int32_t backing_id = 0;  // passthrough
  rdma::OwnedFd backing;   // read-only; fstat of it tells size and times while something writes
  wire::Record record;     // as last seen; serves fstat on an open file that was unlinked
  std::shared_ptr<Handle> kept;  // an open for reading that the next one may use: kept_opens.h
};

class NodeTable {
 public:
  NodeTable();
  // The current node of this file, made if there is none; counts one lookup of the kernel.
  std::shared_ptr<Node> Lookup(const wire::Record& record);
  // nullptr: the kernel sent an id it has forgotten.
  std::shared_ptr<Node> Find(uint64_t node_id) const;
  // The current node of this file; nullptr: the kernel knows none.
  std::shared_ptr<Node> Current(wire::FileId file) const;
  void Forget(uint64_t node_id, uint64_t lookups);
  // The next Lookup of the file makes a successor.
  void Retire(Node& node);
  size_t size() const;

 private:
  mutable std::mutex mu_;
  uint64_t next_id_ = 2;  // 1 is the root
  std::unordered_map<uint64_t, std::shared_ptr<Node>> by_node_;
  std::unordered_map<wire::FileId, std::shared_ptr<Node>> current_;
};

}  // namespace perigee::fuse
