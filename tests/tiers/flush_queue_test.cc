#include "tiers/flush/flush_queue.h"

#include <doctest/doctest.h>

using namespace perigee;
using tiers::FlushQueue;

namespace {

constexpr Nanos kStart = 100 * kSecond;

FlushQueue Queue(uint32_t in_flight_max = 2) {
  return FlushQueue({.linger = 2 * kSecond,
                     .in_flight_max = in_flight_max,
                     .retry_first = kSecond,
                     .retry_most = 4 * kSecond});
}

}  // namespace

TEST_CASE("a file starts when its linger is over, the one sealed first goes first") {
  FlushQueue q = Queue();
  q.Add(7, kStart + kSecond);
  q.Add(8, kStart);
  CHECK(!q.Next(kStart + 2 * kSecond - 1));
  CHECK(q.NextWake() == kStart + 2 * kSecond);
  CHECK(q.Next(kStart + 4 * kSecond) == 8u);
  CHECK(q.Next(kStart + 4 * kSecond) == 7u);
  CHECK(!q.Next(kStart + 4 * kSecond));
}

TEST_CASE("at most in_flight_max run at a time") {
  FlushQueue q = Queue(1);
  q.Add(1, kStart);
  q.Add(2, kStart);
  Nanos late = kStart + kSecond * 10;
  REQUIRE(q.Next(late) == 1u);
  CHECK(!q.Next(late));
  CHECK(!q.NextWake());
  q.Done(1);
  CHECK(q.Next(late) == 2u);
}

TEST_CASE("a forced file skips the linger but not a hold") {
  FlushQueue q = Queue();
  q.Add(1, kStart);
  q.Hold(true);
  q.Force(1);
  CHECK(!q.Next(kStart));
  CHECK(!q.NextWake());
  q.Hold(false);
  CHECK(q.Next(kStart) == 1u);
}

TEST_CASE("failures come back after doubling delays up to the most") {
  FlushQueue q = Queue();
  q.Add(1, kStart);
  Nanos now = kStart + 2 * kSecond;
  for (Nanos delay : {kSecond, 2 * kSecond, 4 * kSecond, 4 * kSecond}) {
    REQUIRE(q.Next(now) == 1u);
    q.Failed(1, now);
    CHECK(!q.Next(now + delay - 1));
    now += delay;
  }
  CHECK(q.Next(now) == 1u);
}

TEST_CASE("a removed file frees its slot and does not come back by Failed") {
  FlushQueue q = Queue(1);
  q.Add(1, kStart);
  q.Add(2, kStart);
  Nanos late = kStart + 5 * kSecond;
  REQUIRE(q.Next(late) == 1u);
  q.Remove(1);
  q.Failed(1, late);
  CHECK(q.waiting() == 1);
  CHECK(q.Next(late) == 2u);
  q.Done(2);
  CHECK(!q.Next(late + 100 * kSecond));
}

TEST_CASE("adding a file again does not start its linger anew") {
  FlushQueue q = Queue();
  q.Add(1, kStart);
  q.Add(1, kStart + kSecond);
  CHECK(q.Next(kStart + 2 * kSecond) == 1u);
}
