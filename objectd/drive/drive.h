#pragma once
// Drive: one directory on a file system of its own, holding shards in segment files
// (docs/formats/segment.md).
//
//   <dir>/superblock   identity: cluster, drive id, format, the metadata mirrors' epoch
//   (superblock.h) <dir>/segments/    self-describing, 4 KiB-aligned records, appended; a shard is
//   on stable storage after one fdatasync
//                      that concurrent writers share
//   <dir>/index/       RocksDB: (blob, index) -> (segment, offset). A cache: rebuilt from the
//   segments <dir>/meta/        a mirror of the namespace, on some drives (objectd/kv)
//
// Delete punches a hole; a segment whose records are all dead is reused under a new generation. A
// write or sync error takes the drive offline for good in this process (kUnavailable from then on),
// never only the request. An existing directory without a superblock is never formatted by Open
// (kNotFound); Format does it on purpose. Thread-safe; blocks.

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/disk.h"
#include "base/metrics.h"
#include "base/scheduler.h"
#include "base/status.h"
#include "client/blob/shard_io.h"
#include "objectd/drive/background_turns.h"
#include "objectd/drive/drive_watch.h"
#include "objectd/drive/index_audit.h"
#include "objectd/drive/superblock.h"
#include "rdma/traffic_class.h"
#include "rdma/wire/shard.h"

namespace perigee::objectd {

struct DriveDeps {
  Disk* disk = nullptr;
  Scheduler* pool = nullptr;  // the index catches up, segments are reclaimed
  std::shared_ptr<rdma::SlabPool> slabs;
  metrics::Registry* metrics = nullptr;
  // Shared by all drives that are opened with these, of which some may be of one device.
  std::shared_ptr<DeviceTurns> turns = std::make_shared<DeviceTurns>();
  // Finds those that hang (guarded_drive.h). Null: calls wait for the device, however long.
  std::shared_ptr<DriveWatch> watch = nullptr;
};

struct DriveOptions {
  uint64_t segment_bytes = 256 << 20;
  uint64_t capacity_bytes = 0;  // 0: the file system's
  uint64_t index_memory_bytes = 16 << 20;
};

class Drive {
 public:
  // Makes superblock and folders in `dir` (made if absent; kAlreadyExists when it holds a
  // superblock).
  static Status Format(Disk& disk, const std::string& dir, const Superblock& superblock);
  // kNotFound: no such directory, or no superblock in it (a lost drive). kCorrupt, kUnimplemented
  // (newer format). kPreconditionFailed: of another cluster. Scans the segments' tails that the
  // index does not know yet.
  static Result<std::unique_ptr<Drive>> Open(const std::string& dir, uint64_t cluster_id,
                                             DriveOptions options, DriveDeps deps);
  virtual ~Drive() = default;

  virtual uint64_t id() const = 0;
  virtual const std::string& dir() const = 0;
  virtual bool online() const = 0;
  virtual std::string offline_reason() const = 0;
  // Offline until it has ended its calls, which nobody can do for it.
  virtual bool hangs() const { return false; }
  virtual Superblock superblock() const = 0;
  // Durable on return. The epoch may only grow.
  virtual Status WriteSuperblock(const Superblock& superblock) = 0;
  // As it is on the drive now. Errors of ReadSuperblock.
  virtual Result<Superblock> StoredSuperblock() = 0;

  // Replaces an older copy of the same shard. Durable on return. `lent`: the piece that `bytes` lie
  // in, when it may be a peer's memory; kUnavailable when that was taken back meanwhile. `traffic`:
  // of the call, where the drive is another node's. `owner` keeps `bytes` and `lent`: the call may
  // fail, and leave them to a device that hangs; without it a call that was begun does not return.
  virtual Status WriteShard(const wire::ShardHeader& header, ConstBytes bytes,
                            const rdma::Piece* lent = nullptr,
                            rdma::TrafficClass traffic = rdma::TrafficClass::kForeground,
                            std::shared_ptr<const void> owner = nullptr) = 0;
  // kNotFound; kCorrupt when the record's header fails its check. Bytes are not checked here (the
  // reader does).
  virtual Result<client::ShardData> ReadShard(
      const wire::ShardReadRequest& request,
      rdma::TrafficClass traffic = rdma::TrafficClass::kForeground) = 0;
  // The same into memory of the caller's, which is request.length bytes long. A drive of this node
  // waits for no transfer memory then.
  virtual Result<wire::ShardHeader> ReadShardInto(
      const wire::ShardReadRequest& request, MutableBytes to,
      rdma::TrafficClass traffic = rdma::TrafficClass::kForeground) = 0;
  virtual Status DeleteShard(const wire::BlobId& blob, uint32_t index) = 0;  // absent is ok
  // Blobs with shards here in [first, …), ascending, at most `limit`: for reconcile, collector,
  // fsck.
  virtual Result<std::vector<std::pair<wire::BlobId, uint32_t>>> ListShards(
      const wire::BlobId& first, size_t limit) = 0;
  // Payload bytes of all shards here, by the index.
  virtual Result<uint64_t> ShardBytes() = 0;
  virtual Result<SpaceInfo> Space() = 0;
  // For fsck (index_audit.h): the first segment behind `after` held against the index; and a
  // shard's index entry made anew where it does not lead to the shard: true when it was changed.
  virtual Result<SegmentAudit> AuditSegment(uint32_t after) = 0;
  virtual Result<bool> Reindex(const wire::BlobId& blob, uint32_t index) = 0;
  // Segment headers that rotted are written anew; how many. For scrub.
  virtual Result<uint32_t> MendHeaders() = 0;
  virtual void SetOffline(const std::string& reason) = 0;
  virtual void Stop() = 0;
};

}  // namespace perigee::objectd
