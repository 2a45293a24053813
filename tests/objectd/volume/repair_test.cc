#include "objectd/volume/repair.h"

#include "tests/objectd/volume/volume_fixture.h"

namespace perigee::objectd {
namespace {

// Copies, one stripe, several stripes, several blobs.
std::vector<TestObject> SomeObjects(TestVolumes& v) {
  std::vector<TestObject> objects;
  for (size_t bytes : {size_t{1}, size_t{17'000}, size_t{65'536}, size_t{300'000},
                       size_t{2'500'000}, size_t{17'000'000}})
    objects.push_back(v.Write(bytes));
  return objects;
}

bool AllRead(TestVolumes& v, const std::vector<TestObject>& objects) {
  bool all = true;
  for (const TestObject& object : objects) all = v.Reads(object) && all;
  return all;
}

}  // namespace

TEST_CASE("every pair of drives may be lost, and objects read and are written all the same") {
  TestVolumes v;
  std::vector<TestObject> objects = SomeObjects(v);
  int pairs = 0;
  for (size_t a = 1; a <= 6; a++) {
    for (size_t b = a + 1; b <= 6; b++) {
      CAPTURE(a);
      CAPTURE(b);
      v.Stop();
      v.Hide(a);
      v.Hide(b);
      v.Start();
      CHECK(AllRead(v, objects));
      TestObject meanwhile = v.Write(400'000);
      CHECK(v.Reads(meanwhile));
      v.Stop();
      v.Unhide(a);
      v.Unhide(b);
      v.Start();
      CHECK(v.Reads(meanwhile));
      REQUIRE(v.RunUntilAllOnline(6));
      pairs++;
    }
  }
  CHECK(pairs == 15);
}

TEST_CASE("a replaced drive is filled, takes its place, and then two others may be lost") {
  TestVolumes v;
  std::vector<TestObject> objects = SomeObjects(v);
  std::map<size_t, size_t> shards;
  for (size_t i = 0; i < objects.size(); i++) shards[i] = v.ShardCount(objects[i]);
  v.Stop();
  v.Wipe(4);
  v.Start();
  const uint64_t old_id = v.drives->Slots()[3].drive_id;
  CHECK(v.table().StateOf(old_id) == wire::DriveState::kLost);
  TestObject meanwhile = v.Write(5'000'000);
  auto replaced = v.manager->DriveReplace("/d4");
  REQUIRE_MESSAGE(replaced.ok(), replaced.status().ToString());
  CHECK(replaced->state == wire::DriveState::kRepairing);

  SUBCASE("in one go") {}
  SUBCASE("across restarts") {
    for (int i = 0; i < 5; i++) {
      v.scheduler().RunFor(200 * kMicrosecond);
      v.Restart();
    }
  }
  REQUIRE(v.RunUntilAllOnline(6));
  for (const VolumeRecord& volume : v.table().Volumes())
    CHECK(std::count(volume.drives.begin(), volume.drives.end(), old_id) == 0);
  for (size_t i = 0; i < objects.size(); i++) CHECK(v.ShardCount(objects[i]) == shards[i]);

  v.Stop();
  v.Hide(1);
  v.Hide(6);
  v.Start();
  CHECK(AllRead(v, objects));
  CHECK(v.Reads(meanwhile));
}

TEST_CASE("two lost drives are replaced one after the other") {
  TestVolumes v;
  std::vector<TestObject> objects = SomeObjects(v);
  v.Stop();
  v.Wipe(2);
  v.Wipe(3);
  v.Start();
  REQUIRE(v.manager->DriveReplace("/d2").ok());
  v.scheduler().RunFor(5 * kSecond);
  REQUIRE(v.manager->DriveReplace("/d3").ok());
  REQUIRE(v.RunUntilAllOnline(6));
  v.Stop();
  v.Hide(4);
  v.Hide(5);
  v.Start();
  CHECK(AllRead(v, objects));
}

TEST_CASE("a drive that returns loses what was deleted meanwhile and gets what was written") {
  TestVolumes v;
  TestObject deleted = v.Write(3'000'000), kept = v.Write(3'000'000);
  size_t full = v.ShardCount(kept);
  v.Stop();
  v.Hide(2);
  v.Start();
  v.Release(deleted);
  v.scheduler().RunFor(2 * 60 * kSecond);
  CHECK(v.ShardCount(deleted) == 0);
  v.Stop();
  v.Unhide(2);
  v.Start();
  CHECK(v.ShardCount(deleted) > 0);
  REQUIRE(v.RunUntilAllOnline(6));
  CHECK(v.ShardCount(deleted) > 0);  // its lease may still be used
  v.scheduler().RunFor(20 * 60 * kSecond);
  CHECK(v.ShardCount(deleted) == 0);
  CHECK(v.ShardCount(kept) == full);
  CHECK(v.Reads(kept));
}

TEST_CASE("shards that nothing refers to are removed from a drive that returns after their lease") {
  TestVolumes v;
  TestObject deleted = v.Write(3'000'000);
  v.Stop();
  v.Hide(2);
  v.Start();
  v.Release(deleted);
  v.scheduler().RunFor(20 * 60 * kSecond);
  v.Stop();
  v.Unhide(2);
  v.Start();
  CHECK(v.ShardCount(deleted) > 0);
  REQUIRE(v.RunUntilAllOnline(6));
  CHECK(v.ShardCount(deleted) == 0);
}

TEST_CASE("a reported shard is rebuilt when it is bad, and left alone when it is not") {
  TestVolumes v;
  TestObject object = v.Write(1'000'000);
  const wire::BlobId blob = TestVolumes::BlobsOf(object)[0];
  auto volume = v.table().FindVolume(blob.volume);
  REQUIRE(volume);
  REQUIRE(v.drives->Find(volume->drives[1])->DeleteShard(blob, 1).ok());
  CHECK(v.ShardsOf(blob).size() == 5);
  wire::VolumeReportRequest report;
  report.blob = blob;
  report.bad_shards = {1, 2, 99};
  v.cluster().Report(report);
  CHECK(v.scheduler().RunUntil([&] { return v.ShardsOf(blob).size() == 6; }));
  v.scheduler().RunFor(kSecond);
  wire::ObjectdStatusReply status;
  v.manager->FillStatus(&status);
  for (const wire::NamedCount& counter : status.counters)
    if (counter.name == "shards_rebuilt") CHECK(counter.value == 1);
  CHECK(status.blobs_to_repair == 0);
}

TEST_CASE("reading a flipped chunk repairs it") {
  TestVolumes v;
  TestObject object = v.Write(1'000'000);
  const wire::BlobId blob = TestVolumes::BlobsOf(object)[0];
  auto volume = v.table().FindVolume(blob.volume);
  REQUIRE(volume);
  auto drive = v.drives->Find(volume->drives[0]);
  // The first record of the first segment: two pages in, its payload begins.
  REQUIRE(v.disk->FlipBit(drive->dir() + "/segments/00000001.seg", (2 * kPageBytes + 5) * 8).ok());
  CHECK(v.Reads(object));
  CHECK(v.scheduler().RunUntil([&] {
    wire::ShardReadRequest request;
    request.drive_id = drive->id();
    request.blob = blob;
    request.length = 4096;
    auto data = drive->ReadShard(request);
    return data.ok() &&
           std::equal(data->bytes.data(), data->bytes.data() + 4096, object.bytes.data(),
                      [](uint8_t a, char b) { return a == static_cast<uint8_t>(b); });
  }));
}

TEST_CASE("a blob beyond repair is counted and does not hold up the rest") {
  TestVolumes v;
  TestObject lost = v.Write(1'000'000), fine = v.Write(1'000'000);
  const wire::BlobId blob = TestVolumes::BlobsOf(lost)[0];
  auto volume = v.table().FindVolume(blob.volume);
  REQUIRE(volume);
  const uint64_t fourth = v.drives->Slots()[3].drive_id;
  int removed = 0;
  for (uint32_t i = 0; i < 6 && removed < 3; i++) {
    if (volume->drives[i] == fourth) continue;
    REQUIRE(v.drives->Find(volume->drives[i])->DeleteShard(blob, i).ok());
    removed++;
  }
  v.Stop();
  v.Wipe(4);
  v.Start();
  REQUIRE(v.manager->DriveReplace("/d4").ok());
  REQUIRE(v.RunUntilAllOnline(6));
  CHECK(v.Read(lost).Is(Code::kCorrupt));
  CHECK(v.Reads(fine));
  wire::ObjectdStatusReply status;
  v.manager->FillStatus(&status);
  bool counted = false;
  for (const wire::NamedCount& counter : status.counters)
    counted |= counter.name == "blobs_unrepairable" && counter.value == 1;
  CHECK(counted);
}

TEST_CASE("shards left out by a writer with an old lease are found when the leases are over") {
  TestVolumes v;
  TestObject object = v.Write(1'000'000);
  const wire::BlobId blob = TestVolumes::BlobsOf(object)[0];
  v.Stop();
  v.Hide(3);
  v.Start();
  v.Stop();
  v.Unhide(3);
  v.Start();
  REQUIRE(v.RunUntilAllOnline(6));
  auto volume = v.table().FindVolume(blob.volume);
  REQUIRE(volume);
  CHECK(volume->verify_after > v.clock().Wall());
  // As if such a writer had left this one out.
  REQUIRE(v.drives->Find(volume->drives[5])->DeleteShard(blob, 5).ok());
  v.scheduler().RunFor(16 * 60 * kSecond);
  CHECK(v.ShardsOf(blob).size() == 6);
  CHECK(v.table().FindVolume(blob.volume)->verify_after == 0);
}

}  // namespace perigee::objectd
