// The same drive on a real file system, with its RocksDB index.

#include <filesystem>

#include "objectd/drive/shard_index.h"
#include "tests/objectd/drive/posix_fixture.h"

namespace perigee::objectd {
namespace {

namespace fs = std::filesystem;

}  // namespace

TEST_CASE("large aligned shards go past the page cache and come back") {
  PosixDrive d(4 << 20);
  std::vector<TestShard> shards;
  for (size_t bytes :
       {size_t{65536}, size_t{65537}, size_t{1} << 20, (size_t{4} << 20) - 5, size_t{4} << 20})
    shards.push_back(MakeShard(1, bytes, 0, bytes));
  for (const TestShard& shard : shards)
    REQUIRE(d.drive->WriteShard(shard.header, shard.bytes.span()).ok());
  for (const TestShard& shard : shards) CHECK(Holds(*d.drive, shard));
  // A buffer that is not aligned takes the other path.
  TestShard odd = MakeShard(2, 1, 0, 200'000);
  AlignedBuffer shifted(200'008);
  std::copy_n(odd.bytes.data(), 200'000, shifted.data() + 8);
  REQUIRE(d.drive->WriteShard(odd.header, shifted.span().subspan(8)).ok());
  CHECK(Holds(*d.drive, odd));
}

TEST_CASE("the index is only a cache: without it, or with an old one, the segments tell all") {
  PosixDrive d(4 << 20);
  std::vector<TestShard> shards;
  for (uint64_t i = 0; i < 6; i++) shards.push_back(MakeShard(1, i, 0, 300'000));
  for (uint64_t i = 0; i < 3; i++)
    REQUIRE(d.drive->WriteShard(shards[i].header, shards[i].bytes.span()).ok());
  d.drive.reset();
  const std::string index = d.dir + "/index", old_index = d.root + "/old-index";
  fs::copy(index, old_index, fs::copy_options::recursive);
  d.Open();
  for (uint64_t i = 3; i < 6; i++)
    REQUIRE(d.drive->WriteShard(shards[i].header, shards[i].bytes.span()).ok());
  REQUIRE(d.drive->DeleteShard(shards[0].header.blob, 0).ok());
  d.drive.reset();

  SUBCASE("gone") { fs::remove_all(index); }
  SUBCASE("old") {
    fs::remove_all(index);
    fs::rename(old_index, index);
  }
  SUBCASE("of another drive") {
    fs::remove_all(index);
    auto other = OpenRocksIndex(index, 8);
    REQUIRE(other.ok());
    REQUIRE((*other)->Put({1, 99, 0}, {1, 2, 3, 4, 5}, {1, 2, 3}).ok());
  }
  SUBCASE("garbage") {
    for (const auto& entry : fs::directory_iterator(index))
      if (entry.path().filename().string().starts_with("MANIFEST"))
        fs::resize_file(entry.path(), 10);
  }
  d.Open();
  for (uint64_t i = 1; i < 6; i++) CHECK(Holds(*d.drive, shards[i]));
  // A punched record reads as zeros: whatever the index says, the shard is gone.
  CHECK(CodeOfRead(*d.drive, shards[0]) == Code::kNotFound);
}

TEST_CASE(
    "an index that cannot be read is reported and kept; one of which a file is missing is "
    "rebuilt") {
  PosixDrive d(4 << 20);
  d.drive.reset();
  const std::string index = d.dir + "/index", current = index + "/CURRENT",
                    aside = d.root + "/CURRENT";
  {
    auto open = OpenRocksIndex(index, 7);
    REQUIRE(open.ok());
    REQUIRE((*open)->Put({1, 99, 0}, {1, 2, 3, 4, 5}, {1, 2, 3}).ok());
  }
  fs::rename(current, aside);
  fs::create_directory(current);
  CHECK(OpenRocksIndex(index, 7).code() == Code::kIo);
  fs::remove(current);
  fs::rename(aside, current);
  {
    auto open = OpenRocksIndex(index, 7);
    REQUIRE(open.ok());
    auto found = (*open)->Find({1, 99, 0});
    REQUIRE(found.ok());
    CHECK(found->has_value());
  }
  for (const auto& entry : fs::directory_iterator(index))
    if (entry.path().filename().string().starts_with("MANIFEST")) fs::remove(entry.path());
  CHECK(OpenRocksIndex(index, 7).ok());
}

}  // namespace perigee::objectd
