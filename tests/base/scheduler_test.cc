#include "base/scheduler.h"

#include <doctest/doctest.h>
#include <pthread.h>

#include <atomic>
#include <limits>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/event.h"

using namespace perigee;

// --- what any scheduler promises; the manual one is driven by the waits of the test thread ---

static std::unique_ptr<Scheduler> MakeScheduler(bool manual, uint32_t threads = 3) {
  if (manual) return ManualScheduler::Create(7);
  return CreateThreadPool({"test", threads, 64});
}

TEST_CASE("every scheduler runs what was posted, and Stop waits for it") {
  for (bool manual : {false, true}) {
    CAPTURE(manual);
    auto scheduler = MakeScheduler(manual);
    std::atomic<int> ran = 0;
    for (int i = 0; i < 50; ++i) REQUIRE(scheduler->Post([&] { ++ran; }).ok());
    scheduler->Stop();
    CHECK(ran == 50);
    CHECK(scheduler->Post([&] { ++ran; }).Is(Code::kCancelled));
    CHECK(scheduler->PostAfter(0, [&] { ++ran; }) == 0);
    CHECK(ran == 50);
  }
}

TEST_CASE("every scheduler fires timers in the order of their deadlines") {
  for (bool manual : {false, true}) {
    CAPTURE(manual);
    // One thread: several would start due timers in order and may still run them side by side.
    auto scheduler = MakeScheduler(manual, 1);
    Nanos start = scheduler->clock().Monotonic();
    std::mutex mu;
    std::vector<int> fired;
    Event done;
    auto fire = [&](int n) {
      std::lock_guard lock(mu);
      fired.push_back(n);
      if (fired.size() == 3) done.Set();
    };
    CHECK(scheduler->PostAfter(60 * kMillisecond, [&] { fire(3); }) != 0);
    scheduler->PostAfter(20 * kMillisecond, [&] { fire(1); });
    scheduler->PostAfter(40 * kMillisecond, [&] { fire(2); });
    done.Wait();
    CHECK(fired == std::vector<int>{1, 2, 3});
    CHECK(scheduler->clock().Monotonic() - start >= 60 * kMillisecond);
  }
}

TEST_CASE("a cancelled timer never fires, and its task is released") {
  for (bool manual : {false, true}) {
    CAPTURE(manual);
    auto scheduler = MakeScheduler(manual);
    auto held = std::make_shared<int>(0);
    Event done;
    auto id = scheduler->PostAfter(kSecond, [held] { ++*held; });
    CHECK(scheduler->Cancel(id));
    CHECK(held.use_count() == 1);
    CHECK_FALSE(scheduler->Cancel(id));
    auto fired = scheduler->PostAfter(kMillisecond, [&] { done.Set(); });
    done.Wait();
    CHECK_FALSE(scheduler->Cancel(fired));
    CHECK(*held == 0);
  }
}

TEST_CASE("Stop drops timers that are not due") {
  for (bool manual : {false, true}) {
    CAPTURE(manual);
    auto scheduler = MakeScheduler(manual);
    auto held = std::make_shared<int>(0);
    scheduler->PostAfter(3600 * kSecond, [held] { ++*held; });
    scheduler->Stop();
    CHECK(*held == 0);
    CHECK(held.use_count() == 1);
  }
}

// --- ThreadPool ---

TEST_CASE("a pool refuses what is beyond its bound, and only that") {
  auto pool = CreateThreadPool({"one", 1, 2});
  Event started, go;
  std::atomic<int> ran = 0;
  REQUIRE(pool->Post([&] {
                started.Set();
                go.Wait();
                ++ran;
              })
              .ok());
  started.Wait();
  CHECK(pool->Post([&] { ++ran; }).ok());
  CHECK(pool->Post([&] { ++ran; }).ok());
  CHECK(pool->Post([&] { ++ran; }).Is(Code::kBusy));
  go.Set();
  pool->Stop();
  CHECK(ran == 3);
}

TEST_CASE("timers fire on a pool whose thread was busy when they came due") {
  auto pool = CreateThreadPool({"one", 1, 1});
  Event go, both;
  std::atomic<int> fired = 0;
  REQUIRE(pool->Post([&] { go.Wait(); }).ok());
  for (int i = 0; i < 2; ++i)
    pool->PostAfter(0, [&] {
      if (++fired == 2) both.Set();
    });
  go.Set();
  CHECK(both.WaitFor(60 * kSecond));
}

TEST_CASE("a far timer does not keep tasks from an idle pool, nor a nearer timer") {
  auto pool = CreateThreadPool({"one", 1, 8});
  Event task, timer;
  pool->PostAfter(3600 * kSecond, [] {});
  pool->PostAfter(std::numeric_limits<Nanos>::max(), [] {});
  CHECK(pool->Post([&] { task.Set(); }).ok());
  CHECK(task.WaitFor(60 * kSecond));
  pool->PostAfter(kMillisecond, [&] { timer.Set(); });
  CHECK(timer.WaitFor(60 * kSecond));
}

TEST_CASE("tasks of a pool run at the same time, each on a thread of the pool's name") {
  auto pool = CreateThreadPool({"a-name-longer-than-15", 2, 8});
  std::mutex mu;
  CondVar changed;
  int inside = 0;
  std::atomic<int> met = 0;
  std::string name;
  for (int i = 0; i < 2; ++i) {
    REQUIRE(pool->Post([&] {
                  std::unique_lock lock(mu);
                  char own[16] = {};
                  pthread_getname_np(pthread_self(), own, sizeof own);
                  name = own;
                  ++inside;
                  changed.NotifyAll();
                  if (changed.WaitFor(lock, 60 * kSecond, [&] { return inside == 2; })) ++met;
                })
                .ok());
  }
  pool->Stop();
  CHECK(met == 2);
  CHECK(name == "a-name-longer-t");
}

// --- Event and CondVar on ordinary threads ---

TEST_CASE("an event wakes every waiter, stays set, and can be reset") {
  Event event;
  std::atomic<int> woken = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i)
    threads.emplace_back([&] {
      event.Wait();
      ++woken;
    });
  event.Set();
  for (auto& t : threads) t.join();
  CHECK(woken == 3);
  CHECK(event.IsSet());
  CHECK(event.WaitFor(0));
  event.Reset();
  CHECK_FALSE(event.WaitFor(kMillisecond));
}

TEST_CASE("any timeout may be passed") {
  Event event;
  std::thread setter([&] { event.Set(); });
  CHECK(event.WaitFor(std::numeric_limits<Nanos>::max()));
  setter.join();
  event.Reset();
  CHECK_FALSE(event.WaitFor(-5));
  CHECK_FALSE(event.WaitFor(std::numeric_limits<Nanos>::min()));
}
