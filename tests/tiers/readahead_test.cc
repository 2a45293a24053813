#include "tiers/prefetch/readahead.h"

#include <doctest/doctest.h>

using namespace perigee::tiers;

namespace {
constexpr uint64_t kMib = 1 << 20;
constexpr uint64_t kSize = 1024 * kMib;
}  // namespace

TEST_CASE("a sequential reader's window doubles up to the most") {
  Readahead r;
  uint64_t at = 0;
  uint64_t windows[8];
  for (uint64_t& w : windows) {
    FetchRange got = r.Ask(at, kMib, kSize);
    CHECK(got.begin <= at);
    CHECK(got.end >= at + kMib + r.window());
    w = r.window();
    at += kMib;
  }
  CHECK(windows[0] == Readahead::kFirst);
  CHECK(windows[1] == 2 * Readahead::kFirst);
  CHECK(windows[7] == Readahead::kMost);
}

TEST_CASE("a random reader gets what it asks for, rounded to units") {
  Readahead r;
  (void)r.Ask(0, 4096, kSize);
  FetchRange got = r.Ask(500 * kMib + 7, 4096, kSize);
  CHECK(got.begin == 500 * kMib);
  CHECK(got.end == 501 * kMib);
  CHECK(r.window() == 0);
}

TEST_CASE("no range goes beyond the end of the file") {
  Readahead r;
  FetchRange got = r.Ask(0, UINT64_MAX, 10);
  CHECK(got.begin == 0);
  CHECK(got.end == 10);
  got = r.Ask(10, 5, 10);
  CHECK(got.begin == 10);
  CHECK(got.end == 10);
}

TEST_CASE("an open waits only for what arrives in time") {
  CHECK(FillFitsWait(0, 1, 0));
  CHECK(FillFitsWait(100 * kMib, 200 * kMib, 500));
  CHECK(!FillFitsWait(101 * kMib, 200 * kMib, 500));
  CHECK(!FillFitsWait(1, 1000, 0));
}
