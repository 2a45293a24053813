// Seeded flips and truncations of a drive's index and segments: a shard is read as it was written,
// or not at all; damage to the index alone costs nothing. PERIGEE_FLIPS is how many. And what fsck
// asks of a drive.

#include <filesystem>

#include "objectd/drive/shard_index.h"
#include "tests/flip_count.h"
#include "tests/objectd/drive/posix_fixture.h"

namespace perigee::objectd {
namespace {

namespace fs = std::filesystem;

struct Store : PosixDrive {
  Store() : PosixDrive(1 << 20) {}
  void Fill(size_t n) {
    for (size_t i = 0; i < n; i++) {
      shards.push_back(MakeShard(1, i, 0, 5'000 + 7'919 * i % 90'000));
      REQUIRE(drive->WriteShard(shards.back().header, shards.back().bytes.span()).ok());
    }
  }

  std::vector<TestShard> shards;
};

// A bit, or with one chance in six a tail.
std::string Damage(Disk& disk, const std::string& dir, Random& random) {
  std::vector<fs::path> paths;
  for (const auto& entry : fs::directory_iterator(dir))
    if (entry.is_regular_file() && entry.file_size() > 0 && entry.path().filename() != "LOG")
      paths.push_back(entry.path());
  std::sort(paths.begin(), paths.end());
  const fs::path path = paths[random.Below(paths.size())];
  const uint64_t size = fs::file_size(path);
  if (random.OneIn(6)) {
    fs::resize_file(path, random.Below(size));
    return path.string() + " cut";
  }
  auto file = disk.Open(path.string(), OpenMode::kReadWrite);
  REQUIRE(file.ok());
  const uint64_t at = random.Below(size);
  uint8_t byte = 0;
  REQUIRE((*file)->ReadAt(at, {&byte, 1}).ok());
  byte ^= static_cast<uint8_t>(1 << random.Below(8));
  REQUIRE((*file)->WriteAt(at, {&byte, 1}).ok());
  return path.string() + " at " + std::to_string(at);
}

}  // namespace

TEST_CASE("damage to the index costs nothing") {
  for (uint64_t seed = 1; seed <= FlipCount(25); seed++) {
    CAPTURE(seed);
    Random random(seed);
    Store s;
    s.Fill(20);
    if (random.OneIn(2)) s.Open();  // what is in the index is in tables, not in a log
    s.drive.reset();
    INFO(Damage(*s.disk, s.dir + "/index", random));
    s.Open();
    for (const TestShard& shard : s.shards) CHECK(Holds(*s.drive, shard));
  }
}

TEST_CASE("damage to segments is found, and never read as something else") {
  for (uint64_t seed = 1; seed <= FlipCount(25); seed++) {
    CAPTURE(seed);
    Random random(seed);
    Store s;
    s.Fill(20);
    s.drive.reset();
    INFO(Damage(*s.disk, s.dir + "/segments", random));
    if (random.OneIn(2)) fs::remove_all(s.dir + "/index");
    s.Open();
    for (const TestShard& shard : s.shards) {
      auto data = s.drive->ReadShard(ReadOf(shard));
      if (!data.ok()) {
        CHECK((data.code() == Code::kNotFound || data.code() == Code::kCorrupt));
        continue;
      }
      // Chunks are checked by the reader: against the crcs of a header that must be the right one.
      CHECK(data->header.chunk_crcs == shard.header.chunk_crcs);
    }
    TestShard another = MakeShard(2, seed, 1, 50'000);
    REQUIRE(s.drive->WriteShard(another.header, another.bytes.span()).ok());
    CHECK(Holds(*s.drive, another));
  }
}

TEST_CASE("a record that the index does not have is found segment by segment, and put back") {
  Store s;
  s.Fill(40);
  s.drive.reset();
  {
    auto index = OpenRocksIndex(s.dir + "/index", 7);
    REQUIRE(index.ok());
    REQUIRE((*index)->Delete({1, 17, 0}).ok());
  }
  s.Open();
  CHECK(CodeOfRead(*s.drive, s.shards[17]) == Code::kNotFound);
  std::vector<ShardKey> unindexed;
  uint64_t records = 0;
  for (uint32_t after = 0;;) {
    auto audit = s.drive->AuditSegment(after);
    REQUIRE(audit.ok());
    if (audit->segment == 0) break;
    REQUIRE(audit->segment > after);
    after = audit->segment;
    records += audit->records;
    unindexed.insert(unindexed.end(), audit->unindexed.begin(), audit->unindexed.end());
  }
  CHECK(records == 40);
  REQUIRE(unindexed.size() == 1);
  CHECK(unindexed[0] == ShardKey{1, 17, 0});
  auto changed = s.drive->Reindex({1, 17, {}}, 0);
  REQUIRE(changed.ok());
  CHECK(*changed);
  for (const TestShard& shard : s.shards) CHECK(Holds(*s.drive, shard));
  // What is right stays as it is, and nothing is made up.
  CHECK(*s.drive->Reindex({1, 17, {}}, 0) == false);
  CHECK(*s.drive->Reindex({1, 99, {}}, 0) == false);
  // Live again for its segment, too: deleting all gives all back, and new ones fit.
  for (const TestShard& shard : s.shards) REQUIRE(s.drive->DeleteShard(shard.header.blob, 0).ok());
  s.Open();
  for (const TestShard& shard : s.shards) CHECK(CodeOfRead(*s.drive, shard) == Code::kNotFound);
}

TEST_CASE("an index entry that leads to another record is mended without harm to that one") {
  Store s;
  s.Fill(10);
  s.drive.reset();
  {
    auto index = OpenRocksIndex(s.dir + "/index", 7);
    REQUIRE(index.ok());
    auto other = (*index)->Find({1, 4, 0});
    REQUIRE(other.ok());
    auto marks = (*index)->Marks();
    REQUIRE(marks.ok());
    REQUIRE((*index)->Put({1, 3, 0}, **other, marks->front()).ok());
    REQUIRE((*index)->Put({1, 77, 0}, **other, marks->front()).ok());  // of nothing
  }
  s.Open();
  CHECK(CodeOfRead(*s.drive, s.shards[3]) == Code::kNotFound);
  CHECK(*s.drive->Reindex({1, 3, {}}, 0));
  CHECK(*s.drive->Reindex({1, 77, {}}, 0));
  for (const TestShard& shard : s.shards) CHECK(Holds(*s.drive, shard));
  auto listed = s.drive->ListShards({}, 100);
  REQUIRE(listed.ok());
  CHECK(listed->size() == 10);
}

}  // namespace perigee::objectd
