// Opening and adding mirrors of a RocksStore.
#include <doctest/doctest.h>

#include "base/failpoint.h"
#include "base/random.h"
#include "objectd/kv/mirror_copy.h"
#include "tests/objectd/kv/rocks_fixture.h"

namespace perigee::objectd::kv::testing {
namespace {

// Leaves drive 1 with more than drive 2 has: `more` commits that only drive 1 keeps.
void MakeTails(RocksFixture& f, int more, size_t value_bytes) {
  RocksStore& store = f.Create(2);
  for (int i = 0; i < 20; ++i)
    PutNow(store, "both" + std::to_string(i), std::string(value_bytes, 'b'));
  REQUIRE(store.WaitDurable(EmitNow(store, "both")).ok());
  f.fs->CopySynced(f.Dir(2), f.Dir(2) + ".short");
  for (int i = 0; i < more; ++i) {
    PutNow(store, "more" + std::to_string(i % 500), std::string(value_bytes, 'm'));
    PutNow(store, "Xmore" + std::to_string(i % 500), std::string(value_bytes, 'x'));
  }
  MustRun(store, [](Transaction& txn) {
    txn.Delete("both3");
    txn.AtomicAdd("counter", 7);
    txn.Emit("only in one");
    return Status::Ok();
  });
  f.store.reset();
  std::filesystem::remove_all(f.Dir(2));
  std::filesystem::rename(f.Dir(2) + ".short", f.Dir(2));
}

TEST_CASE("mirrors with different tails are brought to the longest, by its log") {
  RocksFixture f;
  MakeTails(f, 10, 100);
  RocksStore& store = f.MustOpen();
  CHECK(store.InSync().size() == 2);
  CHECK(f.membership.ejected().empty());
  CHECK(GetNow(store, "counter") == Le64(7));
  f.store.reset();
  std::vector<KeyValue> one = ContentOf(f, 1), two = ContentOf(f, 2);
  CHECK(one.size() == 20 - 1 + 20 + 1);
  CHECK(one == two);
}

TEST_CASE("a mirror that fell behind further than the log reaches is copied whole") {
  RocksFixture f;
  MakeTails(f, 10, 100);
  // What is left of the longer mirror's log is taken away: its tables hold all.
  f.options.mirrors = {f.Place(1)};
  {
    Result<std::unique_ptr<RocksStore>> alone = RocksStore::Open(f.options);
    REQUIRE(alone.ok());
  }
  std::filesystem::remove_all(f.Dir(1) + "/archive");
  RocksStore& store = f.MustOpen();
  CHECK(store.InSync().size() == 2);
  f.store.reset();
  CHECK_FALSE(std::filesystem::exists(f.Dir(2) + ".copy"));
  CHECK_FALSE(std::filesystem::exists(f.Dir(2) + ".old"));
  CHECK(ContentOf(f, 1) == ContentOf(f, 2));
}

TEST_CASE("an interrupted swap is undone, a finished one cleaned up") {
  RocksFixture f;
  REQUIRE(f.Create(1).WaitDurable(PutNow(*f.store, "a", "1")).ok());
  f.store.reset();
  std::filesystem::rename(f.Dir(1), f.Dir(1) + ".old");
  std::filesystem::create_directories(f.Dir(1) + ".copy/half");
  CHECK(GetNow(f.MustOpen(), "a") == "1");
  CHECK_FALSE(std::filesystem::exists(f.Dir(1) + ".old"));
  CHECK_FALSE(std::filesystem::exists(f.Dir(1) + ".copy"));
  f.store.reset();
  std::filesystem::create_directories(f.Dir(1) + ".old/rest");
  CHECK(GetNow(f.MustOpen(), "a") == "1");
  CHECK_FALSE(std::filesystem::exists(f.Dir(1) + ".old"));
}

TEST_CASE("a mirror that vanished, is empty or damaged is ejected as long as another opens") {
  for (const char* what : {"missing", "empty", "damaged"}) {
    CAPTURE(what);
    RocksFixture f;
    REQUIRE(f.Create(2).WaitDurable(PutNow(*f.store, "a", "1")).ok());
    f.store.reset();
    if (std::string_view(what) == "damaged") {
      std::ofstream(f.Dir(1) + "/CURRENT", std::ios::trunc) << "nonsense\n";
    } else {
      std::filesystem::remove_all(f.Dir(1));
      if (std::string_view(what) == "empty") std::filesystem::create_directories(f.Dir(1));
    }
    RocksStore& store = f.MustOpen();
    CHECK(GetNow(store, "a") == "1");
    CHECK(store.InSync() == std::vector<uint64_t>{2});
    CHECK(f.membership.in_sync() == std::vector<uint64_t>{2});
    if (std::string_view(what) == "empty")
      CHECK(std::filesystem::is_empty(f.Dir(1)));  // never formatted by itself
  }
}

TEST_CASE("with no mirror to open, nothing is ejected and the reason is said") {
  RocksFixture f;
  f.Create(2);
  f.store.reset();
  for (uint64_t drive : {1, 2}) std::filesystem::rename(f.Dir(drive), f.Dir(drive) + ".away");
  Result<RocksStore*> opened = f.TryOpen();
  CHECK(opened.status().Is(Code::kUnavailable));
  CHECK(opened.status().message().find(f.Dir(2)) != std::string::npos);
  CHECK(f.membership.ejected().empty());
}

TEST_CASE("a store that is open already is busy, and no reason to eject anything") {
  RocksFixture f;
  f.Create(2);
  RocksStoreOptions second = f.options;
  second.mirrors = {f.Place(1), f.Place(2)};
  CHECK(RocksStore::Open(second).status().Is(Code::kBusy));
  CHECK(f.membership.ejected().empty());
}

TEST_CASE("creating refuses a place with commits, and clears what an interrupted creation left") {
  RocksFixture f;
  f.Create(1);
  f.store.reset();
  f.Create(1);  // nothing was committed
  PutNow(*f.store, "a", "1");
  f.store.reset();
  f.options.create = true;
  CHECK(f.TryOpen().status().Is(Code::kAlreadyExists));
  f.options.create = false;
  CHECK(GetNow(f.MustOpen(), "a") == "1");
}

TEST_CASE("mirrors of different stores are refused") {
  RocksFixture f, g;
  REQUIRE(f.Create(2).WaitDurable(PutNow(*f.store, "a", "f")).ok());
  REQUIRE(g.Create(2).WaitDurable(PutNow(*g.store, "a", "g")).ok());
  f.store.reset();
  g.store.reset();
  std::filesystem::remove_all(f.Dir(2));
  std::filesystem::copy(g.Dir(2), f.Dir(2), std::filesystem::copy_options::recursive);
  CHECK(f.TryOpen().status().Is(Code::kCorrupt));
  CHECK(f.membership.ejected().empty());
}

TEST_CASE("options that cannot work are refused") {
  RocksStoreOptions options;
  CHECK(RocksStore::Open(options).status().Is(Code::kInvalidArgument));
  options.mirrors = {{1, "/nowhere/a"}, {2, "/nowhere/b"}};
  CHECK(RocksStore::Open(options).status().Is(Code::kInvalidArgument));  // no membership
  FakeMembership membership;
  options.membership = &membership;
  options.mirrors[1].drive_id = 1;
  CHECK(RocksStore::Open(options).status().Is(Code::kInvalidArgument));
}

// Commits without pause until told to stop, remembering what it committed.
class Load {
 public:
  explicit Load(RocksStore& store) : thread_([this, &store] { Loop(store); }) {}
  ~Load() { Stop(); }
  void Stop() {
    stop_ = true;
    if (thread_.joinable()) thread_.join();
  }
  int done() const { return done_; }
  bool failed() const { return failed_; }

