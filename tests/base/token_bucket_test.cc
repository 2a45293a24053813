#include "base/token_bucket.h"

#include <doctest/doctest.h>

using namespace perigee;

TEST_CASE("a token bucket lets work run ahead by its burst, and then keeps it to the rate") {
  TokenBucket bucket(1000, kSecond);
  Nanos now = 50 * kSecond;
  CHECK(bucket.Take(500, now) == 0);
  CHECK(bucket.Take(500, now) == 0);
  CHECK(bucket.Take(1000, now) == kSecond);
  CHECK(bucket.Take(1000, now) == 2 * kSecond);
  // Time that passes pays; what was not used is not saved up.
  now += 100 * kSecond;
  CHECK(bucket.Take(1000, now) == 0);
  CHECK(bucket.Take(1000, now) == kSecond);
}

TEST_CASE("over a long time a token bucket gives its rate") {
  TokenBucket bucket(1 << 20);
  Nanos now = 0;
  uint64_t used = 0;
  while (used < 100 << 20) {
    used += 300'000;
    now += bucket.Take(300'000, now);
  }
  CHECK(now > 99 * kSecond);
  CHECK(now < 101 * kSecond);
}

TEST_CASE("a rate of nothing is the slowest there is, not a fault") {
  TokenBucket bucket(0);
  CHECK(bucket.Take(1, 0) > 0);
}
