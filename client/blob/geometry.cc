#include "client/blob/geometry.h"

#include <algorithm>

#include "base/bytes.h"

namespace perigee::client {

namespace {
constexpr uint64_t kChunkAlign = 64;  // one cache line, and ISA-L's widest vector
}

Geometry Geometry::Of(uint64_t blob_bytes, uint32_t k, uint32_t m) {
  Geometry g;
  g.k = blob_bytes < kCopyBytesMax ? 1 : k;
  g.m = m;
  g.blob_bytes = blob_bytes;
  g.chunk_bytes = kChunkBytes;
  if (blob_bytes == 0) return g;
  uint64_t stripe_bytes = uint64_t{kChunkBytes} * g.k;
  g.stripes = static_cast<uint32_t>((blob_bytes + stripe_bytes - 1) / stripe_bytes);
  uint64_t rest = blob_bytes - (g.stripes - 1) * stripe_bytes;
  g.last_chunk_bytes = static_cast<uint32_t>(RoundUp((rest + g.k - 1) / g.k, kChunkAlign));
  return g;
}

uint64_t FullBlobBytes(uint32_t k) { return std::min(k * kShardBytesMax, kBlobBytesMax); }

}  // namespace perigee::client
