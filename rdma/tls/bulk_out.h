#pragma once
// BulkOut: the payloads that one side of a connection has announced, until they are sent. Each is
// offered, then granted by the receiver, then sent in pieces: by traffic class, and those of
// several payloads of one class in turn. Thread rule: loop-bound.

#include <cstdint>
#include <map>
#include <optional>
#include <set>

#include "base/clock.h"
#include "rdma/class_queue.h"
#include "rdma/transport.h"

namespace perigee::rdma::tls {

class BulkOut {
 public:
  explicit BulkOut(Nanos class_age) : turn_(class_age) {}
  // `keep` owns `data`, or is empty when the caller sees to that until the payload is dropped or
  // sent. After `until` it is overdue.
  void Offer(uint64_t id, TrafficClass traffic, ConstBytes data, Piece keep, Nanos until);
  // kCorrupt: nothing was offered under this id, or it was granted before.
  Status Grant(uint64_t id, Nanos now);
  // True when a grant had come, so that the receiver waits for the rest. Not offered: false.
  bool Drop(uint64_t id);
  // No grant can be on its way any more for what was dropped.
  void Forget(uint64_t id) { dropped_.erase(id); }

  struct Next {
    uint64_t id = 0;
    uint32_t offset = 0;
    ConstBytes bytes;
    TrafficClass traffic = TrafficClass::kForeground;
  };
  bool HasPiece() const { return !turn_.empty(); }
  std::optional<Next> TakePiece(Nanos now);
  // The piece taken last is with the socket.
  void PieceSent(uint64_t id);
  bool Overdue(Nanos now) const;
  void Clear();

 private:
  struct Payload {
    TrafficClass traffic;
    ConstBytes left;
    Piece keep;
    uint32_t offset = 0;
    bool granted = false;
    Nanos until = 0;
  };
  std::map<uint64_t, Payload> payloads_;
  ClassQueue<uint64_t> turn_;   // granted, with bytes left
  std::set<uint64_t> dropped_;  // before their grant
};

}  // namespace perigee::rdma::tls
