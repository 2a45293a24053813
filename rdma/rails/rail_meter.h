#pragma once
// RailMeter: load, speed and state of one rail, in numbers. Not thread-safe: RailSet guards it.
//
// The rate is bytes over busy time, both summed over finished bulk calls with weights that fall
// exponentially with each newer one. Busy time of a call begins when it was sent or when the one
// before it finished, whichever is later, so that calls which share the rail do not count its time
// several times.

#include <cstdint>
#include <string>

#include "base/clock.h"

namespace perigee::rdma {

inline constexpr uint64_t kRailBulkBytes = 64 << 10;  // calls of this size go by rate, and tell it
inline constexpr Nanos kRailCoolDownMin = 1 * kSecond;
inline constexpr Nanos kRailCoolDownMax = 30 * kSecond;
inline constexpr Nanos kRailRateAgeMax = 10 * kSecond;  // an older rate says nothing

enum class RailState : uint8_t { kNew, kUp, kCooling };

class RailMeter {
 public:
  RailState state() const { return state_; }
  const std::string& problem() const { return problem_; }
  uint64_t bytes_in_flight() const { return bytes_in_flight_; }
  uint32_t calls_in_flight() const { return calls_in_flight_; }
  Nanos latency() const { return latency_; }
  Nanos last_answer() const { return last_answer_; }

  // It answered a probe after `latency`.
  void Up(Nanos latency);
  // Begins a cool-down, twice as long as the last one where nothing but probes was answered since.
  // False, and no change: one is going on.
  bool Cool(Nanos now, const std::string& why);
  // Whether it is to be probed.
  bool Rested(Nanos now) const { return state_ != RailState::kUp && now >= rests_until_; }

  void Begin(uint64_t bytes);
  void End(uint64_t bytes);  // whatever the call came to
  void Answered(Nanos now);
  void Moved(Nanos began, Nanos now, uint64_t bytes);  // a call that was answered well
  double Rate(Nanos now) const;                        // bytes a second; 0: not known

 private:
  RailState state_ = RailState::kNew;
  std::string problem_;
  Nanos cool_down_ = 0;  // the last one's length; 0: none since a call was answered
  Nanos rests_until_ = 0;
  uint64_t bytes_in_flight_ = 0;
  uint32_t calls_in_flight_ = 0;
  Nanos latency_ = 0;
  Nanos last_answer_ = 0;
  double bytes_ = 0, busy_s_ = 0;
  Nanos last_bulk_ = 0;
};

}  // namespace perigee::rdma
