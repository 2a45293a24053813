#include "objectd/s3/patience.h"

#include <doctest/doctest.h>

namespace perigee::objectd::s3 {
namespace {

constexpr Patience::Limits kLimits{
    .timeout = 30 * kSecond, .pressed_timeout = 5 * kSecond, .rate_min = 100, .waiting_max = 2};

// Seconds until a client that sends `bytes` each second is let go; at most `most`.
int SecondsOf(const Patience& patience, uint64_t bytes, int most) {
  Patience::Debt debt;
  int seconds = 0;
  for (; seconds < most && patience.Left(debt) > 0; ++seconds) {
    debt.Wait(kSecond);
    patience.Pay(&debt, bytes);
  }
  return seconds;
}

TEST_CASE("silence ends at the timeout, a trickle soon after, and the least rate never") {
  Patience patience(kLimits);
  CHECK(SecondsOf(patience, 0, 1000) == 30);
  CHECK(SecondsOf(patience, 1, 1000) == 31);
  CHECK(SecondsOf(patience, 50, 1000) == 60);
  CHECK(SecondsOf(patience, 100, 1000) == 1000);
}

TEST_CASE("what was sent before a silence makes it no longer") {
  Patience patience(kLimits);
  Patience::Debt debt;
  patience.Pay(&debt, uint64_t{1} << 62);
  debt.Wait(29 * kSecond);
  CHECK(patience.Left(debt) == kSecond);
  debt.Wait(kSecond);
  CHECK(patience.Left(debt) <= 0);
}

TEST_CASE("patience is shorter while many wait") {
  Patience patience(kLimits);
  Patience::Waiting one(patience), two(patience);
  CHECK(SecondsOf(patience, 0, 1000) == 30);
  {
    Patience::Waiting three(patience);
    CHECK(patience.waiting() == 3);
    CHECK(SecondsOf(patience, 0, 1000) == 5);
  }
  CHECK(SecondsOf(patience, 0, 1000) == 30);
}

}  // namespace
}  // namespace perigee::objectd::s3
