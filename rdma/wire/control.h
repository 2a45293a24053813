#pragma once
// Control and status, by each daemon's 0600 socket. Figures are now; counters since start.

#include "rdma/wire/burst.h"
#include "rdma/wire/node.h"

namespace perigee::wire {

struct PreflightItem {
  std::string name;    // "io_uring", "memlock", "passthrough", ...
  std::string state;   // "ok", "degraded", "refused"
  std::string detail;  // what is lost and how to mend it
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.name);
    v(2, s.state);
    v(3, s.detail);
    v.Rest(s.unknown);
  }
};

struct NamedCount {
  std::string name;
  uint64_t value = 0;
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.name);
    v(2, s.value);
    v.Rest(s.unknown);
  }
};

// How a daemon speaks to other machines.
struct NetworkInfo {
  std::string provider;  // "tls", "ucx"; empty: it does not
  std::string why;       // the provider was chosen, in words
  std::string listen;    // "tls:0.0.0.0:9002", with the port that was bound; several by commas
  std::vector<std::string> addresses;  // by which others reach it: "tls:10.0.0.1:9002"
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.provider);
    v(2, s.why);
    v(3, s.listen);
    v(4, s.addresses);
    v.Rest(s.unknown);
  }
};

// One of several ways to the same daemon (rdma/rails/rail_channel.h).
struct RailInfo {
  std::string address;
  std::string state;         // "new" (not tried yet), "up", "cooling down"
  std::string problem;       // why it is not up, in words
  uint64_t bytes_per_s = 0;  // measured; 0: not of late
  uint64_t latency_ns = 0;   // of the probe that it last answered
  uint32_t calls_in_flight = 0;
  uint64_t bytes = 0;  // bulk, both ways
  uint64_t cool_downs = 0;
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.address);
    v(2, s.state);
    v(3, s.problem);
    v(4, s.bytes_per_s);
    v(5, s.latency_ns);
    v(6, s.calls_in_flight);
    v(7, s.bytes);
    v(8, s.cool_downs);
    v.Rest(s.unknown);
  }
};

// A daemon's connection to another one.
struct LinkInfo {
  std::string to;       // "objectd", "node 6f..."
  std::string address;  // with its provider: "tls:10.0.0.1:9002"; with rails several, by commas
  bool connected = false;
  int64_t since = 0;            // ns of the wall clock; 0: never
  std::string problem;          // why not, in words, where that is known
  bool refused = false;         // it answers, and will not have this node
  std::vector<RailInfo> rails;  // none where the address is one
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.to);
    v(2, s.address);
    v(3, s.connected);
    v(4, s.since);
    v(5, s.problem);
    v(6, s.refused);
    v(7, s.rails);
    v.Rest(s.unknown);
  }
};

struct ObjectdStatusReply {  // request: Empty
  uint64_t cluster_id = 0;
  std::string s3_address, admin_address;
  uint32_t k = 0, m = 0;
  std::vector<DriveInfo> drives;
  std::vector<VolumeInfo> volumes;
  uint64_t volumes_to_repair = 0, blobs_to_repair = 0, garbage_blobs = 0;
  bool repairing = false;
  std::string mirrors;  // in words: "3 of 3 in sync: d1 d2 d3"
  std::vector<PreflightItem> preflight;
  std::vector<NamedCount>
      counters;  // blob_bytes_written, blob_bytes_read, chunks_reconstructed, repairs, ...
  bool drives_share_file_system = false;
  std::string unhealthy;  // why nothing can be served; "" when well
  NetworkInfo network;
  std::vector<LinkInfo> links;  // to burst buffers of other nodes, then to storage nodes
  NodeListReply storage;        // nodes with drives, and what of them may be lost
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.cluster_id);
    v(2, s.s3_address);
    v(3, s.admin_address);
    v(4, s.k);
    v(5, s.m);
    v(6, s.drives);
    v(7, s.volumes);
    v(8, s.volumes_to_repair);
    v(9, s.blobs_to_repair);
    v(10, s.garbage_blobs);
    v(11, s.repairing);
    v(12, s.mirrors);
    v(13, s.preflight);
    v(14, s.counters);
    v(15, s.drives_share_file_system);
    v(16, s.unhealthy);
    v(17, s.network);
    v(18, s.links);
    v(19, s.storage);
    v.Rest(s.unknown);
  }
};

struct DriveReplaceRequest {  // -> DriveInfo. Formats `dir` (must be the directory of a lost drive)
                              // and starts repair
  std::string dir;
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.dir);
    v.Rest(s.unknown);
  }
};

struct RiskRow {
  Durability durability = Durability::kUnsynced;
  uint64_t files = 0, bytes = 0;
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.durability);
    v(2, s.files);
    v(3, s.bytes);
    v.Rest(s.unknown);
  }
};

struct BufferdStatusReply {  // request: Empty
  NodeId node = 0;
  std::string store_dir, admin_address;
  uint64_t budget_bytes = 0, used_bytes = 0, reserve_bytes = 0;
  uint64_t files = 0, dirty_files = 0;
  std::vector<RiskRow> at_risk;  // what is not yet in the object tier, by class
  int64_t oldest_unflushed_s = 0;
  bool flush_held = false;
  uint64_t flushing = 0, registered_later = 0;
  std::string objectd_transport;  // in words, with its state
  std::vector<PreflightItem> preflight;
  std::vector<NamedCount>
      counters;  // bytes_filled_blobs, bytes_flushed, opens_descriptor, opens_cached, evicted, ...
  std::vector<std::string>
      reported;  // versions that fell back or were lost, newest last, at most 64
  NetworkInfo network;
  std::vector<LinkInfo> links;  // to objectd, then to burst buffers of other nodes, and to drives
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.node);
    v(2, s.store_dir);
    v(3, s.admin_address);
    v(4, s.budget_bytes);
    v(5, s.used_bytes);
    v(6, s.reserve_bytes);
    v(7, s.files);
    v(8, s.dirty_files);
    v(9, s.at_risk);
    v(10, s.oldest_unflushed_s);
    v(11, s.flush_held);
    v(12, s.flushing);
    v(13, s.registered_later);
    v(14, s.objectd_transport);
    v(15, s.preflight);
    v(16, s.counters);
    v(17, s.reported);
    v(18, s.network);
    v(19, s.links);
    v.Rest(s.unknown);
  }
};

struct FuseStatusReply {  // request: Empty
  std::string mount;
  bool passthrough = false;
  std::string why;  // the mode, in words
  std::vector<NamedCount>
      counters;  // opens_passthrough, opens_cached, reads, read_bytes, writes, write_bytes, ...
  std::string admin_address;
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.mount);
    v(2, s.passthrough);
    v(3, s.why);
    v(4, s.counters);
    v(5, s.admin_address);
    v.Rest(s.unknown);
  }
};

}  // namespace perigee::wire