 private:
  void Loop(RocksStore& store) {
    Random random(0x5eed);
    while (!stop_ && !failed_) {
      Result<Position> at = store.Run([&](Transaction& txn) {
        txn.Put("load" + std::to_string(random.Below(300)), std::string(random.Below(300), 'l'));
        txn.Put("Xload" + std::to_string(random.Below(50)), std::string(random.Below(3000), 'x'));
        if (random.OneIn(5)) txn.Delete("load" + std::to_string(random.Below(300)));
        txn.AtomicAdd("count", 1);
        txn.Emit("e");
        return Status::Ok();
      });
      if (!at.ok() || (done_ % 16 == 0 && !store.WaitDurable(*at).ok())) failed_ = true;
      ++done_;
    }
  }
  std::atomic<bool> stop_{false}, failed_{false};
  std::atomic<int> done_{0};
  std::thread thread_;
};

TEST_CASE("a mirror added under load equals its source, and carries the store alone") {
  RocksFixture f;
  f.options.feed_events_kept = 500;
  RocksStore& store = f.Create(1);
  for (int i = 0; i < 300; ++i) PutNow(store, "old" + std::to_string(i), std::string(i, 'o'));
  int committed = 0;
  {
    Load load(store);
    CHECK(Eventually([&] { return load.done() > 50; }));
    for (uint64_t drive : {2, 3}) {
      Status added = store.AddMirror(f.Place(drive));
      INFO(added.ToString());
      CHECK(added.ok());
    }
    int before = load.done();
    CHECK(Eventually([&] { return load.done() > before + 50 || load.failed(); }));
    load.Stop();
    CHECK_FALSE(load.failed());
    committed = load.done();
  }
  CHECK(store.InSync() == std::vector<uint64_t>{1, 2, 3});
  CHECK(f.membership.in_sync() == std::vector<uint64_t>{1, 2, 3});
  std::vector<KeyValue> content = ScanNow(store, {"", ""}, 1'000'000);
  REQUIRE(store.WaitDurable(store.VisiblePosition()).ok());
  REQUIRE(store.EjectMirror(1, "test").ok());
  REQUIRE(store.EjectMirror(2, "test").ok());
  CHECK(ScanNow(store, {"", ""}, 1'000'000) == content);
  CHECK(GetNow(store, "count") == Le64(static_cast<uint64_t>(committed)));
  RocksStore& again = f.PowerCut();
  CHECK(ScanNow(again, {"", ""}, 1'000'000) == content);
  f.store.reset();
  CHECK(ContentOf(f, 3) == content);
}

TEST_CASE("a mirror that came by copy converges with the others after a crash") {
  RocksFixture f;
  RocksStore& store = f.Create(1);
  for (int i = 0; i < 50; ++i) PutNow(store, "k" + std::to_string(i), "v");
  REQUIRE(store.AddMirror(f.Place(2)).ok());
  REQUIRE(store.WaitDurable(PutNow(store, "synced", "1")).ok());
  // Its sequence numbers differ from the source's, so that its place in the log must be found by
  // position.
  f.fs->CopySynced(f.Dir(2), f.Dir(2) + ".short");
  for (int i = 0; i < 50; ++i) PutNow(store, "tail" + std::to_string(i), "v");
  f.store.reset();
  std::filesystem::remove_all(f.Dir(2));
  std::filesystem::rename(f.Dir(2) + ".short", f.Dir(2));
  CHECK(f.MustOpen().InSync().size() == 2);
  f.store.reset();
  CHECK(ContentOf(f, 1) == ContentOf(f, 2));
}

TEST_CASE("a mirror that fails while it is added leaves the store as it was") {
  RocksFixture f;
  RocksStore& store = f.Create(1);
  for (int i = 0; i < 100; ++i) PutNow(store, "k" + std::to_string(i), "v");
  CHECK(store.AddMirror(f.Place(1)).Is(Code::kAlreadyExists));
  f.fs->SetHook([&](std::string_view op, const std::string& path) {
    bool hit = op == "sync" && path.starts_with(f.Dir(2) + "/") && path.ends_with(".sst");
    return hit ? Status(Code::kIo, "injected") : Status::Ok();
  });
  CHECK_FALSE(store.AddMirror(f.Place(2)).ok());
  f.fs->SetHook(nullptr);
  CHECK(store.InSync() == std::vector<uint64_t>{1});
  CHECK(f.membership.ejected().empty());

  f.membership.RefuseAdmissions(true);
  CHECK(store.AddMirror(f.Place(2)).Is(Code::kIo));
  // Whether a failed admission took effect is unknown, so it was taken back.
  REQUIRE(f.membership.ejected().size() == 1);
  CHECK(f.membership.ejected()[0].first == 2);
  REQUIRE(store.WaitDurable(PutNow(store, "on", "")).ok());

  f.membership.RefuseAdmissions(false);
  REQUIRE(store.AddMirror(f.Place(2)).ok());  // over what the failed attempts left
  REQUIRE(store.EjectMirror(1, "test").ok());
  CHECK(ScanNow(store, PrefixRange("k")).size() == 100);
}

#ifdef PERIGEE_FAILPOINTS
TEST_CASE("opening after a copy that was cut off at any step loses nothing") {
  for (const char* at : {"kv_copy_before_sync", "kv_copy_after_sync", "kv_copy_before_swap",
                         "kv_copy_between_swaps", "kv_copy_after_swap"}) {
    CAPTURE(at);
    RocksFixture f;
    MakeTails(f, 5, 50);
    f.options.mirrors = {f.Place(1)};
    REQUIRE(RocksStore::Open(f.options).ok());
    std::filesystem::remove_all(f.Dir(1) + "/archive");
    REQUIRE(failpoint::Arm(std::string(at) + "=error").ok());
    // The copy stops there; as if the process had died, the second drive is not ejected but found
    // again.
    f.membership.OnEject([] { return Status(Code::kIo, "died here"); });
    CHECK_FALSE(f.TryOpen().ok());
    failpoint::DisarmAll();
    f.membership.OnEject(nullptr);
    CHECK(f.MustOpen().InSync().size() == 2);
    f.store.reset();
    CHECK(ContentOf(f, 1) == ContentOf(f, 2));
  }
}
#endif

}  // namespace
}  // namespace perigee::objectd::kv::testing
