#pragma once
// BulkIn: the payloads that the peer of a connection has announced, until they are here and whole.
// Each waits for a buffer, by its traffic class, first come, first served within one; then it is
// granted and received. One that is not wanted any more is drained: what was granted still comes,
// and goes nowhere.
//
// What is granted at a time is bounded, so that one peer cannot have the whole pool; background
// classes leave room for one payload of another. Thread rule: loop-bound.

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "base/clock.h"
#include "rdma/class_queue.h"
#include "rdma/tls/frame.h"
#include "rdma/transport.h"

namespace perigee::rdma::tls {

class BulkIn {
 public:
  explicit BulkIn(Nanos class_age) : waiting_(class_age) {}

  struct Announced {
    uint64_t id = 0;
    TrafficClass traffic = TrafficClass::kForeground;
    size_t bytes = 0;
  };
  // Bytes that came with the message wait for a buffer like announced ones: `here` then has them.
  Status Expect(const Announced& payload, std::string here, Nanos now);
  // The buffer that is wanted next; nothing when none is, or may be yet.
  struct Wants {
    TrafficClass traffic = TrafficClass::kForeground;
    size_t bytes = 0;
  };
  std::optional<Wants> Wanted(Nanos now) const;
  // Gives what Wanted has just said. The id, and whether its bytes are here already (then Take it)
  // or are to be granted.
  struct Started {
    uint64_t id = 0;
    bool here = false;
  };
  Started Start(const Wants& wanted, Piece piece, Nanos now);

  // A piece that the peer is about to send. kCorrupt: not what was granted.
  Status BeginPiece(const FrameHeader& head);
  TrafficClass TrafficOf(uint64_t id) const { return payloads_.at(id).announced.traffic; }
  // Where the next bytes of payload `id` go; nullptr: nowhere.
  uint8_t* Place(uint64_t id);
  // They came. True when the payload is complete: Take it, unless it was drained.
  bool Received(uint64_t id, size_t bytes);
  Piece Take(uint64_t id);

  enum class Dropped { kUnknown, kWaiting, kDraining };
  // Not wanted any more. What was granted is drained, until `until` at most.
  Dropped Drop(uint64_t id, Nanos until);
  // The peer will not send the rest. True: the payload was wanted.
  bool Withdrawn(uint64_t id);
  bool Overdue(Nanos now) const;
  void Clear();

 private:
  struct Payload {
    Announced announced;
    std::string here;
    Piece piece;
    size_t received = 0;
    bool granted = false;
    Nanos drain_until = 0;  // 0: wanted
  };
  void Erase(std::map<uint64_t, Payload>::iterator it);

  std::map<uint64_t, Payload> payloads_;
  ClassQueue<uint64_t> waiting_;
  size_t granted_bytes_ = 0;
};

}  // namespace perigee::rdma::tls
