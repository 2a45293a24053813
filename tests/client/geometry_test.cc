#include "client/blob/geometry.h"

#include <doctest/doctest.h>

using namespace perigee::client;

TEST_CASE("a full 4+2 blob is sixteen stripes of quarter mebibyte chunks") {
  CHECK(FullBlobBytes(4) == 16 << 20);
  CHECK(FullBlobBytes(1) == 4 << 20);
  CHECK(FullBlobBytes(16) == 64 << 20);
  Geometry g = Geometry::Of(FullBlobBytes(4), 4, 2);
  CHECK(g.stripes == 16);
  CHECK(g.last_chunk_bytes == kChunkBytes);
  CHECK(g.shard_bytes() == kShardBytesMax);
}

TEST_CASE("the last stripe's chunks share the rest, rounded up to 64 bytes") {
  Geometry g = Geometry::Of(1'200'001, 4, 2);
  CHECK(g.stripes == 2);
  CHECK(g.last_chunk_bytes == 37888);
  CHECK(g.shard_bytes() == 300032);
  CHECK(g.ChunkBytes(0) == kChunkBytes);
  CHECK(g.ChunkBytes(1) == 37888);
  CHECK(g.ChunkOffset(1) == kChunkBytes);
  CHECK(g.StripeOffset(1) == 1 << 20);
}

TEST_CASE("blobs below the limit are copies, from the limit on they are striped") {
  Geometry below = Geometry::Of(kCopyBytesMax - 1, 4, 2);
  CHECK(below.k == 1);
  CHECK(below.m == 2);
  CHECK(below.stripes == 1);
  CHECK(below.last_chunk_bytes == 65536);
  Geometry at = Geometry::Of(kCopyBytesMax, 4, 2);
  CHECK(at.k == 4);
  CHECK(at.last_chunk_bytes == 16384);
  CHECK(Geometry::Of(1, 4, 2).shard_bytes() == 64);
  CHECK(Geometry::Of(0, 4, 2).shard_bytes() == 0);
}

TEST_CASE("every length fits its shards, with less than a line of padding per chunk") {
  for (uint32_t k : {1u, 2u, 3u, 4u, 7u, 16u}) {
    for (uint64_t bytes = 1; bytes <= FullBlobBytes(k); bytes += 7 + bytes / 3) {
      Geometry g = Geometry::Of(bytes, k, 1);
      uint64_t stored = g.shard_bytes() * g.k;
      REQUIRE(stored >= bytes);
      REQUIRE(stored < bytes + 65 * g.k);
      REQUIRE(g.shard_bytes() <= kShardBytesMax);
      REQUIRE(g.last_chunk_bytes % 64 == 0);
      REQUIRE(g.last_chunk_bytes <= kChunkBytes);
    }
  }
}
