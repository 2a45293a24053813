#pragma once
// TokenBucket: keeps background work to a rate. Work is done first and paid for afterwards, so that
// a single large item needs no tokens saved up for it. Time is an argument. Not thread-safe.
// Algorithm: generic cell rate algorithm (ITU-T I.371).

#include <algorithm>
#include <cstdint>

#include "base/clock.h"

namespace perigee {

class TokenBucket {
 public:
  // `burst`: how far ahead of its rate the work may run.
  explicit TokenBucket(uint64_t per_second, Nanos burst = 100 * kMillisecond)
      : per_second_(std::max<uint64_t>(1, per_second)), burst_(burst) {}

  // `n` were used by `now`. How long to rest before using more; 0: not at all.
  Nanos Take(uint64_t n, Nanos now) {
    const double cost =
        static_cast<double>(n) / static_cast<double>(per_second_) * static_cast<double>(kSecond);
    paid_at_ = std::max(paid_at_, now) + static_cast<Nanos>(cost);
    return std::max<Nanos>(0, paid_at_ - now - burst_);
  }

 private:
  uint64_t per_second_;
  Nanos burst_;
  Nanos paid_at_ = 0;  // when all that was used is within the rate
};

}  // namespace perigee
