#include <doctest/doctest.h>

#include <algorithm>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/event.h"
#include "base/scheduler.h"

using namespace perigee;

// The order in which three tasks of three steps each run.
static std::string OrderOf(uint64_t seed) {
  auto scheduler = ManualScheduler::Create(seed);
  std::string order;
  for (char name : {'a', 'b', 'c'}) {
    REQUIRE(scheduler
                ->Post([&order, name] {
                  std::mutex mu;
                  CondVar never;
                  for (int step = 0; step < 3; ++step) {
                    order.push_back(name);
                    std::unique_lock lock(mu);
                    never.WaitFor(lock, 0);  // hands the turn on
                  }
                })
                .ok());
  }
  CHECK(scheduler->RunUntil([] { return false; }));
  return order;
}

TEST_CASE("the order of turns follows the seed") {
  CHECK(OrderOf(1).size() == 9);
  CHECK(OrderOf(1) == OrderOf(1));
  CHECK(OrderOf(5) == OrderOf(5));
  std::vector<std::string> orders;
  for (uint64_t seed = 1; seed <= 20; ++seed) orders.push_back(OrderOf(seed));
  std::sort(orders.begin(), orders.end());
  orders.erase(std::unique(orders.begin(), orders.end()), orders.end());
  CHECK(orders.size() > 10);
}

TEST_CASE("only one task runs at a time, so plain variables need no lock") {
  auto scheduler = ManualScheduler::Create(3);
  int inside = 0, most = 0;
  for (int i = 0; i < 20; ++i) {
    REQUIRE(scheduler
                ->Post([&] {
                  most = std::max(most, ++inside);
                  --inside;
                  Event().WaitFor(kMillisecond);
                  most = std::max(most, ++inside);
                  --inside;
                })
                .ok());
  }
  CHECK(scheduler->RunUntil(nullptr));
  CHECK(most == 1);
}

TEST_CASE("time jumps to the next timer or timeout, and stands still otherwise") {
  auto scheduler = ManualScheduler::Create(1);
  Nanos start = scheduler->clock().Monotonic();
  std::vector<std::pair<char, Nanos>> seen;
  auto mark = [&](char c) { seen.emplace_back(c, scheduler->clock().Monotonic() - start); };
  REQUIRE(scheduler
              ->Post([&] {
                Event never;
                mark(never.WaitFor(3 * kSecond) ? '!' : 'w');
              })
              .ok());
  scheduler->PostAfter(2 * kSecond, [&] { mark('t'); });
  scheduler->PostAfter(5 * kSecond, [&] { mark('u'); });
  REQUIRE(scheduler->Post([&] { mark('p'); }).ok());
  CHECK(scheduler->RunUntil(nullptr));
  CHECK(seen == std::vector<std::pair<char, Nanos>>{
                    {'p', 0}, {'t', 2 * kSecond}, {'w', 3 * kSecond}, {'u', 5 * kSecond}});
}

TEST_CASE("RunFor runs what is due within its time and leaves the clock exactly there") {
  auto scheduler = ManualScheduler::Create(1);
  Nanos start = scheduler->clock().Monotonic();
  int ticks = 0;
  std::function<void()> tick = [&] {
    ++ticks;
    scheduler->PostAfter(kSecond, tick);
  };
  scheduler->PostAfter(kSecond, tick);
  scheduler->RunFor(3500 * kMillisecond);
  CHECK(ticks == 3);
  CHECK(scheduler->clock().Monotonic() == start + 3500 * kMillisecond);
  scheduler->RunFor(500 * kMillisecond);
  CHECK(ticks == 4);
}

TEST_CASE("RunUntil stops as soon as its condition holds, between turns") {
  auto scheduler = ManualScheduler::Create(1);
  int ran = 0;
  for (int i = 0; i < 10; ++i) REQUIRE(scheduler->Post([&] { ++ran; }).ok());
  CHECK(scheduler->RunUntil([&] { return ran == 4; }));
  CHECK(ran == 4);
}

TEST_CASE("a notify hands a value from task to task, and one notify wakes one waiter") {
  auto scheduler = ManualScheduler::Create(9);
  std::mutex mu;
  CondVar changed;
  int tokens = 0, taken = 0;
  for (int i = 0; i < 5; ++i) {
    REQUIRE(scheduler
                ->Post([&] {
                  std::unique_lock lock(mu);
                  changed.Wait(lock, [&] { return tokens > 0; });
                  --tokens;
                  ++taken;
                })
                .ok());
  }
  REQUIRE(scheduler
              ->Post([&] {
                for (int i = 0; i < 5; ++i) {
                  std::lock_guard lock(mu);
                  ++tokens;
                  changed.NotifyOne();
                }
              })
              .ok());
  CHECK(scheduler->RunUntil(nullptr));
  CHECK(taken == 5);
}

TEST_CASE("a wait that is notified before its timeout says so and leaves no timer") {
  auto scheduler = ManualScheduler::Create(2);
  Nanos start = scheduler->clock().Monotonic();
  Event event;
  bool in_time = false;
  REQUIRE(scheduler->Post([&] { in_time = event.WaitFor(100 * kSecond); }).ok());
  scheduler->PostAfter(kSecond, [&] { event.Set(); });
  CHECK(scheduler->RunUntil(nullptr));
  CHECK(in_time);
  CHECK(scheduler->clock().Monotonic() == start + kSecond);
}

