#pragma once
// Credits: how many calls a connection may have in flight, and how many it has. An eighth, rounded
// up, is out of reach of background calls, so that with all of theirs taken others still leave at
// once. Thread rule: none of its own.

#include <cstddef>
#include <cstdint>

#include "base/status.h"
#include "rdma/traffic_class.h"

namespace perigee::rdma {

class Credits {
 public:
  explicit Credits(uint32_t granted = 0) : granted_(granted) {}

  bool Free(TrafficClass traffic) const {
    return taken_ < granted_ &&
           (!IsBackground(traffic) || background_ < BackgroundPlaces(granted_));
  }
  void Take(TrafficClass traffic) {
    ++taken_;
    if (IsBackground(traffic)) ++background_;
  }
  // The call is over, also for the server.
  void Give(TrafficClass traffic) {
    PERIGEE_CHECK(taken_ > 0);
    --taken_;
    if (IsBackground(traffic)) --background_;
  }

 private:
  uint32_t granted_;
  uint32_t taken_ = 0;
  uint32_t background_ = 0;
};

// Whether one more call may wait where `waiting` do, of at most `waiting_max` (at least one).
constexpr bool MayWait(TrafficClass traffic, size_t waiting, size_t waiting_max) {
  uint64_t places = waiting_max == 0 ? 1 : waiting_max;
  return waiting < (IsBackground(traffic) ? BackgroundPlaces(places) : places);
}

}  // namespace perigee::rdma
