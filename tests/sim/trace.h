#pragma once
// Trace: what happened in a run, line by line; its hash is the same whenever the seed is.

#include <deque>
#include <string>

#include "base/clock.h"

namespace perigee::sim {

class Trace {
 public:
  explicit Trace(const Clock& clock) : clock_(clock) {}
  void Add(const std::string& line) {
    std::string text = std::to_string(clock_.Monotonic() / kMicrosecond) + " us  " + line;
    for (char c : text) hash_ = (hash_ ^ static_cast<uint8_t>(c)) * 0x100000001b3;  // FNV-1a
    lines_.push_back(std::move(text));
  }
  uint64_t hash() const { return hash_; }
  const std::deque<std::string>& lines() const { return lines_; }

 private:
  const Clock& clock_;
  uint64_t hash_ = 0xcbf29ce484222325;
  std::deque<std::string> lines_;
};

}  // namespace perigee::sim
