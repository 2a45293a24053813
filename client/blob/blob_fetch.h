#pragma once
// BlobFetch: the chunks of one blob that somebody wants, however they can be had.
//
// Wanted chunks are read from their own shards while those drives are online; where one is missing
// or bad, as many others of its stripe as the code needs are read, online drives first, and the
// chunk is computed. A read that takes longer than such reads do (drive_pace.h) is late: others are
// read for it, and whichever comes first counts. Reads of one shard are one call. Every chunk's
// crc32c and every header's geometry is checked before a byte goes out.
//
// One caller drives it: Advance, wait for `idle`, calling LeaveLate at late_at, Advance, … The
// reads run on the pool. Wait for `idle` before destroying it: only late reads may outlive it, and
// they need the cluster.

#include <atomic>
#include <functional>
#include <limits>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/clock.h"
#include "client/blob/blob_io.h"
#include "client/blob/blob_metrics.h"
#include "client/blob/drive_pace.h"
#include "client/blob/geometry.h"
#include "client/blob/shard_io.h"
#include "client/ec/erasure_code.h"

namespace perigee::client {

class BlobFetch {
 public:
  static constexpr Nanos kNever = std::numeric_limits<Nanos>::max();
  struct Deps {
    Cluster* cluster = nullptr;
    DrivePace* pace = nullptr;
    Clock* clock = nullptr;
    const BlobMetrics* metrics = nullptr;
    // Called on the pool, in Advance, or in LeaveLate, each time a round of reads has ended.
    std::function<void(BlobFetch*)> round_ended;
    const BlobSink* sink = nullptr;  // of what is wanted without a place in memory
  };
  enum class Step { kReading, kDone, kFailed };

  // drives: of the volume, by shard index. `code` is for the blob as stored (k = 1: copies).
  BlobFetch(Deps deps, wire::BlobId blob, const Geometry& geometry, std::vector<uint64_t> drives,
            std::shared_ptr<const VolumeMap> map, std::shared_ptr<const ErasureCode> code);
  ~BlobFetch();

  // Bytes [begin, end) of a chunk shall go to `to`, or to the sink, as those from `offset` on.
  // Before the first Advance; a chunk once.
  void Want(uint32_t stripe, uint32_t shard, uint32_t begin, uint32_t end, uint8_t* to);
  void Want(uint32_t stripe, uint32_t shard, uint32_t begin, uint32_t end, uint64_t offset);
  // That shard is not to be read (repair makes it anew).
  void Avoid(uint32_t shard) { shards_[shard].usable = false; }

  // kReading: call again after round_ended. kFailed: see status().
  Step Advance();
  // When reads that still run are late, by the clock. For the driver, while it is not idle.
  Nanos late_at() const { return late_at_; }
  // Waits for those no longer.
  void LeaveLate();

  bool idle = true;  // the driver's, under its lock

  // kUnavailable when drives that are away may still have what is missing; else kCorrupt, or
  // kNotFound when no shard that was asked for exists.
  Status status() const { return status_; }
  // A drive that the map has as online did not serve: the map may be old.
  bool map_suspect() const { return map_suspect_; }
  uint64_t map_epoch() const { return map_epoch_; }
  // Tells the cluster about missing and bad shards, if there were any.
  void Report() const;

 private:
  enum class ChunkState : uint8_t { kUnknown, kReading, kGood, kBad };
  struct Chunk {
    ChunkState state = ChunkState::kUnknown;
    const uint8_t* data = nullptr;  // kGood
    uint8_t* to = nullptr;          // nullptr: the sink's
    uint64_t offset = 0;            // for the sink
    uint32_t begin = 0, end = 0;    // wanted
    bool wanted() const { return end != 0; }
  };
  // A read of a shard. The task has it, too, and may outlive the fetch once it is late.
  struct Reading {
    enum class State : uint8_t {
      kAwaited,
      kTaking,   // the task puts into the fetch what came
      kLate,     // nobody waits for it
      kArrived,  // late: the driver takes it
      kDropped,  // the fetch is gone
    };
    explicit Reading(wire::ShardReadRequest q) : request(std::move(q)) {}
    ~Reading() { outcome.status().Ignore(); }

    const wire::ShardReadRequest request;
    std::mutex mu;  // guards what follows
    State state = State::kAwaited;
    Result<ShardData> outcome = ShardData{};  // kArrived
  };
  struct Shard {
    bool usable = true;  // its drive may have it
    bool slow = false;   // its drive: others first
    bool late = false;   // its reading
    std::shared_ptr<Reading> reading;
    bool online = false;              // by the map
    uint32_t first = 0, last = 0;     // stripes of the read under way
    Status status;                    // of the last read
    Status refused;                   // by the sink
    bool bad = false;                 // to be reported
    std::vector<rdma::Piece> pieces;  // hold chunk data
    bool MayBeAsked() const { return usable && !late; }
  };

  void Want(uint32_t stripe, uint32_t shard, const Chunk& wanted);
  Status GiveOut(const Chunk& chunk, const uint8_t* data) const;
  Chunk& At(uint32_t stripe, uint32_t shard) { return chunks_[stripe * shards_.size() + shard]; }
  const Chunk& At(uint32_t stripe, uint32_t shard) const {
    return chunks_[stripe * shards_.size() + shard];
  }
  bool ReadMore();
  Step Finish();
  bool PlanStripe(uint32_t stripe);
  void MarkForRead(uint32_t stripe, uint32_t shard);
  void StartReading(uint32_t index);
  void Arrived(uint32_t index, Result<ShardData> data);
  void TakeArrived();
  bool AwaitLate();
  bool Lacks(uint32_t stripe) const;
  Status CheckReply(uint32_t index, const ShardData& data, uint64_t bytes) const;
  void TakeChunks(uint32_t index, rdma::Piece piece, const std::vector<uint32_t>& crcs);
  void GiveUpShard(uint32_t index, Status status);
  void ReadEnded();
  void JudgeShards();
  Status Reconstruct(uint32_t stripe);
  Status Shortage(uint32_t stripe, uint32_t good);

  const Deps deps_;
  const wire::BlobId blob_;
  const Geometry geometry_;
  const std::vector<uint64_t> drives_;
  const std::shared_ptr<const ErasureCode> code_;
  std::vector<uint32_t> preference_;  // shard indices, best first
  std::vector<Shard> shards_;
  std::vector<Chunk> chunks_;                      // by stripe, then shard
  uint32_t first_stripe_ = ~0u, last_stripe_ = 0;  // wanted
  const uint64_t map_epoch_;
  std::vector<AlignedBuffer> computed_;  // a stripe's chunks that go out in part or to the sink
  std::atomic<uint32_t> pending_ = 0;    // reads that are waited for
  Nanos late_at_ = kNever;
  bool map_suspect_ = false;
  Status status_;
};

}  // namespace perigee::client
