#include "objectd/volume/fsck_drives.h"

#include "client/blob/geometry.h"
#include "tests/objectd/volume/shard_finder.h"
#include "tests/objectd/volume/volume_fixture.h"

namespace perigee::objectd {
namespace {

using wire::FsckCheck;
using wire::FsckKind;

std::vector<wire::FsckFinding> RunAll(TestVolumes& v, bool repair = false) {
  std::vector<wire::FsckFinding> all;
  for (FsckCheck check : {FsckCheck::kDrift, FsckCheck::kShards, FsckCheck::kOrphans}) {
    wire::FsckRequest q;
    q.check = check;
    q.repair = repair;
    while (true) {
      auto reply = v.manager->Fsck(q);
      REQUIRE_MESSAGE(reply.ok(), reply.status().ToString());
      all.insert(all.end(), reply->findings.begin(), reply->findings.end());
      if (reply->end) break;
      REQUIRE(reply->cursor > q.cursor);
      q.cursor = reply->cursor;
    }
  }
  return all;
}

// Exactly these, in the order of the checks.
void CheckFinds(TestVolumes& v, std::vector<FsckKind> kinds) {
  for (int look = 0; look < 2; look++) {  // reading changes nothing
    std::vector<FsckKind> found;
    for (const auto& f : RunAll(v)) {
      INFO(f.what);
      found.push_back(f.kind);
      CHECK(!f.mended);
    }
    CHECK(found == kinds);
  }
}

// Leases and grace that pass in little manual time, of which every second costs a tick.
void Hurry(TestVolumes& v) {
  v.Stop();
  v.options.table.lease = 20 * kSecond;
  v.options.collector.grace = 5 * kSecond;
  v.Start();
}

std::shared_ptr<Drive> HolderOf(TestVolumes& v, const wire::BlobId& blob, uint32_t index) {
  auto drive = v.drives->Find(v.table().FindVolume(blob.volume)->drives[index]);
  REQUIRE(drive);
  return drive;
}

void RepairToClean(TestVolumes& v) {
  for (int round = 0; round < 10; round++) {
    auto found = RunAll(v, true);
    if (found.empty()) return;
    for (const auto& f : found) CHECK_MESSAGE(f.mended, f.what);
    v.scheduler().RunFor(5 * kSecond);
  }
  FAIL("not mended after ten rounds");
}

}  // namespace

TEST_CASE("fsck of drives finds nothing where all is well, copies and stripes alike") {
  TestVolumes v;
  Hurry(v);
  std::vector<TestObject> objects;
  for (size_t bytes : {size_t{1}, size_t{60'000}, size_t{70'000}, size_t{9'000'000}})
    objects.push_back(v.Write(bytes));
  auto leased = v.WriteOnly(500'000);
  REQUIRE(leased.ok());
  CheckFinds(v, {});
  v.Release(objects[3]);
  CheckFinds(v, {});  // garbage that waits for its grace
  v.scheduler().RunFor(60 * kSecond);
  CheckFinds(v, {});
}

TEST_CASE("a missing shard is found and rebuilt") {
  TestVolumes v;
  for (size_t bytes : {size_t{500'000}, size_t{3'000}}) {
    TestObject object = v.Write(bytes);
    const wire::BlobId blob = TestVolumes::BlobsOf(object)[0];
    const size_t all = v.ShardCount(object);
    REQUIRE(HolderOf(v, blob, 1)->DeleteShard(blob, 1).ok());
    CheckFinds(v, {FsckKind::kMissingShard});
    RepairToClean(v);
    CHECK(v.ShardCount(object) == all);
    CHECK(v.Reads(object));
  }
}

TEST_CASE("shards that nothing refers to are found and collected") {
  TestVolumes v;
  TestObject kept = v.Write(500'000);
  auto orphan = v.WriteOnly(500'000);
  REQUIRE(orphan.ok());
  // As if its lease had been lost instead of expired.
  REQUIRE(v.store
              ->RunDurable([&](kv::Transaction& txn) {
                for (uint64_t intent : orphan->written.intents) txn.Delete(IntentKey(intent));
                return Status::Ok();
              })
              .ok());
  REQUIRE(v.ShardCount(*orphan) == 6);
  CheckFinds(v, std::vector<FsckKind>(6, FsckKind::kOrphanBlob));
  RepairToClean(v);
  v.scheduler().RunFor(120 * kSecond);
  CHECK(v.ShardCount(*orphan) == 0);
  CHECK(v.Reads(kept));
}

TEST_CASE("a shard in a place that is not its own is found and deleted") {
  TestVolumes v;
  Hurry(v);
  v.scheduler().RunFor(kSecond);  // drives are looked through after a start
  TestObject object = v.Write(500'000);
  const wire::BlobId blob = TestVolumes::BlobsOf(object)[0];
  wire::ShardReadRequest request;
  request.blob = blob;
  request.index = 0;
  auto head = HolderOf(v, blob, 0)->ReadShard(request);
  REQUIRE(head.ok());
  request.length = client::Geometry::Of(head->header.blob_bytes, 4, 2).shard_bytes();
  auto shard = HolderOf(v, blob, 0)->ReadShard(request);
  REQUIRE(shard.ok());
  REQUIRE(HolderOf(v, blob, 3)->WriteShard(shard->header, shard->bytes.span()).ok());
  CheckFinds(v, {});  // while it is leased, a writer may be at it
  v.scheduler().RunFor(60 * kSecond);
  CheckFinds(v, {FsckKind::kOrphanBlob});
  RepairToClean(v);
  CHECK(v.ShardCount(object) == 6);
  CHECK(v.Reads(object));
}

TEST_CASE("an index entry whose record is gone is found, and the shard rebuilt") {
  TestVolumes v;
  TestObject object = v.Write(500'000), other = v.Write(500'000);
  const wire::BlobId blob = TestVolumes::BlobsOf(object)[0];
  auto place = FindRecord(*v.disk, HolderOf(v, blob, 2)->dir(), blob, 2);
  REQUIRE(place);
  auto file = v.disk->Open(place->path, OpenMode::kReadWrite);
  REQUIRE(file.ok());
  REQUIRE((*file)->PunchHole(place->offset, kPageBytes).ok());
  CheckFinds(v, {FsckKind::kIndexDrift});
  RepairToClean(v);
  CHECK(v.ShardCount(object) == 6);
  CHECK(v.Reads(object));
  CHECK(v.Reads(other));
}

TEST_CASE("a running load gives no false alarm") {
  TestVolumes v;
  Hurry(v);
  std::vector<TestObject> objects;
  Random random(7);
  for (int step = 0; step < 20; step++) {
    if (objects.size() < 4 || random.Below(2) == 0) {
      objects.push_back(v.Write(1 + random.Below(400'000)));
    } else {
      const size_t i = random.Below(objects.size());
      v.Release(objects[i]);
      objects.erase(objects.begin() + static_cast<ptrdiff_t>(i));
    }
    if (step == 8) {
      v.Stop();
      v.Hide(3);
      v.Start();
    }
    if (step == 13) {
      v.Stop();
      v.Unhide(3);
      v.Start();
      REQUIRE(v.RunUntilAllOnline(6));
    }
    v.scheduler().RunFor(static_cast<Nanos>(random.Below(3000)) * kMillisecond);
    for (const auto& f : RunAll(v)) FAIL_CHECK(f.what);
  }
}

}  // namespace perigee::objectd
