// One suite for both implementations of the journal, and what power loss does to the one in memory.

#include "bufferd/burst_index.h"

#include <doctest/doctest.h>

#include <filesystem>

#include "base/disk.h"
#include "bufferd/synced_mark.h"
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
  REQUIRE(index.PutValue("old", "1", Durable::kNo).ok());
  REQUIRE(index.ChangeValues({{"old", std::nullopt}, {"new", "2"}}, Durable::kYes).ok());
  CHECK(!index.GetValue("old")->has_value());
  CHECK(**index.GetValue("new") == "2");
  REQUIRE(index.Sync().ok());
}

}  // namespace

TEST_CASE(
    "the mark of what was synced is coded as documented, and one that is wrong says nothing") {
  TempDir dir;
  const std::string path = dir / "index.synced";
  auto disk = CreatePosixDisk();
  {
    auto mark = SyncedMark::Open(path);
    REQUIRE(mark.ok());
    CHECK((*mark)->sequence() == 0);
    (*mark)->Raise(0x0102);
    (*mark)->Raise(7);  // never down
    REQUIRE((*mark)->SetDamaged().ok());
  }
  std::string bytes = *ReadWholeFile(*disk, path, 100);
  REQUIRE(bytes.size() == SyncedMark::kBytes);
  CHECK(bytes.substr(0, 16) == std::string("PBSM\1\0\1\0\2\1\0\0\0\0\0\0", 16));
  CHECK((*SyncedMark::Open(path))->sequence() == 0x0102);
  CHECK((*SyncedMark::Open(path))->damaged());
  for (size_t at = 0; at < bytes.size(); ++at) {
    std::string flipped = bytes;
    flipped[at] ^= 0x10;
    REQUIRE(WriteFileAtomically(*disk, path, flipped).ok());
    CHECK((*SyncedMark::Open(path))->sequence() == 0);
    CHECK(!(*SyncedMark::Open(path))->damaged());
  }
}

TEST_CASE("an index that comes back with less than was synced says so until it is settled") {
  TempDir dir;
  auto disk = CreatePosixDisk();
  {
    auto index = OpenRocksIndex({.dir = dir / "index"});
    REQUIRE(index.ok());
    for (uint64_t b = 1; b <= 20; ++b) REQUIRE((*index)->Put(Record(b, 1), Durable::kYes).ok());
    CHECK(!(*index)->damaged());
  }
  for (const auto& entry : std::filesystem::directory_iterator(dir / "index")) {
    if (entry.path().extension() != ".log") continue;
    auto log = disk->Open(entry.path().string(), OpenMode::kReadWrite);
    REQUIRE(log.ok());
    uint64_t half = *(*log)->Size() / 2;
    uint8_t byte = 0;
    REQUIRE((*log)->ReadAt(half, {&byte, 1}).ok());
    byte ^= 1;
    REQUIRE((*log)->WriteAt(half, {&byte, 1}).ok());
  }
  for (int start = 0; start < 2; ++start) {
    auto index = OpenRocksIndex({.dir = dir / "index"});
    REQUIRE(index.ok());
    CHECK((*index)->damaged());
    if (start == 0) CHECK(AllOf(**index).size() < 20);
    // More than was lost is written before the second start.
    for (uint64_t b = 100; b <= 130; ++b) REQUIRE((*index)->Put(Record(b, 1), Durable::kYes).ok());
    if (start == 1) REQUIRE((*index)->SettleDamage().ok());
  }
  CHECK(!(*OpenRocksIndex({.dir = dir / "index"}))->damaged());
}

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
