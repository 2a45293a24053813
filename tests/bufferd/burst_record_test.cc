#include "bufferd/burst_record.h"

#include <doctest/doctest.h>

using namespace perigee;
using namespace perigee::bufferd;

namespace {

BurstRecord Sample() {
  BurstRecord r;
  r.burst = 5;
  r.id = 77;
  r.dir = 9;
  r.generation = 3;
  r.writer_generation = 4;
  r.state = wire::BurstState::kSealed;
  r.durability = wire::Durability::kLocal;
  r.home = Home::kBurst;
  r.size = 1000;
  r.mtime = 1700000000000000001;
  r.ctime = -2;
  r.synced_generation = 3;
  r.registered = true;
  r.boot = "b";
  r.resident = {0, 10, 20, 30};
  return r;
}

}  // namespace

TEST_CASE("a burst record has the bytes that the format says") {
  std::string stored = EncodeRecord(Sample());
  CHECK(HexEncode(stored) ==
        "50425231942547f40805104d18092003280430033801400148e807508280d0e2c6bfce972f5803600370018a01"
        "0162920104000a141e");
  auto back = DecodeRecord(stored);
  REQUIRE(back.ok());
  CHECK(EncodeRecord(*back) == stored);
  CHECK(back->resident == std::vector<uint64_t>{0, 10, 20, 30});
}

TEST_CASE("burst checksums have the bytes that the format says") {
  std::string stored =
      EncodeCrcs({.generation = 2, .size = kCrcBlockBytes + 5, .crcs = {0xdeadbeef, 1}});
  CHECK(HexEncode(stored) == "50424331cd0d0cd40802108580401a06effdb6f50d01");
  REQUIRE(DecodeCrcs(stored).ok());
}

TEST_CASE("every flipped bit of a stored record is noticed") {
  std::string stored = EncodeRecord(Sample());
  for (size_t i = 0; i < stored.size() * 8; ++i) {
    std::string bad = stored;
    bad[i / 8] = static_cast<char>(bad[i / 8] ^ (1 << (i % 8)));
    CHECK(!DecodeRecord(bad).ok());
  }
  for (size_t n = 0; n < stored.size(); ++n) CHECK(!DecodeRecord(stored.substr(0, n)).ok());
}

TEST_CASE("a record of a newer format is refused by name") {
  std::string stored = EncodeRecord(Sample());
  stored[3] = '2';
  auto r = DecodeRecord(stored);
  CHECK(r.code() == Code::kUnimplemented);
  CHECK(r.status().message().find("PBR2") != std::string::npos);
}

TEST_CASE("fields of a newer build survive a rewrite") {
  BurstRecord r = Sample();
  r.unknown.bytes = "\xfa\x06\x01x";  // field 111, length-delimited
  auto back = DecodeRecord(EncodeRecord(r));
  REQUIRE(back.ok());
  CHECK(back->unknown.bytes == r.unknown.bytes);
  CHECK(EncodeRecord(*back) == EncodeRecord(r));
}

TEST_CASE("checksums that do not cover their file are refused") {
  CHECK(DecodeCrcs(EncodeCrcs({.generation = 1, .size = kCrcBlockBytes + 1, .crcs = {1}})).code() ==
        Code::kCorrupt);
}
