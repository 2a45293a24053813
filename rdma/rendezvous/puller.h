#pragma once
// Puller: gets bulk into buffers of the pool, on one loop. It is the back-pressure and the guard
// against incast: a payload is pulled only when the pool has a buffer for it and no more than
// `bytes_max` are on their way; what must wait stays with its sender. Traffic classes go one before
// the other (see ClassQueue), and background ones leave an eighth of `bytes_max` to the others.
// Within a class connections take turns. None has more than a quarter of `bytes_max`, and no more
// than three quarters of that in background classes, so that none with much to send holds up
// another. A peer that does not deliver what it announced loses its connection. Loop-bound.

#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>

#include "base/clock.h"
#include "rdma/class_queue.h"
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

  Puller(Loop* loop, std::string provider, std::shared_ptr<SlabPool> pool, uint64_t bytes_max,
         Nanos class_age);
  ~Puller();
  // `flow` is the connection's number. `done` may run before Pull returns.
  void Pull(uint64_t flow, Source source, TrafficClass traffic, Nanos deadline, Done done);
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
  struct Lane {  // of one class
    std::unordered_map<uint64_t, std::deque<Waiting>> flows;
    std::deque<uint64_t> turns;  // the flows, all with something waiting
  };
  struct Pulled {
    uint64_t flow = 0;
    TrafficClass traffic = TrafficClass::kForeground;
    size_t bytes = 0;
  };
  struct OnTheWay {
    uint64_t bytes = 0;
    uint64_t background = 0;  // of them
    void Add(const Pulled& pulled);
    void Remove(const Pulled& pulled);
  };
  Lane& Of(TrafficClass traffic) { return lanes_[IndexOf(traffic)]; }
  void Pump();
  bool StartNext();
  std::optional<Pulled> Next() const;
  std::optional<Pulled> NextOf(TrafficClass traffic, std::set<uint64_t>* full) const;
  bool TakePiece(size_t bytes, Piece* piece);
  Waiting TakeWaiting(const Pulled& next);
  void Start(const Pulled& next, Waiting waiting, Piece piece);
  void Arrived(const Pulled& pulled);
  void Expire(uint64_t flow, TrafficClass traffic, uint64_t id);

  Loop* const loop_;
  const std::string provider_;  // for the log
  const std::shared_ptr<SlabPool> pool_;
  const uint64_t bytes_max_;
  OnTheWay pulling_;
  uint64_t next_id_ = 0;
  bool pumping_ = false;
  std::shared_ptr<bool> watching_;  // with whom the pool is to tell; shared with that callback
  std::array<Lane, kTrafficClasses> lanes_;
  ClassOrder order_;
  std::unordered_map<uint64_t, OnTheWay> pulling_of_;  // by flow
};

}  // namespace perigee::rdma::rendezvous
