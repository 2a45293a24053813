#pragma once
// Puller: gets bulk into buffers of the pool, on one loop. It is the back-pressure and the guard
// against incast: a payload is pulled only when the pool has a buffer for it and no more than
// `bytes_max` are on their way; what must wait stays with its sender. Connections take turns, and
// none has more than a quarter of `bytes_max`, so that none with much to send holds up another. A
// peer that does not deliver what it announced loses its connection. Loop-bound.

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>

#include "base/clock.h"
#include "rdma/rendezvous/worker.h"
#include "rdma/slab_pool.h"

namespace perigee::rdma::rendezvous {

class Loop;

// A payload that has come along, or is announced; `bytes` long with this checksum.
struct Source {
  std::shared_ptr<Endpoint> endpoint;
  std::string copied;
  Announced announced;
  size_t bytes = 0;
  uint32_t crc = 0;
};

class Puller {
 public:
  // kDeadlineExceeded: no buffer came free in time. kCorrupt: not what the checksum says.
  // kUnavailable: the connection was lost.
  using Done = std::function<void(Result<Piece>)>;

  Puller(Loop* loop, std::string provider, std::shared_ptr<SlabPool> pool, uint64_t bytes_max);
  ~Puller();
  // `flow` is the connection's number. `done` may run before Pull returns.
  void Pull(uint64_t flow, Source source, Nanos deadline, Done done);
  // The connection is closed: what of it waits ends with kUnavailable.
  void Drop(uint64_t flow);
  void DropAll();

 private:
  struct Waiting {
    Source source;
    Done done;
    uint64_t timer = 0;
    uint64_t id = 0;
  };
  void Pump();
  bool StartNext();
  bool MayStart(uint64_t flow, size_t bytes) const;
  bool TakePiece(size_t bytes, Piece* piece);
  void Start(uint64_t flow, Waiting waiting, Piece piece);
  void Arrived(uint64_t flow, size_t bytes);
  void Expire(uint64_t flow, uint64_t id);

  Loop* const loop_;
  const std::string provider_;  // for the log
  const std::shared_ptr<SlabPool> pool_;
  const uint64_t bytes_max_;
  uint64_t bytes_pulling_ = 0;
  uint64_t next_id_ = 0;
  bool pumping_ = false;
  std::shared_ptr<bool> watching_;  // with whom the pool is to tell; shared with that callback
  std::unordered_map<uint64_t, std::deque<Waiting>> flows_;
  std::deque<uint64_t> turns_;                         // flows with something waiting
  std::unordered_map<uint64_t, uint64_t> pulling_of_;  // bytes on their way, by flow
};

}  // namespace perigee::rdma::rendezvous
