#include "tiers/prefetch/readahead.h"

#include <algorithm>

namespace perigee::tiers {

FetchRange Readahead::Ask(uint64_t offset, uint64_t length, uint64_t size) {
  if (offset >= size) return {size, size};
  uint64_t end = length > size - offset ? size : offset + length;
  // Readers of one file may be several threads a little apart, so "near" counts as sequential.
  bool sequential = offset <= next_ + kUnit && offset + kFirst >= next_;
  if (sequential)
    window_ = std::min(kMost, std::max(kFirst, window_ * 2));
  else
    window_ = 0;
  next_ = end;
  uint64_t begin = offset / kUnit * kUnit;
  uint64_t last = std::min(size, (end + kUnit - 1) / kUnit * kUnit);
  if (window_ != 0)
    last = window_ > size - std::min(size, end) ? size : std::max(last, end + window_);
  return {begin, last};
}

bool FillFitsWait(uint64_t missing, uint64_t bytes_per_second, uint64_t wait_ms) {
  if (missing == 0) return true;
  if (wait_ms == 0 || bytes_per_second == 0) return false;
  return static_cast<double>(missing) / static_cast<double>(bytes_per_second) * 1000.0 <=
         static_cast<double>(wait_ms);
}

}  // namespace perigee::tiers
