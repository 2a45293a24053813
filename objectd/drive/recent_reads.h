#pragma once
// RecentReads: whether a place of a drive was read a short while ago.
//
// A read that comes once, of a checkpoint or by an epoch's pass, is best made past the page cache;
// what is read again, as a dataset that many nodes want, is best kept in memory. Remembers some
// kPlaces of the last reads in fixed memory and may be wrong both ways: that costs time only.
// Thread-safe, without locks.

#include <array>
#include <atomic>
#include <cstdint>

namespace perigee::objectd {

class RecentReads {
 public:
  static constexpr size_t kPlaces = 8192;

  // Remembers it. True when it was remembered already.
  bool Again(uint32_t segment, uint64_t offset) {
    uint64_t key = ((uint64_t{segment} << 36) ^ offset) + 1;  // 0: nothing
    key *= 0x9e3779b97f4a7c15;
    std::atomic<uint64_t>& place = places_[key >> 51];
    return place.exchange(key, std::memory_order_relaxed) == key;
  }

 private:
  static_assert(kPlaces == size_t{1} << (64 - 51));
  std::array<std::atomic<uint64_t>, kPlaces> places_{};
};

}  // namespace perigee::objectd
