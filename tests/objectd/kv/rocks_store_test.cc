#include "objectd/kv/rocks_store.h"

#include <doctest/doctest.h>
#include <rocksdb/perf_context.h>

#include "base/failpoint.h"
#include "tests/objectd/kv/rocks_fixture.h"

namespace perigee::objectd::kv::testing {
namespace {

PERIGEE_STORE_CONFORMANCE(RocksFixture);

Status Fault() { return Status(Code::kIo, "injected"); }
bool IsLogOf(const std::string& path, const std::string& dir) {
  return path.starts_with(dir + "/") && path.ends_with(".log");
}

TEST_CASE("a power cut keeps what was waited for and nothing out of order") {
  RocksFixture f;
  RocksStore& store = f.Create(1);
  REQUIRE(store.WaitDurable(PutNow(store, "a", "durable")).ok());
  REQUIRE(store.WaitDurable(PutNow(store, "Xinline", std::string(5000, 'x'))).ok());
  Position lost = PutNow(store, "a", "unsynced");
  PutNow(store, "b", "unsynced");
  RocksStore& again = f.PowerCut();
  CHECK(GetNow(again, "a") == "durable");
  CHECK_FALSE(GetNow(again, "b").has_value());
  CHECK(GetNow(again, "Xinline") == std::string(5000, 'x'));
  CHECK(again.ReadFeed(lost, 1).status().Is(Code::kResync));
  CHECK(again.WaitDurable(lost).Is(Code::kUnavailable));
  CHECK(again.DurablePosition() == again.VisiblePosition());
  CHECK(PutNow(again, "c", "") > lost);
}

TEST_CASE("stopping syncs what is visible, and refuses what comes after") {
  RocksFixture f;
  RocksStore& store = f.Create(2);
  PutNow(store, "a", "visible");
  store.Stop();
  CHECK(store.Run([](Transaction&) { return Status::Ok(); }).status().Is(Code::kUnavailable));
  CHECK(store.ReadFeed(0, 1).status().Is(Code::kUnavailable));
  store.WaitFeed(store.VisiblePosition(), store.DurablePosition(), 3600 * kSecond);  // at once
  CHECK(GetNow(f.PowerCut(), "a") == "visible");
}

std::string Numbered(int i) { return "k" + std::to_string(1000 + i); }

void PutAndDelete(RocksStore& store, int count) {
  for (bool put : {true, false}) {
    REQUIRE(store
                .Run([&](Transaction& txn) {
                  for (int i = 0; i < count; ++i)
                    put ? txn.Put(Numbered(i), "x") : txn.Delete(Numbered(i));
                  return Status::Ok();
                })
                .ok());
  }
}

std::vector<std::string> KeysFrom(Transaction& txn, const std::string& begin) {
  auto rows = txn.Scan({begin, "l"}, 10, Direction::kForward, ReadMode::kSnapshot);
  REQUIRE(rows.ok());
  std::vector<std::string> keys;
  for (auto& [key, value] : *rows) keys.push_back(std::move(key));
  return keys;
}

std::vector<std::string> KeysNow(RocksStore& store, const std::string& begin) {
  std::vector<std::string> keys;
  auto scan = [&](Transaction& txn) {
    keys = KeysFrom(txn, begin);
    return Status::Ok();
  };
  REQUIRE(store.Run(scan).ok());
  return keys;
}

TEST_CASE("deleted keys are passed by one scan only") {
  RocksFixture f;
  RocksStore& store = f.Create(1);
  PutAndDelete(store, 900);
  PutNow(store, "kz", "left");
  auto passed = [] { return rocksdb::get_perf_context()->internal_delete_skipped_count; };
  uint64_t before = passed();
  CHECK(KeysNow(store, "k") == std::vector<std::string>{"kz"});
  CHECK(passed() - before >= 900);
  before = passed();
  CHECK(KeysNow(store, "k") == std::vector<std::string>{"kz"});
  CHECK(KeysNow(store, Numbered(500)) == std::vector<std::string>{"kz"});
  CHECK(passed() == before);
  PutNow(store, Numbered(20), "back");
  CHECK(KeysNow(store, "k") == std::vector<std::string>{Numbered(20), "kz"});
  CHECK(passed() - before < 10);
}

TEST_CASE("a scan that a commit has overtaken does not hide what was committed") {
  RocksFixture f;
  RocksStore& store = f.Create(1);
  PutAndDelete(store, 500);
  auto overtaken = [&](Transaction& txn) {
    PutNow(store, Numbered(100), "new");
    CHECK(KeysFrom(txn, "k").empty());
    return Status::Ok();
  };
  REQUIRE(store.Run(overtaken).ok());
  CHECK(KeysNow(store, "k") == std::vector<std::string>{Numbered(100)});
}

TEST_CASE("a feed keeps its low water, marks and count across reopening") {
  RocksFixture f;
  f.options.feed_events_kept = 10;
  f.Create(1);
  Position first = EmitNow(*f.store, "0");
  for (int i = 1; i < 25; ++i) EmitNow(*f.store, std::to_string(i));
  f.MustOpen();
  CHECK(f.store->ReadFeed(first, 10).status().Is(Code::kResync));
  Position last = 0;
  for (int i = 25; i < 30; ++i) last = EmitNow(*f.store, std::to_string(i));
  // Exactly ten are kept: the count went on where it was.
  Position from = last;
  while (f.store->ReadFeed(from - 1, 0).ok() && from > last - 5) --from;
  CHECK(MustReadFeed(*f.store, from).events.size() <= 10);
  f.MustOpen();
  FeedPage all = MustReadFeed(*f.store, last);
  CHECK(all.events.empty());
}

TEST_CASE("waiters that come while a sync runs share the next one") {
  RocksFixture f;
  RocksStore& store = f.Create(1);
  Event first_began, release;
  std::atomic<int> syncs{0};
  f.fs->SetHook([&](std::string_view op, const std::string& path) {
    if (op == "sync" && IsLogOf(path, f.Dir(1)) && ++syncs == 1) {
      first_began.Set();
      release.Wait();
    }
    return Status::Ok();
  });
  std::thread first([&] { store.WaitDurable(PutNow(store, "first", "")).Ignore(); });
  first_began.Wait();
  constexpr int kWaiters = 8;
  std::vector<Position> at;
  for (int i = 0; i < kWaiters; ++i) at.push_back(PutNow(store, "w" + std::to_string(i), ""));
  std::atomic<int> durable{0};
  std::vector<std::thread> waiters;
  for (Position p : at) {
    waiters.emplace_back([&, p] { durable += store.WaitDurable(p).ok(); });
  }
  CHECK(store.DurablePosition() < at.front());
  release.Set();
  first.join();
  for (std::thread& t : waiters) t.join();
  CHECK(durable == kWaiters);
  CHECK(syncs <= 3);  // the first, one for those that had asked by then, one for those that had not
}

TEST_CASE("commits that nobody waits for are synced after a second") {
  RocksFixture f;
  RocksStore& store = f.Create(2);
  Position at = PutNow(store, "a", "1");
  f.clock.Advance(2 * kSecond);
  CHECK(Eventually([&] { return store.DurablePosition() == at; }));
}

TEST_CASE("a mirror whose sync fails is ejected durably before anything is acknowledged") {
  RocksFixture f;
  RocksStore& store = f.Create(2);
  std::atomic<int> syncs{0};
  f.fs->SetHook([&](std::string_view op, const std::string& path) {
    bool hit = op == "sync" && IsLogOf(path, f.Dir(2));
    return hit && ++syncs > 0 ? Fault() : Status::Ok();
  });
  Position durable_before = store.DurablePosition(), at_ejection = 0;
  f.membership.OnEject([&] {
    at_ejection = store.DurablePosition();
    return Status::Ok();
  });
  REQUIRE(store.WaitDurable(PutNow(store, "a", "1")).ok());
  CHECK(at_ejection == durable_before);
  CHECK(f.membership.in_sync() == std::vector<uint64_t>{1});
  CHECK(store.InSync() == std::vector<uint64_t>{1});
  CHECK(syncs == 1);  // never retried
  REQUIRE(store.WaitDurable(PutNow(store, "b", "2")).ok());
  f.fs->SetHook(nullptr);
  RocksStore& again = f.PowerCut();
  CHECK(GetNow(again, "a") == "1");
  CHECK(GetNow(again, "b") == "2");
}

TEST_CASE("losing the mirror that is read from loses no commit") {
  for (const char* op : {"append", "sync"}) {
    CAPTURE(op);
    RocksFixture f;
    RocksStore& store = f.Create(3);
    PutNow(store, "before", "1");
    f.fs->SetHook([&](std::string_view what, const std::string& path) {
      return what == op && IsLogOf(path, f.Dir(1)) ? Fault() : Status::Ok();
    });
    Position at = PutNow(store, "after", "2");
    CHECK(GetNow(store, "before") == "1");
    CHECK(GetNow(store, "after") == "2");
    REQUIRE(store.WaitDurable(at).ok());
    CHECK(f.membership.in_sync() == std::vector<uint64_t>{2, 3});
  }
}

TEST_CASE("a mirror that is late is ejected, and its answer no longer waited for") {
  for (const char* op : {"append", "sync"}) {
    for (uint64_t drive : {1, 2}) {
      CAPTURE(op);
      CAPTURE(drive);
      RocksFixture f;
      f.options.late_after = 100 * kMillisecond;  // on the manual clock
      RocksStore& store = f.Create(2);
      Event hanging, release;
      f.fs->SetHook([&](std::string_view what, const std::string& path) {
        if (what == op && IsLogOf(path, f.Dir(drive))) {
          hanging.Set();
          release.Wait();
        }
        return Status::Ok();
      });
      Status durable = Status::Ok();
      std::thread stuck([&] {  // on drive 1 the committer itself hangs in the write
        durable = store.RunDurable([](Transaction& txn) {
          txn.Put("a", "1");
          return Status::Ok();
        });
      });
      hanging.Wait();
      CHECK(f.membership.ejected().empty());
      CHECK(Eventually([&] {
        f.clock.Advance(25 * kMillisecond);
        return f.membership.ejected().size() == 1;
      }));
      CHECK(f.membership.in_sync() == std::vector<uint64_t>{3 - drive});
      REQUIRE(store.WaitDurable(PutNow(store, "b", "2")).ok());
      CHECK(GetNow(store, "a") == "1");
      release.Set();
      stuck.join();
      CHECK(durable.ok());
    }
  }
}

TEST_CASE("without an in-sync mirror left, or a durable ejection, everything is unavailable") {
  for (bool last_mirror : {true, false}) {
    CAPTURE(last_mirror);
    RocksFixture f;
    RocksStore& store = f.Create(last_mirror ? 1 : 2);
    REQUIRE(store.WaitDurable(PutNow(store, "a", "1")).ok());
    f.membership.OnEject([] { return Fault(); });
    f.fs->SetHook([&](std::string_view op, const std::string& path) {
      return op == "sync" && IsLogOf(path, f.Dir(1)) ? Fault() : Status::Ok();
    });
    Position at = PutNow(store, "b", "2");
    CHECK(store.WaitDurable(at).Is(Code::kUnavailable));
    CHECK(store.Run([](Transaction&) { return Status::Ok(); }).status().Is(Code::kUnavailable));
    CHECK(store.WaitDurable(0).Is(Code::kUnavailable));
    CHECK(store.ReadFeed(0, 1).status().Is(Code::kUnavailable));
    store.WaitFeed(store.VisiblePosition(), store.DurablePosition(), 3600 * kSecond);
    // The record still names it: a restart finds what was acknowledged.
    f.fs->SetHook(nullptr);
    f.membership.OnEject(nullptr);
    CHECK(GetNow(f.PowerCut(), "a") == "1");
  }
}

TEST_CASE("a mirror that cannot be read is ejected and the closure runs on another") {
  RocksFixture f;
  f.Create(2);
  for (int i = 0; i < 100; ++i) PutNow(*f.store, "key" + std::to_string(i), std::string(1000, 'v'));
  RocksStore& store = f.MustOpen();  // the data is in table files now
  std::string first = f.Dir(store.InSync().front());
  f.fs->SetHook([&](std::string_view op, const std::string& path) {
    return op == "read" && path.starts_with(first + "/") ? Fault() : Status::Ok();
  });
  CHECK(ScanNow(store, PrefixRange("key")).size() == 100);
  CHECK(Eventually([&] { return f.membership.ejected().size() == 1; }));
  f.fs->SetHook(nullptr);
}

TEST_CASE("the last mirror is not given up for a read that fails") {
  RocksFixture f;
  f.Create(1);
  for (int i = 0; i < 100; ++i) PutNow(*f.store, "key" + std::to_string(i), std::string(1000, 'v'));
  RocksStore& store = f.MustOpen();
  f.fs->SetHook([&](std::string_view op, const std::string& path) {
    return op == "read" && path.ends_with(".sst") ? Fault() : Status::Ok();
  });
  CHECK(store.Run(Scans(PrefixRange("key"), 100, Direction::kForward, ReadMode::kSnapshot))
            .status()
            .Is(Code::kIo));
  f.fs->SetHook(nullptr);
  CHECK(ScanNow(store, PrefixRange("key")).size() == 100);
  CHECK(store.WaitDurable(PutNow(store, "more", "")).ok());
}

TEST_CASE("ejecting by hand is durable, idempotent, and leaves a working store") {
  RocksFixture f;
  RocksStore& store = f.Create(2);
  PutNow(store, "a", "1");
  REQUIRE(store.EjectMirror(1, "drive replaced").ok());
  CHECK(store.EjectMirror(1, "again").ok());
  CHECK(f.membership.ejected() ==
        std::vector<std::pair<uint64_t, std::string>>{{1, "drive replaced"}});
  CHECK(GetNow(store, "a") == "1");
  REQUIRE(store.WaitDurable(PutNow(store, "b", "2")).ok());
  CHECK(store.EjectMirror(2, "the last").Is(Code::kUnavailable));
}

#ifdef PERIGEE_FAILPOINTS
TEST_CASE("a failpoint before the ejection kills the store rather than the promise") {
  RocksFixture f;
  RocksStore& store = f.Create(2);
  REQUIRE(failpoint::Arm("kv_eject_before=error").ok());
  CHECK(store.EjectMirror(2, "test").Is(Code::kUnavailable));
  CHECK(f.membership.in_sync().size() == 2);
  failpoint::DisarmAll();
}
#endif

}  // namespace
}  // namespace perigee::objectd::kv::testing
