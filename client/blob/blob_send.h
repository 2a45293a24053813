#pragma once
// BlobSend: one closed blob on its way to one place. It is encoded and all its shards go out in
// parallel on the shard pool; nobody waits there. Once `done`, Judge says whether the blob is safe.
//
// Owned by one writer, whose lock guards `done`; the writer outlives the tasks.

#include <atomic>
#include <functional>
#include <memory>
#include <vector>

#include "base/scheduler.h"
#include "client/blob/blob_buffer.h"
#include "client/blob/lease_source.h"

namespace perigee::client {

class BlobSend {
 public:
  BlobSend(Cluster* cluster, BlobPlace place, std::unique_ptr<BlobBuffer> buffer, uint64_t offset);

  ~BlobSend();

  // Encodes, if need be, and sends the shards to drives that the map has not as gone. `finished`
  // runs once, on the pool or in this call, after the last shard has its outcome; the memory is
  // given back before when all are safe. `last_here` sends the last shard on the calling thread,
  // unless the blob is large enough to be encoded on the pool.
  void Start(Scheduler& pool, bool last_here, std::function<void()> finished);

  // After `finished`: ok when the blob counts as written by the rule in blob_io.h, else why not.
  Status Judge();

  // The same bytes to another place of the same profile.
  void MoveTo(BlobPlace place) { place_ = std::move(place); }

  const BlobPlace& place() const { return place_; }
  BlobBuffer& buffer() { return *buffer_; }
  uint64_t offset() const { return offset_; }  // in the object
  uint64_t bytes() const { return bytes_; }

  bool done = false;      // the writer's, under its lock
  uint32_t attempts = 0;  // the writer's

 private:
  enum class Fate : uint8_t { kSkipped, kSending, kSafe, kFailed };
  struct Shard {
    Fate fate = Fate::kSkipped;
    Status status;
  };

  Status Plan();
  void SendAll(Scheduler& pool, bool last_here);
  void Send(uint32_t index);
  void ShardEnded();
  uint32_t Needed() const;
  uint32_t Count(Fate fate) const;

  Cluster* const cluster_;
  BlobPlace place_;
  std::unique_ptr<BlobBuffer> buffer_;
  const uint64_t offset_;
  const uint64_t bytes_;
  const Geometry geometry_;
  std::vector<Shard> shards_;
  Status planned_;  // why nothing could be sent
  uint64_t map_epoch_ = 0;
  std::atomic<uint32_t> pending_ = 0;
  std::function<void()> finished_;
};

}  // namespace perigee::client
