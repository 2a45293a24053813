#include "rdma/class_queue.h"

#include <doctest/doctest.h>

#include <string>

#include "rdma/credits.h"

using namespace perigee;
using namespace perigee::rdma;

namespace {

constexpr auto kCheckpoint = TrafficClass::kCheckpoint;
constexpr auto kForeground = TrafficClass::kForeground;
constexpr auto kFlush = TrafficClass::kFlush;
constexpr auto kRepair = TrafficClass::kRepair;

std::string Take(ClassQueue<std::string>& queue, Nanos now) {
  auto traffic = queue.Next(now);
  return traffic ? queue.Pop(*traffic, now) : "";
}

}  // namespace

TEST_CASE("class queue: classes go in their order, and each first in, first out") {
  ClassQueue<std::string> queue(100);
  CHECK(queue.empty());
  queue.Push(kRepair, "r", 0);
  queue.Push(kFlush, "f1", 0);
  queue.Push(kFlush, "f2", 1);
  queue.Push(kForeground, "g", 2);
  queue.Push(kCheckpoint, "c1", 3);
  queue.Push(kCheckpoint, "c2", 3);
  CHECK(queue.size() == 6);
  std::string order;
  while (!queue.empty()) order += Take(queue, 10) + " ";
  CHECK(order == "c1 c2 g f1 f2 r ");
  CHECK(!queue.Next(10).has_value());
}

TEST_CASE("class queue: a class that waits rises by one each age, until it is served once") {
  ClassQueue<std::string> queue(100);
  queue.Push(kFlush, "f1", 0);
  queue.Push(kFlush, "f2", 0);
  queue.Push(kForeground, "g1", 150);
  queue.Push(kForeground, "g2", 150);
  CHECK(*queue.Next(199) == kForeground);  // flush counts as prefetch by now
  CHECK(*queue.Next(200) == kFlush);       // as foreground, and has waited longer
  CHECK(Take(queue, 200) == "f1");
  CHECK(Take(queue, 200) == "g1");  // a long queue of old ones is no reason
  queue.Push(kCheckpoint, "c", 499);
  CHECK(Take(queue, 500) == "g2");  // all count as the first by now
  CHECK(Take(queue, 500) == "f2");
  CHECK(Take(queue, 500) == "c");
  // A new one in a class that has been empty has not waited.
  queue.Push(kRepair, "r", 1000);
  queue.Push(kFlush, "f3", 1000);
  CHECK(Take(queue, 1000) == "f3");
}

TEST_CASE("class queue: nothing starves, and a backlog slows the class above it little") {
  ClassQueue<std::string> queue(100);
  for (int i = 0; i < 1000; ++i) queue.Push(kRepair, "r", 0);
  int checkpoints = 0, repairs = 0;
  for (Nanos now = 1; now <= 10'000; ++now) {
    queue.Push(kCheckpoint, "c", now);
    (Take(queue, now) == "c" ? checkpoints : repairs) += 1;
  }
  CHECK(repairs >= 20);
  CHECK(repairs <= 26);
  CHECK(checkpoints == 10'000 - repairs);
}

TEST_CASE("class queue: what may not go now is passed by, and keeps its age") {
  ClassQueue<std::string> queue(100);
  queue.Push(kFlush, "f", 0);
  queue.Push(kForeground, "g", 250);
  auto no_flush = [](TrafficClass traffic) { return traffic != kFlush; };
  CHECK(*queue.Next(260, no_flush) == kForeground);
  CHECK(*queue.Next(260) == kFlush);
  CHECK(queue.Pop(kForeground, 260) == "g");
  CHECK(!queue.Next(260, no_flush).has_value());
}

TEST_CASE("class queue: items can be taken out, one or all") {
  ClassQueue<std::string> queue;
  queue.Push(kFlush, "a", 0);
  queue.Push(kFlush, "b", 0);
  queue.Push(kCheckpoint, "c", 0);
  CHECK(queue.Erase(kFlush, "a"));
  CHECK(!queue.Erase(kFlush, "a"));
  CHECK(!queue.Erase(kRepair, "b"));
  CHECK(queue.size() == 2);
  CHECK(queue.TakeAll() == std::vector<std::string>{"c", "b"});
  CHECK(queue.empty());
}

TEST_CASE("credits: background calls leave an eighth, others may take all") {
  Credits none;
  CHECK(!none.Free(kCheckpoint));
  Credits credits(16);
  for (int i = 0; i < 14; ++i) {
    CHECK(credits.Free(kFlush));
    credits.Take(i % 2 == 0 ? kFlush : kRepair);
  }
  CHECK(!credits.Free(kFlush));
  CHECK(!credits.Free(kRepair));
  for (int i = 0; i < 2; ++i) {
    CHECK(credits.Free(TrafficClass::kPrefetch));
    credits.Take(kForeground);
  }
  CHECK(!credits.Free(kCheckpoint));
  credits.Give(kForeground);
  CHECK(credits.Free(kCheckpoint));
  CHECK(!credits.Free(kFlush));
  credits.Give(kRepair);
  CHECK(credits.Free(kFlush));
  Credits single(1);
  CHECK(single.Free(kRepair));
  Credits two(2);
  two.Take(kFlush);
  CHECK(!two.Free(kFlush));
  CHECK(two.Free(kCheckpoint));
}

TEST_CASE("credits: so does the waiting room") {
  CHECK(MayWait(kFlush, 13, 16));
  CHECK(!MayWait(kFlush, 14, 16));
  CHECK(MayWait(kCheckpoint, 15, 16));
  CHECK(!MayWait(kCheckpoint, 16, 16));
  CHECK(MayWait(kRepair, 0, 0));
}

TEST_CASE("traffic class: the numbers of frames") {
  CHECK(TrafficClassOf(0) == kForeground);
  CHECK(TrafficClassOf(1) == kCheckpoint);
  CHECK(TrafficClassOf(5) == kRepair);
  CHECK(!TrafficClassOf(6).has_value());
  CHECK(!TrafficClassOf(UINT32_MAX).has_value());
}
