#include <thread>

#include "objectd/meta/tree.h"
#include "tests/objectd/meta/fixture.h"

using namespace perigee;
using namespace perigee::objectd;
using namespace perigee::objectd::test;

TEST_CASE_FIXTURE(Fixture, "the feed tells each change with the path as of its commit") {
  auto b = Bucket("bucket");
  auto d = Dir(b, "d");
  auto e = Dir(d, "e");
  uint64_t start = Now();
  auto f = Create(e, "f", 1, 5);
  Must(Rename(b, "d", b, "moved"));
  Create(e, "g", 1, 6);
  CHECK(Unlink(e, "f") == Code::kOk);
  Must(Put("bucket", "moved/x/y"));
  Strings seen;
  for (const auto& c : Changes(start)) {
    seen.push_back(std::to_string(static_cast<int>(c.kind)) + " " + c.path);
    if (c.path == "bucket/d/e/f") {
      CHECK(c.parent == e);
      CHECK(c.name == "f");
      CHECK(c.id == f);
    }
  }
  CHECK(seen == Strings{"0 bucket/d/e/f", "1 bucket/d/", "0 bucket/moved/", "0 bucket/moved/e/g",
                        "1 bucket/moved/e/f", "2 ", "0 bucket/moved/x/", "0 bucket/moved/x/y"});
}

TEST_CASE_FIXTURE(Fixture, "a node asks for the burst files released to it, and for removals") {
  auto b = Bucket("bucket");
  Create(b, "f", 1, 5);
  Create(b, "g", 2, 6);
  CHECK(Unlink(b, "f") == Code::kOk);
  CHECK(Unlink(b, "g") == Code::kOk);
  auto reply = Must(ns->Feed({.released_for = 2}));
  std::erase_if(reply.changes, [](const wire::Change& c) {
    return c.kind == wire::ChangeKind::kRemoved && (c.name == "f" || c.name == "g");
  });
  REQUIRE(reply.changes.size() == 1);
  CHECK(reply.changes[0].burst == 6);
  CHECK(reply.changes[0].position > 0);
  CHECK(reply.changes[0].position <= reply.next);
  CHECK(Must(ns->Feed({.after = reply.next, .released_for = 2})).changes.empty());
}

TEST_CASE_FIXTURE(Fixture, "a feed read in small pages misses nothing and repeats nothing") {
  auto b = Bucket("bucket");
  for (int i = 0; i < 20; ++i) File(b, "f" + std::to_string(i));
  for (int i = 0; i < 20; i += 2)
    Must(Rename(b, "f" + std::to_string(i), b, "f" + std::to_string(i + 1)));
  auto all = Changes();
  std::vector<wire::Change> paged;
  uint64_t after = 0;
  while (true) {
    auto reply = Must(ns->Feed({.after = after, .limit = 3}));
    if (reply.changes.empty()) break;
    for (auto& c : reply.changes) paged.push_back(c);
    after = reply.next;
  }
  REQUIRE(paged.size() == all.size());
  for (size_t i = 0; i < all.size(); ++i) {
    CHECK(paged[i].position == all[i].position);
    CHECK(paged[i].path == all[i].path);
  }
}

TEST_CASE_FIXTURE(Fixture,
                  "a waiting reader is answered by a change, and by durability it waits for") {
  auto b = Bucket("bucket");
  uint64_t start = Now();
  store->HoldDurability(true);
  std::thread writer([&] { Create(b, "f", 1, 5); });
  auto reply = Must(ns->Feed({.after = start, .wait_ms = 60'000}));
  writer.join();
  REQUIRE(reply.changes.size() == 1);
  CHECK(reply.durable < reply.changes[0].position);
  // Nothing new is visible; that what was read became durable is the news.
  std::thread syncer([&] {
    store->HoldDurability(false);
    Must(ns->Sync());
  });
  auto later =
      Must(ns->Feed({.after = reply.next, .wait_ms = 60'000, .seen_durable = reply.durable}));
  syncer.join();
  CHECK(later.changes.empty());
  CHECK(later.durable >= reply.next);
}

TEST_CASE_FIXTURE(Fixture, "a reader from the future is told to resync") {
  CHECK(ns->Feed({.after = Now() + 1000}).code() == Code::kResync);
}

TEST_CASE("a path from the cache is never one of before a move") {
  Fixture fix;
  auto b = fix.Bucket("bucket");
  auto a = fix.Dir(b, "a"), c = fix.Dir(b, "c");
  auto x = fix.Dir(a, "x");
  for (int i = 0; i < 6; ++i) {
    std::string from = i % 2 ? "c" : "a", to = i % 2 ? "a" : "c";
    fix.Create(x, "f" + std::to_string(i), 1, static_cast<uint64_t>(i));
    CHECK(fix.Changes().back().path == "bucket/" + from + "/x/f" + std::to_string(i));
    Must(fix.Rename(i % 2 ? c : a, "x", i % 2 ? a : c, "x"));
    CHECK(fix.Changes().back().path == "bucket/" + to + "/x/");
  }
}
