#pragma once
// Objects as erasure-coded blobs: writing a stream into blobs, reading any range of extents back.
//
// Writer: the caller appends bytes; full blobs are encoded and their shards sent to their drives in
// parallel, with at most `blobs_in_flight` at once, so memory is bounded. Finish returns the
// extents; they mean something only once a commit names them and the intents. A blob is written
// when all its shards are on stable storage, less drives that the volume map already records as not
// online, and never fewer than min(K+M, K+1). A volume that cannot take it: another lease. Reader:
// reads whole chunks, checks each crc32c, reconstructs from parity what is missing or bad, reports
// it, and gives only the asked range out: into memory, or to a sink. kCorrupt when fewer than K
// good chunks of a stripe exist; never wrong bytes. kUnavailable when drives that are away may have
// the rest, kNotFound when no shard of a blob exists (deleted meanwhile: look the object up again).
// A read does not wait for a drive that is late while others can replace it; its call may still run
// on the shard pool afterwards: stop that before the cluster goes. Thread rule: a writer belongs to
// one caller at a time; readers are thread-safe. Both block: run them on a Scheduler.

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/metrics.h"
#include "base/scheduler.h"
#include "client/blob/given_up_leases.h"
#include "client/blob/shard_io.h"

namespace perigee::client {

struct BlobIoDeps {
  Cluster* cluster = nullptr;
  Scheduler* shard_pool = nullptr;  // shards in parallel
  std::shared_ptr<rdma::SlabPool> slabs;
  metrics::Registry* metrics = nullptr;
  Clock* clock = nullptr;
  wire::NodeId node = 0;
  uint64_t incarnation = 0;                 // as the node registered; 0: unknown
  std::shared_ptr<GivenUpLeases> given_up;  // of this node; null: leases run out by themselves
};

struct WrittenObject {
  uint64_t bytes = 0;
  std::vector<wire::Extent> extents;  // inside, or empty when list_id is set
  uint64_t list_id = 0;
  std::vector<uint64_t> intents;  // the commit's conflict reads
};

class BlobWriter {
 public:
  struct Options {
    uint64_t size_hint = 0;  // 0: unknown
    uint32_t blobs_in_flight = 4;
    std::function<bool()> cancelled;  // asked between blobs; true: kCancelled
  };
  static std::unique_ptr<BlobWriter> Create(BlobIoDeps deps, Options options);
  virtual ~BlobWriter() = default;  // waits for what is in flight
  // Copies `data`. A failure is final.
  virtual Status Append(ConstBytes data) = 0;
  // Hands out the writer's own buffer, to read a file into without a copy: at most `want` bytes;
  // Commit what was filled.
  virtual Result<MutableBytes> Reserve(size_t want) = 0;
  virtual Status Commit(size_t filled) = 0;
  virtual Result<WrittenObject> Finish() = 0;
  // After Finish: no commit will name the object from now on. Its leases end with the node's next
  // lease; what a commit took stays. A writer that is destroyed without a successful Finish gives
  // up by itself.
  virtual void GiveUp() = 0;
};

// Takes a checked part of what is read: the bytes from `offset` of the object on, which are gone
// after the call. Called on the shard pool and on the reader's thread, for several parts at once. A
// part may come a second time, after its first call has returned: the second one counts, and so
// does nothing of a read that fails. A failure fails the read.
using BlobSink = std::function<Status(uint64_t offset, ConstBytes bytes)>;

class BlobReader {
 public:
  static std::unique_ptr<BlobReader> Create(BlobIoDeps deps);
  virtual ~BlobReader() = default;
  // Fills `out` with [offset, offset + out.size()) of the object that `layout` (kBlobs) and `size`
  // describe. kInvalidArgument when the range is not inside.
  virtual Status Read(const wire::Layout& layout, uint64_t size, uint64_t offset,
                      MutableBytes out) = 0;
  // The same, without memory for all of it. The sink has returned for good when ReadTo has.
  virtual Status ReadTo(const wire::Layout& layout, uint64_t size, uint64_t offset, uint64_t bytes,
                        const BlobSink& sink) = 0;
  // One blob, whole; for repair: `missing` shards are rebuilt. Geometry and crcs come from the
  // survivors.
  virtual Result<std::vector<ShardData>> Rebuild(const wire::VolumeInfo& volume, uint64_t seq,
                                                 const std::vector<uint32_t>& missing) = 0;
};

}  // namespace perigee::client
