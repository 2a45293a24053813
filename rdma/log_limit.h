#pragma once
// LogLimit: for events that strangers can cause: one line a period. Thread-safe.

#include <cstdint>
#include <mutex>
#include <optional>
#include <utility>

#include "base/clock.h"

namespace perigee::rdma {

class LogLimit {
 public:
  explicit LogLimit(Nanos period) : period_(period) {}
  // Nothing: leave this one out. Otherwise how many were left out since the line before.
  std::optional<uint64_t> Pass(Nanos now) {
    std::lock_guard lock(mu_);
    if (next_ && now < *next_) {
      ++left_out_;
      return std::nullopt;
    }
    next_ = now + period_;
    return std::exchange(left_out_, 0);
  }

 private:
  const Nanos period_;
  std::mutex mu_;  // guards what follows
  std::optional<Nanos> next_;
  uint64_t left_out_ = 0;
};

}  // namespace perigee::rdma
