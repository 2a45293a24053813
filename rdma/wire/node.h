#pragma once
// Storage nodes: processes with drives only (`perigee-objectd --join`), and the namespace node that
// they report to. And what a drive is asked over the network besides its shards
// (rdma/wire/shard.h).

#include <string_view>

#include "rdma/wire/meta.h"
#include "rdma/wire/shard.h"

namespace perigee::wire {

enum class StorageNodeState : uint8_t { kIn = 0, kDraining = 1, kDrained = 2, kRemoved = 3 };

constexpr std::string_view NameOf(StorageNodeState state) {
  switch (state) {
    case StorageNodeState::kIn:
      return "in";
    case StorageNodeState::kDraining:
      return "draining";
    case StorageNodeState::kDrained:
      return "drained";
    case StorageNodeState::kRemoved:
      return "removed";
  }
  return "unknown";  // of a newer peer
}

struct NodeDrive {
  uint64_t drive_id = 0;
  std::string dir;
  DriveState state = DriveState::kOnline;  // kOnline, kOffline or kLost
  std::string reason;                      // why not online, in words
  uint64_t total_bytes = 0, free_bytes = 0;
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.drive_id);
    v(2, s.dir);
    v(3, s.state);
    v(4, s.reason);
    v(5, s.total_bytes);
    v(6, s.free_bytes);
    v.Rest(s.unknown);
  }
};

// Each second, and as soon as a drive fails. Without drives: asks for the cluster's id, to format
// drives for it. -> NodeReportReply, once what is new of it is durable. kPreconditionFailed:
// another cluster's node, or one that was removed. kAlreadyExists: a drive of another node.
struct NodeReportRequest {
  NodeId node = 0;
  uint64_t cluster_id = 0;  // 0: in none yet
  std::string name;
  std::string address;  // on its own machine: "local:/run/perigee/objectd.sock"
  NodeDoors doors;
  std::vector<NodeDrive> drives;  // all it ever had
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.node);
    v(2, s.cluster_id);
    v(3, s.name);
    v(4, s.address);
    v(5, s.doors);
    v(6, s.drives);
    v.Rest(s.unknown);
  }
};
struct NodeReportReply {
  uint64_t cluster_id = 0;
  StorageNodeState state = StorageNodeState::kIn;
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.cluster_id);
    v(2, s.state);
    v.Rest(s.unknown);
  }
};

struct StorageNodeInfo {
  NodeId node = 0;  // 0: the namespace node itself
  std::string name;
  StorageNodeState state = StorageNodeState::kIn;
  bool heard = false;     // it reports
  int64_t since = 0;      // wall ns: heard since, or silent since
  std::string addresses;  // "tls:10.0.0.7:9002"
  uint32_t drives = 0, drives_online = 0;
  uint64_t total_bytes = 0, free_bytes = 0;
  uint32_t volumes = 0;      // with shards on its drives, or on their way to or from them
  std::string problem;       // in words: what is wrong, or what is going on
  int64_t repair_after = 0;  // wall ns: when its shards are rebuilt on others; 0: no need known
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.node);
    v(2, s.name);
    v(3, s.state);
    v(4, s.heard);
    v(5, s.since);
    v(6, s.addresses);
    v(7, s.drives);
    v(8, s.drives_online);
    v(9, s.total_bytes);
    v(10, s.free_bytes);
    v(11, s.volumes);
    v(12, s.problem);
    v(13, s.repair_after);
    v.Rest(s.unknown);
  }
};

struct NodeListReply {  // request: Empty
  std::vector<StorageNodeInfo>
      nodes;             // the namespace node first, the others by name; no removed ones
  std::string survives;  // "any 1 node, or any 2 drives"
  uint32_t moves = 0;    // volumes on their way to other drives
  uint32_t nodes_survived = 0, drives_survived = 0;  // how many may be lost, whichever they are
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.nodes);
    v(2, s.survives);
    v(3, s.moves);
    v(4, s.nodes_survived);
    v(5, s.drives_survived);
    v.Rest(s.unknown);
  }
};

enum class NodeAction : uint8_t {
  kDrain = 1,   // its shards move to the other nodes; new ones go elsewhere from now on
  kKeep = 2,    // no more of that; what has moved stays where it is
  kRemove = 3,  // forgets a node that holds nothing
  kRepair = 4,  // a lost one's shards are rebuilt on others at once, not after --repair-after
};

// -> StorageNodeInfo, durable. kNotFound: no such node. kPreconditionFailed: says what is in the
// way.
struct NodeChangeRequest {
  std::string node;  // its name, or its id in hex
  NodeAction action = NodeAction::kDrain;
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.node);
    v(2, s.action);
    v.Rest(s.unknown);
  }
};

// ---- drives of other nodes; errors and meaning as objectd/drive/drive.h ----

struct DriveListRequest {  // -> DriveListReply
  uint64_t drive_id = 0;
  BlobId first;
  uint32_t limit = 0;  // at most 4096
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.drive_id);
    v(2, s.first);
    v(3, s.limit);
    v.Rest(s.unknown);
  }
};
struct DriveListReply {
  std::vector<BlobId> blobs;
  std::vector<uint32_t> indexes;  // of each
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.blobs);
    v(2, s.indexes);
    v.Rest(s.unknown);
  }
};

struct ShardName {  // kDriveDelete -> Empty; kDriveReindex -> DriveCount, 1: it was changed
  uint64_t drive_id = 0;
  BlobId blob;
  uint32_t index = 0;
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.drive_id);
    v(2, s.blob);
    v(3, s.index);
    v.Rest(s.unknown);
  }
};

struct DriveAskRequest {  // kDriveBytes, kDriveMend -> DriveCount; kDriveAudit -> DriveAuditReply
  uint64_t drive_id = 0;
  uint32_t after = 0;  // kDriveAudit: the segment
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.drive_id);
    v(2, s.after);
    v.Rest(s.unknown);
  }
};
struct DriveCount {
  uint64_t count = 0;
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.count);
    v.Rest(s.unknown);
  }
};
struct DriveAuditReply {
  uint32_t segment = 0;
  uint64_t records = 0;
  DriveListReply unindexed;
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.segment);
    v(2, s.records);
    v(3, s.unindexed);
    v.Rest(s.unknown);
  }
};

}  // namespace perigee::wire
