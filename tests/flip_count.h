#pragma once
// How many flips a test makes: PERIGEE_FLIPS, or the suite's own number.

#include <cstdint>
#include <cstdlib>

namespace perigee {

inline uint64_t FlipCount(uint64_t otherwise) {
  const char* asked = std::getenv("PERIGEE_FLIPS");
  return asked ? std::strtoull(asked, nullptr, 10) : otherwise;
}

}  // namespace perigee
