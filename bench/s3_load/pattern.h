#pragma once
// What the objects of a measurement hold: bytes that follow from an object's number alone, so that
// any client can check any object, and differ from one number to the next. Immutable after build.

#include <cstdint>
#include <string>
#include <string_view>

#include "base/random.h"

namespace perigee::bench {

class Pattern {
 public:
  explicit Pattern(size_t object_bytes) : bytes_(object_bytes + kShifts, '\0') {
    Random(1).Fill(bytes_.data(), bytes_.size());
  }
  std::string_view Of(uint64_t number) const {
    return std::string_view(bytes_).substr(number * kStep % kShifts, bytes_.size() - kShifts);
  }

 private:
  static constexpr size_t kShifts = 65536;
  static constexpr size_t kStep = 25969;  // odd: all shifts are used before one is used again

  std::string bytes_;
};

}  // namespace perigee::bench
