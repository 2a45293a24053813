#pragma once
// The two CRCs of S3 that base/checksum.h does not have: crc32 (ISO-HDLC, as zlib) and crc64nvme
// (NVM Express Base 2.0, section 5.2.1.3.4; "CRC-64/NVME" in the RevEng catalogue), sixteen bytes a
// step by table; and joining the CRCs of two halves into that of the whole (the method of zlib's
// crc32_combine), for any of the three. Pure functions.

#include <cstdint>

#include "base/bytes.h"

namespace perigee::objectd::s3 {

// Finalised values; start with 0 and extend.
uint32_t Crc32Extend(uint32_t crc, ConstBytes data);
uint64_t Crc64NvmeExtend(uint64_t crc, ConstBytes data);

// The CRC of a + b, given theirs and the length of b.
uint32_t Crc32Combine(uint32_t a, uint32_t b, uint64_t b_bytes);
uint32_t Crc32cCombine(uint32_t a, uint32_t b, uint64_t b_bytes);
uint64_t Crc64NvmeCombine(uint64_t a, uint64_t b, uint64_t b_bytes);

}  // namespace perigee::objectd::s3
