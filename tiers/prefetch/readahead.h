#pragma once
// Readahead: how much beyond a demanded range of a cold file is worth fetching. Pure, per open
// file.
//
// A read that begins where the last one ended (or within its window) is sequential: the window
// doubles from kFirst to kMost. Anything else is random: the window shrinks to nothing, so that
// random readers of a huge file fetch what they ask for, rounded to kUnit. Thread rule: not
// thread-safe; the owner locks.

#include <cstdint>

namespace perigee::tiers {

struct FetchRange {
  uint64_t begin = 0, end = 0;
};

class Readahead {
 public:
  static constexpr uint64_t kUnit = 1 << 20;
  static constexpr uint64_t kFirst = 4 << 20;
  static constexpr uint64_t kMost = 64 << 20;

  // The range to have in flight for a read of [offset, offset+length) of a file of `size` bytes: it
  // covers the read.
  FetchRange Ask(uint64_t offset, uint64_t length, uint64_t size);
  uint64_t window() const { return window_; }

 private:
  uint64_t next_ = 0;  // where a sequential read would begin
  uint64_t window_ = 0;
};

// True when `missing` bytes at `bytes_per_second` arrive within `wait_ms`: worth waiting for at
// open.
bool FillFitsWait(uint64_t missing, uint64_t bytes_per_second, uint64_t wait_ms);

}  // namespace perigee::tiers
