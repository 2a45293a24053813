#pragma once
// crc32c (Castagnoli, RFC 3720 appendix B.4), by ISA-L's crc32_iscsi. Thread-safe.

#include <cstdint>

#include "base/bytes.h"

namespace perigee {

// The standard finalised value: Crc32c("123456789") == 0xe3069283.
uint32_t Crc32c(ConstBytes data);
// Continues `crc`, a finalised value of the bytes before: Crc32cExtend(Crc32c(a), b) == Crc32c(a +
// b).
uint32_t Crc32cExtend(uint32_t crc, ConstBytes data);
// Of a + b, from those of both and the length of b, without the bytes.
uint32_t Crc32cConcat(uint32_t a, uint32_t b, uint64_t b_bytes);

}  // namespace perigee
