// One suite for both implementations of the journal, and what power loss does to the one in memory.

#include "bufferd/burst_index.h"

#include <doctest/doctest.h>

#include "temp_dir.h"

using namespace perigee;
using namespace perigee::bufferd;

namespace {

std::vector<BurstRecord> AllOf(BurstIndex& index) {
  std::vector<BurstRecord> all;
  REQUIRE(index.ForEach([&](BurstRecord r) { all.push_back(std::move(r)); }).ok());
  return all;
}

BurstRecord Record(uint64_t burst, uint64_t generation) {
  BurstRecord r;
  r.burst = burst;
  r.id = 100 + burst;
  r.generation = generation;
  return r;
}

void Suite(BurstIndex& index) {
  REQUIRE(index.Put(Record(2, 1), Durable::kNo).ok());
  REQUIRE(index.Put(Record(300, 1), Durable::kYes).ok());
  REQUIRE(index.Put(Record(2, 5), Durable::kNo).ok());
  auto all = AllOf(index);
  REQUIRE(all.size() == 2);
  CHECK(all[0].burst == 2);  // in the order of their ids
  CHECK(all[0].generation == 5);
  CHECK(all[1].burst == 300);

  CHECK(index.GetCrcs(2).code() == Code::kNotFound);
  BurstCrcs crcs{.generation = 5, .size = kCrcBlockBytes + 1, .crcs = {7, 8}};
  REQUIRE(index.PutCrcs(2, crcs).ok());
  REQUIRE(index.GetCrcs(2).ok());
  CHECK(index.GetCrcs(2)->crcs == std::vector<uint32_t>{7, 8});

  REQUIRE(index.Remove(2).ok());
  REQUIRE(index.Remove(2).ok());  // and again
  CHECK(AllOf(index).size() == 1);
  CHECK(index.GetCrcs(2).code() == Code::kNotFound);

  CHECK(!index.GetValue("x")->has_value());
  REQUIRE(index.PutValue("x", std::string("a\0b", 3), Durable::kYes).ok());
  CHECK(**index.GetValue("x") == std::string("a\0b", 3));
  REQUIRE(index.Sync().ok());
}

}  // namespace

TEST_CASE("the index in memory keeps records, checksums and values") {
  MemIndex index;
  Suite(index);
}

TEST_CASE("the RocksDB index keeps records, checksums and values, and opens again with them") {
  TempDir dir;
  {
    auto index = OpenRocksIndex({.dir = dir / "index"});
    REQUIRE(index.ok());
    Suite(**index);
  }
  auto again = OpenRocksIndex({.dir = dir / "index"});
  REQUIRE(again.ok());
  CHECK(AllOf(**again).size() == 1);
  CHECK(**(*again)->GetValue("x") == std::string("a\0b", 3));
}

TEST_CASE("power loss takes the index in memory back to its last sync") {
  MemIndex index;
  REQUIRE(index.Put(Record(1, 1), Durable::kYes).ok());
  REQUIRE(index.Put(Record(1, 2), Durable::kNo).ok());
  index.Crash();
  REQUIRE(AllOf(index).size() == 1);
  CHECK(AllOf(index)[0].generation == 1);
}
