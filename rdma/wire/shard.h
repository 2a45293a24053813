#pragma once
// Volumes and shards, between blob writers and readers (client/blob, in bufferd and in objectd) and
// the drives.

#include <string_view>

#include "rdma/wire/record.h"

namespace perigee::wire {

enum class DriveState : uint8_t { kOnline = 0, kOffline = 1, kLost = 2, kRepairing = 3 };

constexpr std::string_view NameOf(DriveState state) {
  switch (state) {
    case DriveState::kOnline:
      return "online";
    case DriveState::kOffline:
      return "offline";
    case DriveState::kLost:
      return "lost";
    case DriveState::kRepairing:
      return "repairing";
  }
  return "unknown";  // of a newer peer
}

struct DriveInfo {
  uint64_t drive_id = 0;
  DriveState state = DriveState::kOnline;
  std::string dir;
  NodeId node = 0;
  std::string address;  // where its shards are reached, several by commas; empty: at objectd
  uint64_t total_bytes = 0, free_bytes = 0;
  std::string reason;  // why not online, in words
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.drive_id);
    v(2, s.state);
    v(3, s.dir);
    v(4, s.node);
    v(5, s.address);
    v(6, s.total_bytes);
    v(7, s.free_bytes);
    v(8, s.reason);
    v.Rest(s.unknown);
  }
};

// Shard i of every blob of the volume is on drives[i]. K data shards first, then M parity; or, for
// blobs below copy_bytes_max, M+1 whole copies on drives[0..M].
struct VolumeInfo {
  uint32_t volume = 0;
  uint32_t k = 0, m = 0;
  std::vector<uint64_t> drives;  // k+m ids
  bool writable = true;          // new blobs may go here
  uint64_t epoch = 0;            // grows when drives change
  uint64_t degraded_blobs = 0;   // known to miss shards
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.volume);
    v(2, s.k);
    v(3, s.m);
    v(4, s.drives);
    v(5, s.writable);
    v(6, s.epoch);
    v(7, s.degraded_blobs);
    v.Rest(s.unknown);
  }
};

struct VolumeMapReply {  // request: Empty
  uint64_t epoch = 0;
  std::vector<VolumeInfo> volumes;
  std::vector<DriveInfo> drives;
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.epoch);
    v(2, s.volumes);
    v(3, s.drives);
    v.Rest(s.unknown);
  }
};

// Reserves blob sequences for writing. The intent must be named by the commit that uses them,
// before it expires.
struct LeaseRequest {  // -> LeaseReply, durable
  uint32_t count = 1;
  NodeId node = 0;
  uint64_t spread = 0;       // picks the volume: equal values, equal volume while it stays writable
  uint64_t incarnation = 0;  // the node's, as it registered; 0: unknown
  std::vector<uint64_t> given_up;  // intents of this node that no commit will name
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.count);
    v(2, s.node);
    v(3, s.spread);
    v(4, s.incarnation);
    v(5, s.given_up);
    v.Rest(s.unknown);
  }
};
struct LeaseReply {
  uint64_t intent = 0;
  VolumeInfo volume;
  uint64_t first_seq = 0;
  uint32_t count = 0;
  int64_t expires = 0;  // wall ns; renew by leasing again and starting over
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.intent);
    v(2, s.volume);
    v(3, s.first_seq);
    v(4, s.count);
    v(5, s.expires);
    v.Rest(s.unknown);
  }
};

// Rows of a long extent list, written before the commit that uses it. list_id 0 makes a new list.
struct AddExtentsRequest {  // -> AddExtentsReply
  uint64_t list_id = 0;
  std::vector<Extent> extents;
  std::vector<uint64_t> intents;
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.list_id);
    v(2, s.extents);
    v(3, s.intents);
    v.Rest(s.unknown);
  }
};
struct AddExtentsReply {
  uint64_t list_id = 0;
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.list_id);
    v.Rest(s.unknown);
  }
};

struct BlobId {
  uint32_t volume = 0;
  uint64_t seq = 0;
  Unknown unknown;
  auto operator<=>(const BlobId& o) const {
    if (auto c = volume <=> o.volume; c != 0) return c;
    return seq <=> o.seq;
  }
  bool operator==(const BlobId& o) const { return volume == o.volume && seq == o.seq; }
  static void Fields(auto& s, auto& v) {
    v(1, s.volume);
    v(2, s.seq);
    v.Rest(s.unknown);
  }
};

// What a shard says of itself and of its blob; stored in its segment record.
// docs/formats/segment.md.
struct ShardHeader {
  BlobId blob;
  uint32_t index = 0;     // 0 … k+m-1
  uint32_t k = 0, m = 0;  // k = 1 with copies
  uint64_t blob_bytes = 0;
  uint32_t chunk_bytes = 0;          // of each chunk but the last stripe's, which may be shorter
  std::vector<uint32_t> chunk_crcs;  // crc32c of each chunk of this shard, in order
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.blob);
    v(2, s.index);
    v(3, s.k);
    v(4, s.m);
    v(5, s.blob_bytes);
    v(6, s.chunk_bytes);
    v(7, s.chunk_crcs);
    v.Rest(s.unknown);
  }
};

struct ShardWriteRequest {  // -> Empty; bulk: all chunks of the shard. On stable storage when it
                            // returns
  uint64_t drive_id = 0;
  ShardHeader shard;
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.drive_id);
    v(2, s.shard);
    v.Rest(s.unknown);
  }
};

// -> ShardReadReply; bulk: bytes [offset, offset+length) of the shard, unchecked: the reader checks
// whole chunks against the crcs (so ask for whole chunks). length 0: the header only. kNotFound:
// the drive has no such shard.
struct ShardReadRequest {
  uint64_t drive_id = 0;
  BlobId blob;
  uint32_t index = 0;
  uint64_t offset = 0;
  uint64_t length = 0;
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.drive_id);
    v(2, s.blob);
    v(3, s.index);
    v(4, s.offset);
    v(5, s.length);
    v.Rest(s.unknown);
  }
};
struct ShardReadReply {
  ShardHeader shard;
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.shard);
    v.Rest(s.unknown);
  }
};

// A reader or writer found shards missing or bad: repair looks at them. -> Empty
struct VolumeReportRequest {
  BlobId blob;
  std::vector<uint32_t> bad_shards;
  std::string reason;
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.blob);
    v(2, s.bad_shards);
    v(3, s.reason);
    v.Rest(s.unknown);
  }
};

}  // namespace perigee::wire
