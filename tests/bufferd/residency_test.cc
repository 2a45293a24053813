#include "bufferd/residency.h"

#include <doctest/doctest.h>

#include "base/random.h"

using namespace perigee;
using namespace perigee::bufferd;

TEST_CASE("neighbouring ranges of one state are one range") {
  Residency r;
  r.Set({0, 10}, RangeState::kResident);
  r.Set({20, 30}, RangeState::kResident);
  CHECK(!r.Readable({0, 30}));
  r.Set({10, 20}, RangeState::kResident);
  CHECK(r.Readable({0, 30}));
  CHECK(r.Find({0, 100}, RangeState::kResident) == std::vector<ByteRange>{{0, 30}});
  CHECK(r.Find({0, 100}, RangeState::kAbsent) == std::vector<ByteRange>{{30, 100}});
}

TEST_CASE("filling is not readable, dirty is") {
  Residency r;
  r.Set({0, 10}, RangeState::kFilling);
  CHECK(!r.Readable({0, 10}));
  r.Set({0, 10}, RangeState::kDirty);
  CHECK(r.Readable({3, 10}));
  r.Change(RangeState::kDirty, RangeState::kResident);
  CHECK(r.Bytes(RangeState::kResident) == 10);
  CHECK(r.Bytes(RangeState::kDirty) == 0);
}

TEST_CASE("truncation makes everything beyond absent") {
  Residency r;
  r.Set({0, 100}, RangeState::kResident);
  r.Truncate(40);
  CHECK(r.Bytes(RangeState::kResident) == 40);
  CHECK(!r.Readable({39, 41}));
}

TEST_CASE("an empty range is readable anywhere") {
  Residency r;
  CHECK(r.Readable({5, 5}));
}

TEST_CASE("random changes agree with a byte map") {
  constexpr uint64_t kSeed = 4711, kBytes = 64;
  INFO("seed ", kSeed);
  Random random(kSeed);
  Residency r;
  RangeState model[kBytes] = {};
  for (int step = 0; step < 4000; ++step) {
    uint64_t a = random.Below(kBytes + 1), b = random.Below(kBytes + 1);
    ByteRange range{std::min(a, b), std::max(a, b)};
    auto state = static_cast<RangeState>(random.Below(4));
    r.Set(range, state);
    for (uint64_t i = range.begin; i < range.end; ++i) model[i] = state;
    for (uint8_t s = 0; s < 4; ++s) {
      bool found[kBytes] = {};
      uint64_t last = 0;
      for (const ByteRange& f : r.Find({0, kBytes}, static_cast<RangeState>(s))) {
        REQUIRE(f.begin < f.end);
        REQUIRE((f.begin > last || f.begin == 0));  // joined, in order
        last = f.end;
        for (uint64_t i = f.begin; i < f.end; ++i) found[i] = true;
      }
      for (uint64_t i = 0; i < kBytes; ++i)
        REQUIRE(found[i] == (model[i] == static_cast<RangeState>(s)));
    }
    uint64_t at = random.Below(kBytes);
    REQUIRE(r.Readable({at, at + 1}) == (model[at] >= RangeState::kResident));
  }
}
