#include <doctest/doctest.h>

#include <algorithm>
#include <vector>

#include "base/bytes.h"
#include "base/random.h"
#include "client/ec/code_cache.h"
#include "client/ec/erasure_code.h"

using namespace perigee;
using namespace perigee::client;

namespace {

using Chunks = std::vector<std::vector<uint8_t>>;

Chunks Encoded(const ErasureCode& code, size_t bytes, uint64_t seed) {
  Random random(seed);
  Chunks chunks(code.k() + code.m(), std::vector<uint8_t>(bytes));
  std::vector<const uint8_t*> data;
  std::vector<uint8_t*> parity;
  for (uint32_t i = 0; i < code.k(); ++i) {
    random.Fill(chunks[i].data(), bytes);
    data.push_back(chunks[i].data());
  }
  for (uint32_t i = code.k(); i < chunks.size(); ++i) parity.push_back(chunks[i].data());
  code.Encode(bytes, data, parity);
  return chunks;
}

// Whether everything that `present` leaves out comes back.
bool ComesBack(const ErasureCode& code, const Chunks& chunks,
               const std::vector<uint32_t>& present) {
  std::vector<const uint8_t*> at_hand;
  for (uint32_t p : present) at_hand.push_back(chunks[p].data());
  std::vector<uint32_t> wanted;
  for (uint32_t i = 0; i < chunks.size(); ++i) {
    if (std::find(present.begin(), present.end(), i) == present.end()) wanted.push_back(i);
  }
  Chunks out(wanted.size(), std::vector<uint8_t>(chunks[0].size(), 0xcc));
  std::vector<uint8_t*> to;
  for (auto& o : out) to.push_back(o.data());
  if (!code.Reconstruct(chunks[0].size(), present, at_hand, wanted, to).ok()) return false;
  for (size_t w = 0; w < wanted.size(); ++w) {
    if (out[w] != chunks[wanted[w]]) return false;
  }
  return true;
}

}  // namespace

TEST_CASE("any K of the K+M chunks give the others back") {
  for (uint32_t k = 1; k <= 6; ++k) {
    for (uint32_t m = 0; m <= kParityShardsMax; ++m) {
      auto code = ErasureCode::Create(k, m);
      REQUIRE(code.ok());
      Chunks chunks = Encoded(**code, 192, k * 10 + m);
      int subsets = 0;
      for (uint32_t set = 0; set < (1u << (k + m)); ++set) {
        if (static_cast<uint32_t>(__builtin_popcount(set)) != k) continue;
        std::vector<uint32_t> present;
        for (uint32_t i = 0; i < k + m; ++i) {
          if (set >> i & 1) present.push_back(i);
        }
        ++subsets;
        if (!ComesBack(**code, chunks, present)) FAIL("k " << k << " m " << m << " set " << set);
      }
      CHECK(subsets > 0);
    }
  }
}

TEST_CASE("the widest profile survives random losses of M chunks") {
  auto code = ErasureCode::Create(kDataShardsMax, kParityShardsMax);
  REQUIRE(code.ok());
  Chunks chunks = Encoded(**code, 4096 + 64, 5);
  Random random(6);
  for (int round = 0; round < 400; ++round) {  // more sets than the decoder cache keeps
    std::vector<uint32_t> present(20);
    for (uint32_t i = 0; i < 20; ++i) present[i] = i;
    for (int lost = 0; lost < 4; ++lost) {
      present.erase(present.begin() + static_cast<ptrdiff_t>(random.Below(present.size())));
    }
    REQUIRE(ComesBack(**code, chunks, present));
  }
}

TEST_CASE("with K of one every parity chunk is a copy") {
  auto code = ErasureCode::Create(1, 2);
  REQUIRE(code.ok());
  Chunks chunks = Encoded(**code, 64, 9);
  CHECK(chunks[1] == chunks[0]);
  CHECK(chunks[2] == chunks[0]);
}

TEST_CASE("parity of 4+2 has the bytes of an independent implementation") {
  // Python: GF(2^8) with 0x11d, parity row r is 1 / (r xor column), r = 4, 5.
  auto code = ErasureCode::Create(4, 2);
  REQUIRE(code.ok());
  Chunks chunks(6, std::vector<uint8_t>(64));
  std::vector<const uint8_t*> data;
  for (uint32_t i = 0; i < 4; ++i) {
    for (uint32_t b = 0; b < 64; ++b) chunks[i][b] = static_cast<uint8_t>((i * 64 + b) * 7 + 3);
    data.push_back(chunks[i].data());
  }
  std::vector<uint8_t*> parity{chunks[4].data(), chunks[5].data()};
  (*code)->Encode(64, data, parity);
  CHECK(HexEncode(AsView(chunks[4])) ==
        "c1fcbb866615686f922f5255b588bb86417c4c719196eb9865621fa2427f3805"
        "b68bccf111611c1be695e8ef0f32cff235083b06e6e19cec11166b18f8c582bf");
  CHECK(HexEncode(AsView(chunks[5])) ==
        "e4d99ea343304d4ab7c7babd5d60536ea9946954b4b3cebd40473a4aaa97d0ed"
        "5e632419f944393ec3b0cdca2a17271adde0d3ee0e0974c934334e3ddde0a79a");
}

TEST_CASE("profiles and indices outside the code are refused") {
  CHECK(ErasureCode::Create(0, 1).code() == Code::kInvalidArgument);
  CHECK(ErasureCode::Create(17, 1).code() == Code::kInvalidArgument);
  CHECK(ErasureCode::Create(4, 5).code() == Code::kInvalidArgument);
  auto code = ErasureCode::Create(2, 1);
  REQUIRE(code.ok());
  std::vector<uint8_t> bytes(64), out(64);
  std::vector<const uint8_t*> two{bytes.data(), bytes.data()};
  std::vector<uint8_t*> to{out.data()};
  auto refused = [&](std::vector<uint32_t> present, std::vector<uint32_t> wanted) {
    return (*code)->Reconstruct(64, present, two, wanted, to).Is(Code::kInvalidArgument);
  };
  CHECK(refused({0}, {2}));
  CHECK(refused({0, 3}, {2}));
  CHECK(refused({1, 0}, {2}));
  CHECK(refused({1, 1}, {2}));
  CHECK(refused({0, 1}, {3}));
  CHECK(refused({0, 1}, {}));
  CHECK(!refused({0, 1}, {2}));
}

TEST_CASE("a code is built once per profile") {
  CodeCache cache;
  auto a = cache.Get(4, 2), b = cache.Get(4, 2), c = cache.Get(2, 2);
  REQUIRE((a.ok() && b.ok() && c.ok()));
  CHECK(a->get() == b->get());
  CHECK(a->get() != c->get());
  CHECK(cache.Get(40, 2).code() == Code::kInvalidArgument);
}
