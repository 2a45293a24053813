#pragma once
// BulkIn: the payloads that the peer of a connection has announced, until they are here and whole.
// Each waits for a buffer, first come, first served; then it is granted and received. One that is
// not wanted any more is drained: what was granted still comes, and goes nowhere.
//
// What is granted at a time is bounded, so that one peer cannot have the whole pool. Thread rule:
// loop-bound.

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>

#include "base/clock.h"
#include "rdma/tls/frame.h"
#include "rdma/transport.h"

namespace perigee::rdma::tls {

class BulkIn {
 public:
  // Bytes that came with the message wait for a buffer like announced ones: `here` then has them.
  Status Expect(uint64_t id, size_t bytes, uint32_t crc, std::string here);
  // The size of the buffer that is wanted next; nothing when none is, or may be yet.
  std::optional<size_t> Wanted() const;
  // Gives it. The id, and whether its bytes are here already (then Take it) or are to be granted.
  struct Started {
    uint64_t id = 0;
    bool here = false;
  };
  Started Start(Piece piece);

  // A piece that the peer is about to send. kCorrupt: not what was granted.
  Status BeginPiece(const FrameHeader& head);
  // Where the next bytes of payload `id` go; nullptr: nowhere.
  uint8_t* Place(uint64_t id);
  // They came. True when the payload is complete: Take it, unless it was drained.
  bool Received(uint64_t id, size_t bytes);
  // kCorrupt: its checksum is not the announced one.
  Result<Piece> Take(uint64_t id);

  enum class Dropped { kUnknown, kWaiting, kDraining };
  // Not wanted any more. What was granted is drained, until `until` at most.
  Dropped Drop(uint64_t id, Nanos until);
  // The peer will not send the rest. True: the payload was wanted.
  bool Withdrawn(uint64_t id);
  bool Overdue(Nanos now) const;
  void Clear();

 private:
  struct Payload {
    size_t bytes = 0;
    uint32_t crc = 0;
    std::string here;
    Piece piece;
    size_t received = 0;
    uint32_t crc_so_far = 0;
    bool granted = false;
    Nanos drain_until = 0;  // 0: wanted
  };
  void Erase(std::map<uint64_t, Payload>::iterator it);

  std::map<uint64_t, Payload> payloads_;
  std::deque<uint64_t> waiting_;
  size_t granted_bytes_ = 0;
};

}  // namespace perigee::rdma::tls
