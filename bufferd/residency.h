#pragma once
// Residency: which byte ranges of a burst file hold content. An interval map; ranges not mentioned
// are absent.
//
// kFilling: someone fetches them now. kResident: they hold the version's bytes, which exist
// elsewhere too. kDirty: they exist only here. Thread rule: not thread-safe; guarded by the burst
// file's lock.

#include <cstdint>
#include <map>
#include <vector>

namespace perigee::bufferd {

enum class RangeState : uint8_t { kAbsent = 0, kFilling = 1, kResident = 2, kDirty = 3 };

struct ByteRange {
  uint64_t begin = 0, end = 0;  // end exclusive
  uint64_t bytes() const { return end - begin; }
  bool operator==(const ByteRange&) const = default;
};

class Residency {
 public:
  void Set(ByteRange range, RangeState state);
  void Truncate(uint64_t size) { Set({size, UINT64_MAX}, RangeState::kAbsent); }
  void Clear() { ranges_.clear(); }
  void Change(RangeState from, RangeState to);  // everywhere

  bool Readable(ByteRange range) const;  // resident or dirty throughout; true for an empty range
  std::vector<ByteRange> Find(ByteRange within, RangeState state) const;
  uint64_t Bytes(RangeState state) const;

 private:
  struct Span {
    uint64_t end = 0;
    RangeState state = RangeState::kAbsent;
  };
  void SplitAt(uint64_t at);
  std::map<uint64_t, Span> ranges_;  // by begin; disjoint, none absent, equal neighbours joined
};

}  // namespace perigee::bufferd