TEST_CASE("a deadlock is reported, and a notify of the driving thread ends it") {
  auto scheduler = ManualScheduler::Create(1);
  Event event;
  bool passed = false;
  REQUIRE(scheduler
              ->Post([&] {
                event.Wait();
                passed = true;
              })
              .ok());
  CHECK_FALSE(scheduler->RunUntil([&] { return passed; }));
  event.Set();
  CHECK(scheduler->RunUntil([&] { return passed; }));
}

TEST_CASE("a wait of the driving thread runs the tasks, in manual time") {
  auto scheduler = ManualScheduler::Create(1);
  Nanos start = scheduler->clock().Monotonic();
  Event reply, never;
  REQUIRE(scheduler
              ->Post([&] {
                Event().WaitFor(7 * kSecond);
                reply.Set();
              })
              .ok());
  CHECK_FALSE(reply.WaitFor(2 * kSecond));
  CHECK(scheduler->clock().Monotonic() == start + 2 * kSecond);
  reply.Wait();
  CHECK(scheduler->clock().Monotonic() == start + 7 * kSecond);
}

TEST_CASE("with nothing to run, the driving thread waits for other threads as usual") {
  auto scheduler = ManualScheduler::Create(1);
  Event reply;
  std::thread other([&] { reply.Set(); });
  CHECK(reply.WaitFor(60 * kSecond));
  other.join();
}

TEST_CASE("other threads may post and notify") {
  auto scheduler = ManualScheduler::Create(1);
  Event event;
  int ran = 0;
  REQUIRE(scheduler
              ->Post([&] {
                event.Wait();
                ++ran;
              })
              .ok());
  CHECK_FALSE(scheduler->RunUntil(nullptr));
  std::thread([&] {
    event.Set();
    scheduler->Post([&] { ++ran; }).Ignore();  // checked by what ran
  }).join();
  CHECK(scheduler->RunUntil(nullptr));
  CHECK(ran == 2);
}

TEST_CASE("destroying the scheduler unwinds tasks that wait for ever") {
  auto held = std::make_shared<int>(0);
  bool reached = false;
  {
    auto scheduler = ManualScheduler::Create(1);
    std::mutex mu;
    CondVar never;
    REQUIRE(scheduler
                ->Post([&, held] {
                  std::unique_lock lock(mu);
                  never.Wait(lock, [] { return false; });
                  reached = true;
                })
                .ok());
    CHECK_FALSE(scheduler->RunUntil(nullptr));
    CHECK(held.use_count() == 2);  // ours and the task's
  }
  CHECK_FALSE(reached);
  CHECK(held.use_count() == 1);
}

TEST_CASE("a task may be unwound after what it waited on is gone") {
  auto held = std::make_shared<int>(0);
  auto scheduler = ManualScheduler::Create(1);
  auto event = std::make_unique<Event>();
  REQUIRE(scheduler->Post([event = event.get(), held] { event->Wait(); }).ok());
  CHECK_FALSE(scheduler->RunUntil(nullptr));
  event.reset();
  CHECK_FALSE(scheduler->RunUntil(nullptr));
  scheduler.reset();
  CHECK(held.use_count() == 1);
}

TEST_CASE("tasks that wait for each other while they are unwound still end") {
  struct Goodbye {
    Event* say;
    Event* hear;
    int* count;
    ~Goodbye() {
      say->Set();
      hear->Wait();
      ++*count;
    }
  };
  int count = 0;
  Event a, b, never;
  auto scheduler = ManualScheduler::Create(1);
  REQUIRE(scheduler
              ->Post([&] {
                Goodbye g{&a, &b, &count};
                never.Wait();
              })
              .ok());
  REQUIRE(scheduler
              ->Post([&] {
                Goodbye g{&b, &a, &count};
                never.Wait();
              })
              .ok());
  CHECK_FALSE(scheduler->RunUntil(nullptr));
  scheduler.reset();
  CHECK(count == 2);
}

TEST_CASE("two manual schedulers of one thread keep their own time") {
  auto outer = ManualScheduler::Create(1);
  auto inner = ManualScheduler::Create(2);
  Nanos start = outer->clock().Monotonic();
  outer->PostAfter(kSecond, [] { Event().WaitFor(kSecond); });
  CHECK(outer->RunUntil(nullptr));
  CHECK(outer->clock().Monotonic() == start + 2 * kSecond);
  CHECK(inner->clock().Monotonic() == start);
  outer.reset();
  Event().WaitFor(kMillisecond);  // governed by the one that is left
}

TEST_CASE("thousands of tasks share few threads, and each sees its own turn") {
  auto scheduler = ManualScheduler::Create(11);
  int sum = 0;
  for (int i = 0; i < 5000; ++i) REQUIRE(scheduler->Post([&sum, i] { sum += i % 2; }).ok());
  CHECK(scheduler->RunUntil(nullptr));
  CHECK(sum == 2500);
}
