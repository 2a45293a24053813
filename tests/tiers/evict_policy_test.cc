#include "tiers/flush/evict_policy.h"

#include <doctest/doctest.h>

using namespace perigee;
using namespace perigee::tiers;

TEST_CASE("nothing is evicted below the high watermark and above it down to the low one") {
  Watermarks marks = WatermarksOf(1000);
  CHECK(marks.high_bytes == 950);
  CHECK(marks.low_bytes == 850);
  CHECK(BytesToEvict(950, marks, 0) == 0);
  CHECK(BytesToEvict(951, marks, 0) == 101);
}

TEST_CASE("a full file system asks for what is missing, but for no more than there is") {
  Watermarks marks = WatermarksOf(1000);
  CHECK(BytesToEvict(500, marks, 200) == 200);
  CHECK(BytesToEvict(500, marks, 9000) == 500);
  CHECK(BytesToEvict(1000, marks, 20) == 150);
}

TEST_CASE("the files used longest ago go first until enough is freed") {
  std::vector<EvictCandidate> files = {{1, 40, 30}, {2, 50, 10}, {3, 60, 20}, {4, 70, 40}};
  CHECK(PickEvictions(files, 60) == std::vector<uint64_t>{2, 3});
  CHECK(PickEvictions(files, 50) == std::vector<uint64_t>{2});
  CHECK(PickEvictions(files, 0).empty());
  CHECK(PickEvictions(files, 10'000).size() == 4);
}

TEST_CASE("files used at the same time go in the order of their keys") {
  CHECK(PickEvictions({{9, 1, 5}, {3, 1, 5}}, 2) == std::vector<uint64_t>{3, 9});
}
