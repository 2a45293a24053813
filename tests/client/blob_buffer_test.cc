#include "client/blob/blob_buffer.h"

#include <doctest/doctest.h>

#include <algorithm>

#include "base/checksum.h"
#include "blob_fixture.h"

using namespace perigee;
using namespace perigee::client;

namespace {

std::shared_ptr<rdma::SlabPool> Pool(uint64_t bytes = 128 << 20) {
  auto pool = rdma::SlabPool::Create({.bytes_max = bytes});
  REQUIRE(pool.ok());
  return *pool;
}

std::shared_ptr<const ErasureCode> CodeOf(uint32_t k, uint32_t m) {
  auto code = ErasureCode::Create(k, m);
  REQUIRE(code.ok());
  return *code;
}

void Fill(BlobBuffer& buffer, const std::vector<uint8_t>& data, size_t run_max) {
  for (size_t at = 0; at < data.size();) {
    MutableBytes run = buffer.Free(std::min(run_max, data.size() - at));
    REQUIRE(!run.empty());
    std::copy_n(data.begin() + static_cast<ptrdiff_t>(at), run.size(), run.begin());
    buffer.Commit(run.size());
    at += run.size();
  }
}

// The shards by the book: chunk after chunk from the geometry, parity by a plain encode.
std::vector<std::vector<uint8_t>> ShardsByTheBook(const std::vector<uint8_t>& data,
                                                  const Geometry& g) {
  auto code = CodeOf(g.k, g.m);
  std::vector<std::vector<uint8_t>> shards(g.k + g.m);
  for (uint32_t s = 0; s < g.stripes; ++s) {
    const size_t bytes = g.ChunkBytes(s);
    std::vector<std::vector<uint8_t>> chunks(g.k + g.m, std::vector<uint8_t>(bytes));
    std::vector<const uint8_t*> in;
    std::vector<uint8_t*> out;
    for (uint32_t i = 0; i < g.k + g.m; ++i) {
      size_t at = g.StripeOffset(s) + i * bytes;
      size_t n = i < g.k && at < data.size() ? std::min(bytes, data.size() - at) : 0;
      std::copy_n(data.begin() + static_cast<ptrdiff_t>(n ? at : 0), n, chunks[i].begin());
      if (i < g.k)
        in.push_back(chunks[i].data());
      else
        out.push_back(chunks[i].data());
    }
    code->Encode(bytes, in, out);
    for (uint32_t i = 0; i < chunks.size(); ++i) {
      shards[i].insert(shards[i].end(), chunks[i].begin(), chunks[i].end());
    }
  }
  return shards;
}

bool Agrees(const BlobBuffer& buffer, const std::vector<uint8_t>& data) {
  const Geometry& g = buffer.geometry();
  auto expected = ShardsByTheBook(data, g);
  for (uint32_t i = 0; i < g.k + g.m; ++i) {
    ConstBytes shard = buffer.Shard(i);
    if (!std::equal(shard.begin(), shard.end(), expected[i].begin(), expected[i].end()))
      return false;
    if (buffer.Crcs(i).size() != g.stripes) return false;
    for (uint32_t s = 0; s < g.stripes; ++s) {
      if (buffer.Crcs(i)[s] != Crc32c(shard.subspan(g.ChunkOffset(s), g.ChunkBytes(s))))
        return false;
    }
  }
  return true;
}

}  // namespace

