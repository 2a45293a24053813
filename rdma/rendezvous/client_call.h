#pragma once
// One call of a channel, from Call to its answer. Loop-bound once it is posted.

#include <memory>
#include <optional>
#include <string>

#include "rdma/rendezvous/loop.h"
#include "rdma/transport.h"

namespace perigee::rdma::rendezvous {

struct ClientCall {
  // Set before the call is posted, then constant.
  wire::Method method{};
  TrafficClass traffic = TrafficClass::kForeground;
  std::string header;
  ConstBytes bulk;
  uint32_t bulk_crc = 0;  // when it will be announced
  bool copy = false;      // it lies outside the pool
  Piece staging;          // the copy
  Nanos deadline = 0;
  Channel::Done done;

  uint64_t id = 0;  // while in flight
  Loop::TimerId timer = 0;
  bool finished = false;
  // The server may still fetch the bulk: the outcome is told when it does not any more.
  bool announced = false;
  std::optional<Result<Payload>> outcome;
};

}  // namespace perigee::rdma::rendezvous
