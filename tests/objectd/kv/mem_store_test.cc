#include "objectd/kv/mem_store.h"

#include <doctest/doctest.h>

#include "base/scheduler.h"
#include "tests/objectd/kv/store_conformance.h"

namespace perigee::objectd::kv::testing {
namespace {

struct MemFixture {
  static constexpr int kModelSize = 60;
  std::unique_ptr<MemStore> store;
  Store& Open(uint64_t feed_events_kept) {
    store = MemStore::Create({.feed_events_kept = feed_events_kept});
    return *store;
  }
  Store& Reopen() {
    store->Crash();
    return *store;
  }
};

PERIGEE_STORE_CONFORMANCE(MemFixture);

TEST_CASE("a crash of the memory store drops what is not durable, keys and events") {
  auto store = MemStore::Create();
  PutNow(*store, "a", "1");
  REQUIRE(store->WaitDurable(EmitNow(*store, "durable")).ok());
  Position durable = store->DurablePosition();
  PutNow(*store, "a", "2");
  PutNow(*store, "b", "1");
  Position lost = EmitNow(*store, "lost");
  store->Crash();
  CHECK(GetNow(*store, "a") == "1");
  CHECK_FALSE(GetNow(*store, "b").has_value());
  CHECK(MustReadFeed(*store, durable).events.empty());
  CHECK(store->ReadFeed(lost, 10).status().Is(Code::kResync));
  CHECK(store->WaitDurable(lost).Is(Code::kUnavailable));
  CHECK(PutNow(*store, "c", "1") > lost);
}

TEST_CASE("a transaction that read what a crash took back runs again") {
  auto store = MemStore::Create();
  PutNow(*store, "a", "lost");
  int runs = 0;
  MustRun(*store, [&](Transaction& txn) -> Status {
    PERIGEE_ASSIGN(auto a, txn.Get("a", ReadMode::kSnapshot));
    if (++runs == 1) store->Crash();
    txn.Put("copy", a.value_or("none"));
    return Status::Ok();
  });
  CHECK(runs == 2);
  CHECK(GetNow(*store, "copy") == "none");
}

TEST_CASE("injected conflicts run closures again, at the rate asked for") {
  auto store = MemStore::Create();
  store->FailConflicts(3, 42);
  int runs = 0;
  for (int i = 0; i < 300; ++i) {
    MustRun(*store, [&](Transaction& txn) {
      ++runs;
      txn.AtomicAdd("n", 1);
      return Status::Ok();
    });
  }
  CHECK(GetNow(*store, "n") == Le64(300));
  CHECK(runs > 380);
  CHECK(runs < 560);
  store->FailConflicts(0, 0);
  CHECK(RunsWhile(*store, Reads("x", ReadMode::kConflict), [] {}) == 1);
}

TEST_CASE("held durability makes waiters wait, also as tasks of a manual scheduler") {
  auto sched = ManualScheduler::Create(7);
  auto store = MemStore::Create({.clock = &sched->clock()});
  store->HoldDurability(true);
  int durable = 0;
  for (int i = 0; i < 3; ++i) {
    REQUIRE(sched
                ->Post([&] {
                  if (store
                          ->RunDurable([](Transaction& txn) {
                            txn.AtomicAdd("n", 1);
                            return Status::Ok();
                          })
                          .ok())
                    ++durable;
                })
                .ok());
  }
  sched->RunFor(kSecond);
  CHECK(durable == 0);
  CHECK(store->DurablePosition() == 0);
  store->HoldDurability(false);
  CHECK(sched->RunUntil([&] { return durable == 3; }));
  CHECK(store->DurablePosition() == 3);
}

TEST_CASE("a transaction that runs longer than its limit is refused") {
  ManualClock clock;
  auto store = MemStore::Create({.clock = &clock});
  auto run = [&](Nanos takes) {
    return store
        ->Run([&](Transaction& txn) {
          txn.Put("k", "v");
          clock.Advance(takes);
          return Status::Ok();
        })
        .status()
        .code();
  };
  CHECK(run(5 * kSecond) == Code::kOk);
  CHECK(run(6 * kSecond) == Code::kTooLarge);
}

}  // namespace
}  // namespace perigee::objectd::kv::testing
