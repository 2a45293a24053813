#include "rdma/class_pool.h"

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "base/event.h"

using namespace perigee;
using namespace perigee::rdma;

TEST_CASE("of the tasks that wait for a thread the higher class goes first") {
  auto pool = ManualScheduler::Create(1);
  auto by_class = ClassPool::Create(pool.get());
  std::string order;
  auto post = [&](TrafficClass traffic, char name) {
    REQUIRE(by_class->Post(traffic, [&order, name] { order += name; }).ok());
  };
  post(TrafficClass::kRepair, 'r');
  post(TrafficClass::kFlush, 'f');
  post(TrafficClass::kFlush, 'g');
  post(TrafficClass::kForeground, 'o');
  post(TrafficClass::kCheckpoint, 'c');
  pool->RunUntil([] { return false; });
  CHECK(order == "cofgr");
}

TEST_CASE("a full pool refuses a task, which never runs, and runs the others") {
  auto pool = CreateThreadPool({.name = "one", .threads = 1, .queue_max = 2});
  auto by_class = ClassPool::Create(pool.get());
  Event begun, go;
  std::string order;
  REQUIRE(by_class
              ->Post(TrafficClass::kForeground,
                     [&] {
                       begun.Set();
                       go.Wait();
                     })
              .ok());
  begun.Wait();
  CHECK(by_class->Post(TrafficClass::kFlush, [&] { order += 'f'; }).ok());
  CHECK(by_class->Post(TrafficClass::kRepair, [&] { order += 'r'; }).ok());
  CHECK(by_class->Post(TrafficClass::kCheckpoint, [&] { order += 'c'; }).Is(Code::kBusy));
  go.Set();
  pool->Stop();
  CHECK(order == "fr");
  CHECK(by_class->Post(TrafficClass::kForeground, [] {}).Is(Code::kCancelled));
}
