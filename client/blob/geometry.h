#pragma once
// Blob geometry: which bytes of a blob lie in which chunk of which shard. Pure functions; format:
// docs/formats/blob.md.
//
// A blob of `bytes` in profile K+M is cut into stripes of K chunks of chunk_bytes (kChunkBytes; the
// last stripe's chunks are all shorter and equal: the rest divided by K, rounded up to 64 bytes,
// zero-padded). Shard i is chunk i of every stripe, one after the other. Blobs below kCopyBytesMax
// are kept whole, as M+1 copies (k = 1).

#include <cstdint>
#include <vector>

namespace perigee::client {

inline constexpr uint32_t kChunkBytes = 256 << 10;
inline constexpr uint64_t kCopyBytesMax = 64 << 10;
inline constexpr uint64_t kShardBytesMax = 4 << 20;  // one bulk payload
inline constexpr uint64_t kBlobBytesMax = 64 << 20;

struct Geometry {
  uint32_t k = 1, m = 0;  // as stored: k = 1 for copies
  uint64_t blob_bytes = 0;
  uint32_t chunk_bytes = 0;  // of full stripes
  uint32_t stripes = 0;
  uint32_t last_chunk_bytes = 0;  // of the last stripe

  // Of a blob of that length in a volume of profile k+m.
  static Geometry Of(uint64_t blob_bytes, uint32_t k, uint32_t m);
  uint64_t shard_bytes() const {
    return stripes == 0 ? 0 : uint64_t{stripes - 1} * chunk_bytes + last_chunk_bytes;
  }
  uint32_t ChunkBytes(uint32_t stripe) const {
    return stripe + 1 == stripes ? last_chunk_bytes : chunk_bytes;
  }
  uint64_t ChunkOffset(uint32_t stripe) const {
    return uint64_t{stripe} * chunk_bytes;
  }  // in the shard
  uint64_t StripeOffset(uint32_t stripe) const {
    return uint64_t{stripe} * chunk_bytes * k;
  }  // in the blob
};

// Bytes of a full blob for this profile: k * kShardBytesMax, at most kBlobBytesMax.
uint64_t FullBlobBytes(uint32_t k);
inline constexpr uint64_t kFullBlobBytesMin = kShardBytesMax;  // k = 1

}  // namespace perigee::client
