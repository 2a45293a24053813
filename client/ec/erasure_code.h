#pragma once
// Reed–Solomon erasure code over GF(2^8) with a Cauchy generator matrix, by ISA-L
// (gf_gen_cauchy1_matrix, ec_encode_data). K data chunks give M parity chunks; any K of the K+M
// chunks give the rest back. Immutable after build, thread-safe.

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/status.h"

namespace perigee::client {

inline constexpr uint32_t kDataShardsMax = 16;
inline constexpr uint32_t kParityShardsMax = 4;

class ErasureCode {
 public:
  // 1 <= k <= 16, 0 <= m <= 4, else kInvalidArgument. k = 1 is copies.
  static Result<std::shared_ptr<const ErasureCode>> Create(uint32_t k, uint32_t m);
  virtual ~ErasureCode() = default;
  virtual uint32_t k() const = 0;
  virtual uint32_t m() const = 0;
  // data: k chunks, parity: m chunks, each of chunk_bytes.
  virtual void Encode(size_t chunk_bytes, std::span<const uint8_t* const> data,
                      std::span<uint8_t* const> parity) const = 0;
  // present: exactly k indices (ascending) of chunks at hand, `chunks` in that order; wanted:
  // indices to compute into `out`. kInvalidArgument for bad indices.
  virtual Status Reconstruct(size_t chunk_bytes, std::span<const uint32_t> present,
                             std::span<const uint8_t* const> chunks,
                             std::span<const uint32_t> wanted,
                             std::span<uint8_t* const> out) const = 0;
};

}  // namespace perigee::client