TEST_CASE("a blob of any length is laid out by its geometry, however it was filled") {
  auto pool = Pool();
  for (auto [k, m] : {std::pair{4u, 2u}, {1u, 2u}, {3u, 1u}, {2u, 0u}, {16u, 4u}}) {
    const size_t stripe = size_t{kChunkBytes} * k;
    for (size_t bytes : {size_t{1}, size_t{1000}, size_t{65535}, size_t{65536}, size_t{70001},
                         size_t{kChunkBytes}, size_t{kChunkBytes} + 1, stripe - 1, stripe,
                         stripe + 1, stripe + kChunkBytes * 3 / 2, 2 * stripe - 63}) {
      if (bytes > FullBlobBytes(k)) continue;
      CAPTURE(k);
      CAPTURE(bytes);
      BlobBuffer buffer(CodeOf(k, m));
      REQUIRE(buffer.TryGrow(*pool, bytes));
      std::vector<uint8_t> data = RandomBytes(bytes, bytes);
      Fill(buffer, data, bytes % 2 ? 50'001 : 1 << 20);
      buffer.Close();
      buffer.Encode();
      REQUIRE(Agrees(buffer, data));
      std::vector<uint8_t> back(bytes);
      buffer.CopyOut(0, back);
      REQUIRE(back == data);
      size_t from = bytes / 3;
      std::vector<uint8_t> part(bytes - from);
      buffer.CopyOut(from, part);
      REQUIRE(std::equal(part.begin(), part.end(), data.begin() + static_cast<ptrdiff_t>(from)));
    }
  }
}

TEST_CASE("a blob that grows keeps what it has") {
  auto pool = Pool();
  BlobBuffer buffer(CodeOf(4, 2));
  std::vector<uint8_t> data = RandomBytes(5'300'000, 3);
  size_t at = 0;
  for (size_t capacity : {size_t{65535}, size_t{1} << 20, size_t{4} << 20, size_t{16} << 20}) {
    REQUIRE(buffer.TryGrow(*pool, capacity));
    std::vector<uint8_t> next(
        data.begin() + static_cast<ptrdiff_t>(at),
        data.begin() + static_cast<ptrdiff_t>(std::min(capacity, data.size())));
    Fill(buffer, next, 1 << 20);
    at += next.size();
  }
  REQUIRE(at == data.size());
  buffer.Close();
  buffer.Encode();
  CHECK(Agrees(buffer, data));
}

TEST_CASE("a small blob takes one small piece, and nothing is taken when the pool is short") {
  auto pool = Pool(16 << 20);
  BlobBuffer small(CodeOf(4, 2));
  REQUIRE(small.TryGrow(*pool, 1000));
  CHECK(pool->BytesInUse() <= rdma::kPieceBytesMin);
  BlobBuffer large(CodeOf(4, 2));
  uint64_t before = pool->BytesInUse();
  CHECK(!large.TryGrow(*pool, 16 << 20));
  CHECK(large.capacity() == 0);
  CHECK(pool->BytesInUse() == before);
  CHECK(large.TryGrow(*pool, 1 << 20));
}

TEST_CASE("stored shards have the bytes that docs/formats/blob.md promises") {
  // Crcs from an independent implementation in Python.
  auto pool = Pool();
  std::vector<uint8_t> data(1'200'001);
  for (size_t i = 0; i < data.size(); ++i) {
    data[i] = static_cast<uint8_t>(i * 131 + (i >> 8) * 7 + (i >> 16) * 13);
  }
  BlobBuffer buffer(CodeOf(4, 2));
  REQUIRE(buffer.TryGrow(*pool, data.size()));
  Fill(buffer, data, 1 << 20);
  buffer.Close();
  buffer.Encode();
  const uint32_t golden[6][2] = {{0x086ceacf, 0x1146b9ca}, {0x9fa4383f, 0xb55fcd18},
                                 {0x7f7f2b17, 0xed449512}, {0xf9b04129, 0xfb8febc9},
                                 {0xd6d4e708, 0xecbff8af}, {0x5ff52645, 0x5fcb5d75}};
  for (uint32_t i = 0; i < 6; ++i) {
    CHECK(buffer.Shard(i).size() == 300032);
    CHECK(buffer.Crcs(i) == std::vector<uint32_t>{golden[i][0], golden[i][1]});
  }
  BlobBuffer copies(CodeOf(4, 2));
  REQUIRE(copies.TryGrow(*pool, 1000));
  Fill(copies, {data.begin(), data.begin() + 1000}, 1000);
  copies.Close();
  copies.Encode();
  for (uint32_t i = 0; i < 3; ++i) {
    CHECK(copies.Shard(i).size() == 1024);
    CHECK(copies.Crcs(i) == std::vector<uint32_t>{0x571fea86});
  }
}
