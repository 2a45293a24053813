#include "objectd/volume/collector.h"

#include "tests/objectd/volume/volume_fixture.h"

namespace perigee::objectd {
namespace {

constexpr Nanos kMinute = 60 * kSecond;

std::vector<kv::KeyValue> RowsOf(TestVolumes& v, kv::Range range) {
  std::vector<kv::KeyValue> rows;
  auto read = v.store->Run([&](kv::Transaction& txn) -> Status {
    PERIGEE_ASSIGN(rows, txn.Scan(range, 1000, kv::Direction::kForward, kv::ReadMode::kSnapshot));
    return Status::Ok();
  });
  REQUIRE(read.ok());
  return rows;
}

}  // namespace

TEST_CASE("the collector frees exactly what nobody holds, after the grace") {
  TestVolumes v;
  TestObject kept = v.Write(2'000'000), gone = v.Write(2'000'000), shared = v.Write(2'000'000);
  const ContentOwner second{999, 1};
  REQUIRE(v.store
              ->RunDurable([&](kv::Transaction& txn) {
                return AcquireContent(txn, second, shared.written.extents, 0, {});
              })
              .ok());
  v.Release(gone);
  v.Release(shared);
  v.scheduler().RunFor(50 * kSecond);
  CHECK(v.Reads(gone));  // a reader may still be at it
  v.scheduler().RunFor(30 * kSecond);
  CHECK(v.ShardCount(gone) == 0);
  CHECK(v.Reads(shared));
  CHECK(v.Reads(kept));
  CHECK(RowsOf(v, GarbageUntil(v.clock().Wall() + kMinute)).empty());
  shared.owner = second;
  v.Release(shared);
  v.scheduler().RunFor(80 * kSecond);
  CHECK(v.ShardCount(shared) == 0);
  CHECK(v.Reads(kept));
  v.scheduler().RunFor(30 * kMinute);
  CHECK(v.Reads(kept));
}

TEST_CASE("garbage that is not durable is not acted on") {
  TestVolumes v;
  TestObject object = v.Write(2'000'000);
  v.manager->Stop();
  auto released = v.store->Run([&](kv::Transaction& txn) {
    return ReleaseContent(txn, object.owner, object.written.extents, 0,
                          v.clock().Wall() - 10 * kMinute);
  });
  REQUIRE(released.ok());
  v.store->HoldDurability(true);
  bool done = false;
  REQUIRE(v.scheduler()
              .Post([&] {
                auto outcome = v.manager->CollectOnce();
                CHECK(outcome.ok());
                done = true;
              })
              .ok());
  v.scheduler().RunFor(kMinute);
  CHECK_FALSE(done);
  CHECK(v.ShardCount(object) > 0);
  v.store->HoldDurability(false);
  CHECK(v.scheduler().RunUntil([&] { return done; }));
  CHECK(v.ShardCount(object) == 0);
}

TEST_CASE(
    "blobs that no commit took are freed when the lease expires, and a commit that comes late "
    "fails") {
  TestVolumes v;
  auto late = v.WriteOnly(2'000'000);
  REQUIRE(late.ok());
  TestObject in_time = v.Write(2'000'000);
  CHECK(v.ShardCount(*late) > 0);
  v.scheduler().RunFor(14 * kMinute);
  CHECK(v.ShardCount(*late) > 0);
  v.scheduler().RunFor(3 * kMinute);
  CHECK(v.Commit(*late).Is(Code::kStale));
  v.scheduler().RunFor(2 * kMinute);
  CHECK(v.ShardCount(*late) == 0);
  CHECK(v.Reads(in_time));
  CHECK(RowsOf(v, IntentRange()).empty());
}

TEST_CASE(
    "a node that starts anew ends the leases of its past, not its own, others', or committed "
    "blobs") {
  TestVolumes v;
  v.incarnation = 10;
  auto cut_off = v.WriteOnly(2'000'000);
  TestObject committed = v.Write(2'000'000);
  v.node = 2;
  auto others = v.WriteOnly(2'000'000);
  v.node = 1;
  v.incarnation = 11;
  auto current = v.WriteOnly(2'000'000);
  REQUIRE((cut_off.ok() && others.ok() && current.ok()));
  REQUIRE(v.table().EndLeasesBefore(1, 11).ok());
  CHECK(v.Commit(*cut_off).Is(Code::kStale));
  v.scheduler().RunFor(80 * kSecond);
  CHECK(v.ShardCount(*cut_off) == 0);
  CHECK(v.Reads(committed));
  CHECK(v.Commit(*current).ok());
  CHECK(v.Commit(*others).ok());
  CHECK(v.Reads(*current));
  CHECK(v.Reads(*others));
}

TEST_CASE("all leases of a node's past end, however many there are") {
  TestVolumes v;
  v.incarnation = 10;
  for (int i = 0; i < 600; ++i) {
    wire::LeaseRequest request;
    request.node = i % 2 == 0 ? 1 : 2;
    request.incarnation = 10;
    REQUIRE(v.cluster().Lease(request).ok());
  }
  REQUIRE(v.table().EndLeasesBefore(1, 11).ok());
  CHECK(RowsOf(v, IntentRange()).size() == 300);
}

TEST_CASE("objectd ends the leases that its own predecessor took") {
  TestVolumes v;
  v.node = 0;
  auto cut_off = v.WriteOnly(2'000'000);
  REQUIRE(cut_off.ok());
  v.node = 1;
  auto others = v.WriteOnly(2'000'000);
  REQUIRE(others.ok());
  v.Restart();
  CHECK(v.Commit(*cut_off).Is(Code::kStale));
  CHECK(v.Commit(*others).ok());
  v.scheduler().RunFor(80 * kSecond);
  CHECK(v.ShardCount(*cut_off) == 0);
  CHECK(v.Reads(*others));
}

TEST_CASE("leases that are given up end with the next lease; nobody gives up another node's") {
  TestVolumes v;
  auto given_up = v.WriteOnly(2'000'000), kept = v.WriteOnly(2'000'000);
  TestObject committed = v.Write(2'000'000);
  REQUIRE((given_up.ok() && kept.ok()));
  wire::LeaseRequest request;
  request.node = 2;
  request.given_up = kept->written.intents;
  REQUIRE(v.cluster().Lease(request).ok());
  request.node = 1;
  request.given_up = given_up->written.intents;
  request.given_up.push_back(committed.written.intents[0]);
  REQUIRE(v.cluster().Lease(request).ok());
  CHECK(v.Commit(*given_up).Is(Code::kStale));
  v.scheduler().RunFor(80 * kSecond);
  CHECK(v.ShardCount(*given_up) == 0);
  CHECK(v.Reads(committed));
  CHECK(v.Commit(*kept).ok());
}

TEST_CASE("a commit just before the collector keeps its blobs, whatever the clock says") {
  TestVolumes v;
  v.options.collect_every = 3600 * kSecond;
  v.Restart();
  auto object = v.WriteOnly(2'000'000);
  REQUIRE(object.ok());
  v.scheduler().RunFor(20 * kMinute);
  REQUIRE(v.Commit(*object).ok());
  for (int i = 0; i < 4; i++) {
    auto more = v.manager->CollectOnce();
    CHECK(more.ok());
    v.scheduler().RunFor(2 * kMinute);
  }
  CHECK(v.Reads(*object));
}

TEST_CASE("leases that last long do not hide the expired ones behind them") {
  TestVolumes v;
  v.options.table.list_lease = 24 * 60 * kMinute;
  v.Restart();
  for (int i = 0; i < 70; ++i) {  // more than are looked at in one round
    auto object = v.WriteOnly(100'000);
    REQUIRE(object.ok());
    wire::AddExtentsRequest add;
    add.extents = object->written.extents;
    add.intents = object->written.intents;
    REQUIRE(v.cluster().AddExtents(add).ok());
  }
  auto left = v.WriteOnly(2'000'000);
  REQUIRE(left.ok());
  v.scheduler().RunFor(20 * kMinute);
  CHECK(v.ShardCount(*left) == 0);
}

TEST_CASE("an extent list that is released, or never used, is taken apart with its blobs") {
  TestVolumes v;
  v.options.table.list_lease = 60 * kMinute;
  v.Restart();
  auto used = v.WriteOnly(2'000'000), unused = v.WriteOnly(2'000'000);
  REQUIRE(used.ok());
  REQUIRE(unused.ok());
  for (TestObject* object : {&*used, &*unused}) {
    wire::AddExtentsRequest add;
    add.extents = object->written.extents;
    add.intents = object->written.intents;
    auto list = v.cluster().AddExtents(add);
    REQUIRE(list.ok());
    object->written.list_id = *list;
  }
  TestObject holder = *used;
  holder.written.extents.clear();
  REQUIRE(v.Commit(holder).ok());
  TestObject late = *unused;
  late.written.extents.clear();
  v.scheduler().RunFor(55 * kMinute);
  CHECK(v.Reads(holder));
  CHECK(v.ShardCount(*unused) > 0);
  v.scheduler().RunFor(8 * kMinute);
  CHECK(v.Reads(holder));
  CHECK(v.ShardCount(*unused) == 0);
  late.written.intents.clear();
  CHECK(v.Commit(late).Is(Code::kStale));
  v.Release(holder);
  v.scheduler().RunFor(2 * kMinute);
  CHECK(v.ShardCount(*used) == 0);
  CHECK(RowsOf(v, kv::Range{ListHeadKey(0), ListHeadKey(~uint64_t{0})}).empty());
}

TEST_CASE("what a crash interrupts is collected afterwards") {
  TestVolumes v;
  TestObject gone = v.Write(2'000'000), kept = v.Write(2'000'000);
  v.Release(gone);
  v.scheduler().RunFor(61 * kSecond);
  v.Stop();
  v.store->Crash();
  v.disk->Crash();
  v.Start();
  v.scheduler().RunFor(kMinute);
  CHECK(v.ShardCount(gone) == 0);
  CHECK(v.Reads(kept));
}

}  // namespace perigee::objectd
