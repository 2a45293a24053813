#pragma once
// Store conformance: the change feed and the two watermarks. Included by store_conformance.h.

#include <string>
#include <thread>

#include "tests/objectd/kv/store_conformance.h"

namespace perigee::objectd::kv::testing {

inline FeedPage MustReadFeed(Store& store, Position after, size_t limit = 1000) {
  Result<FeedPage> page = store.ReadFeed(after, limit);
  INFO(page.status().ToString());
  REQUIRE(page.ok());
  return std::move(*page);
}

inline std::string EventsOf(const FeedPage& page) {
  std::string out;
  for (const FeedEvent& event : page.events) out += event.event + " ";
  return out;
}

TEST_CASE_TEMPLATE_DEFINE("the feed holds each commit's events in order, pages end between commits",
                          F, conform_feed_order) {
  F f;
  Store& store = f.Open(kFeedDefault);
  Position start = MustReadFeed(store, Store::kFeedEnd).next;
  CHECK(start == store.VisiblePosition());
  Position a = EmitNow(store, "a");
  PutNow(store, "k", "no event");
  Position b = MustRun(store, [](Transaction& txn) {
    for (int i = 0; i < 12; ++i) txn.Emit("b" + std::to_string(i));
    return Status::Ok();
  });
  Position c = EmitNow(store, "c");

  FeedPage all = MustReadFeed(store, start);
  CHECK(EventsOf(all) == "a b0 b1 b2 b3 b4 b5 b6 b7 b8 b9 b10 b11 c ");
  CHECK(all.next == c);
  CHECK(all.visible == c);
  CHECK(all.events.front().position == a);
  CHECK(all.events[5].position == b);

  FeedPage page = MustReadFeed(store, start, 1);
  CHECK(EventsOf(page) == "a ");
  page = MustReadFeed(store, page.next, 2);
  CHECK(page.events.size() == 12);  // a commit is never cut in two
  page = MustReadFeed(store, page.next, 2);
  CHECK(EventsOf(page) == "c ");
  page = MustReadFeed(store, page.next, 2);
  CHECK(page.events.empty());
  CHECK(page.next == c);
  CHECK(MustReadFeed(store, start, 0).next == start);
  CHECK(store.ReadFeed(c + 1000, 10).status().Is(Code::kResync));
  // What a failed closure emitted is nowhere.
  CHECK(store
            .Run([](Transaction& txn) {
              txn.Emit("x");
              return Status(Code::kBusy, "no");
            })
            .status()
            .Is(Code::kBusy));
  CHECK(MustReadFeed(store, c).events.empty());
}

TEST_CASE_TEMPLATE_DEFINE("old events are trimmed, and who is behind them is told to resync", F,
                          conform_feed_trimming) {
  F f;
  constexpr int kKept = 20, kEmitted = 70;
  Store& store = f.Open(kKept);
  Position start = store.VisiblePosition();
  std::vector<Position> at;
  for (int i = 0; i < kEmitted; ++i) at.push_back(EmitNow(store, std::to_string(i)));
  CHECK(store.ReadFeed(start, 10).status().Is(Code::kResync));
  CHECK(store.ReadFeed(at[kEmitted - kKept - 10], 10).status().Is(Code::kResync));
  FeedPage page = MustReadFeed(store, at[kEmitted - kKept - 1]);
  REQUIRE(page.events.size() == kKept);
  CHECK(page.events.front().event == std::to_string(kEmitted - kKept));
  CHECK(page.events.back().event == std::to_string(kEmitted - 1));
  // Commits without events trim nothing, and a reader that is up to date stays so.
  for (int i = 0; i < kKept * 2; ++i) PutNow(store, "k", std::to_string(i));
  CHECK(MustReadFeed(store, at[kEmitted - kKept - 1]).events.size() == kKept);
  CHECK(MustReadFeed(store, page.next).events.empty());
}

TEST_CASE_TEMPLATE_DEFINE("visible moves with a commit, durable with the wait for it", F,
                          conform_watermarks) {
  F f;
  Store& store = f.Open(kFeedDefault);
  Position at = PutNow(store, "k", "1");
  CHECK(store.VisiblePosition() == at);
  CHECK(store.DurablePosition() <= at);
  Position read = MustRun(store, Reads("k", ReadMode::kConflict));
  CHECK(read == at);  // of its snapshot
  REQUIRE(store.WaitDurable(read).ok());
  CHECK(store.DurablePosition() >= at);
  CHECK(store.WaitDurable(at + 1'000'000).Is(Code::kInvalidArgument));
  Result<Position> durable = store.RunDurable([](Transaction& txn) {
                                    txn.Put("k", "2");
                                    return Status::Ok();
                                  }).ok()
                                 ? Result<Position>(store.DurablePosition())
                                 : Result<Position>(Code::kInternal, "RunDurable failed");
  REQUIRE(durable.ok());
  CHECK(*durable == store.VisiblePosition());
  FeedPage page = MustReadFeed(store, Store::kFeedEnd);
  CHECK(page.visible == store.VisiblePosition());
  CHECK(page.durable == store.DurablePosition());
}

TEST_CASE_TEMPLATE_DEFINE("waiting for the feed ends when a watermark moves", F,
                          conform_wait_feed) {
  F f;
  Store& store = f.Open(kFeedDefault);
  Position seen = store.VisiblePosition();
  Position durable = store.DurablePosition();
  store.WaitFeed(seen, durable, 0);  // nothing moved: the timeout ends it
  std::thread committer([&] { EmitNow(store, "a"); });
  while (store.VisiblePosition() == seen)
    store.WaitFeed(seen, store.DurablePosition(), 3600 * kSecond);
  committer.join();
  Position now = store.VisiblePosition();
  CHECK(now > seen);
  store.WaitFeed(seen, store.DurablePosition(), 3600 * kSecond);  // at once
  std::thread syncer([&] { CHECK_NOTHROW(store.WaitDurable(now).Ignore()); });
  while (store.DurablePosition() < now)
    store.WaitFeed(now, store.DurablePosition(), 3600 * kSecond);
  syncer.join();
  CHECK(store.DurablePosition() == now);
  std::thread waiter([&] { CHECK_FALSE(store.WaitFeed(now, now, 3600 * kSecond)); });
  store.EndFeedWaits();
  waiter.join();
  CHECK_FALSE(store.WaitFeed(0, 0, 3600 * kSecond));  // for good
  PutNow(store, "b", "commits go on");
}

TEST_CASE_TEMPLATE_DEFINE("the feed goes on behind a restart, what was lost is reported", F,
                          conform_feed_reopen) {
  F f;
  Store* store = &f.Open(kFeedDefault);
  Position start = store->VisiblePosition();
  Position kept = EmitNow(*store, "kept");
  REQUIRE(store->WaitDurable(kept).ok());
  Position maybe = EmitNow(*store, "maybe");
  store = &f.Reopen();
  Position after = EmitNow(*store, "after");
  CHECK(after > maybe);
  FeedPage page = MustReadFeed(*store, kept);
  CHECK(page.events.back().event == "after");
  CHECK(MustReadFeed(*store, start).events.front().event == "kept");
  // Who read `maybe` either finds it kept, or is told to start over.
  bool lost = page.events.front().event != "maybe";
  Result<FeedPage> from_maybe = store->ReadFeed(maybe, 10);
  CHECK(from_maybe.status().Is(lost ? Code::kResync : Code::kOk));
  CHECK(store->ReadFeed(maybe + 1, 10).status().Is(Code::kResync));
}

}  // namespace perigee::objectd::kv::testing
