#include "objectd/volume/volume_table.h"

#include "tests/objectd/volume/volume_fixture.h"

namespace perigee::objectd {

TEST_CASE("a new cluster gets its volumes, once") {
  TestVolumes v;
  CHECK(v.table().Volumes().size() == 6);
  auto first = v.table().Volumes()[0].drives;
  v.Restart();
  CHECK(v.table().Volumes().size() == 6);
  CHECK(v.table().Volumes()[0].drives == first);
  CHECK(v.DrivesOnline() == 6);
}

TEST_CASE("sequences and intents are never given twice, also across a crash") {
  TestVolumes v;
  std::set<std::pair<uint32_t, uint64_t>> blobs;
  std::set<uint64_t> intents;
  for (int round = 0; round < 4; round++) {
    for (uint64_t i = 0; i < 20; i++) {
      wire::LeaseRequest request;
      request.count = 1 + i % 5;
      request.spread = i;
      auto lease = v.cluster().Lease(request);
      REQUIRE(lease.ok());
      CHECK(lease->count == request.count);
      CHECK(intents.insert(lease->intent).second);
      for (uint64_t n = 0; n < lease->count; n++)
        CHECK(blobs.insert({lease->volume.volume, lease->first_seq + n}).second);
    }
    v.Stop();
    v.store->Crash();
    v.Start();
  }
}

TEST_CASE("equal spreads lease from equal volumes") {
  TestVolumes v;
  std::set<uint32_t> volumes;
  for (uint64_t spread = 0; spread < 40; spread++) {
    wire::LeaseRequest request;
    request.spread = spread;
    auto a = v.cluster().Lease(request), b = v.cluster().Lease(request);
    REQUIRE(a.ok());
    REQUIRE(b.ok());
    CHECK(a->volume.volume == b->volume.volume);
    volumes.insert(a->volume.volume);
  }
  CHECK(volumes.size() == 6);
}

TEST_CASE(
    "with drives gone leases go to narrower volumes of the same parity, and back when they "
    "return") {
  TestVolumes v;
  auto width = [&] {
    auto lease = v.cluster().Lease({});
    return lease.ok() ? std::pair<uint32_t, uint32_t>(lease->volume.k, lease->volume.m)
                      : std::pair<uint32_t, uint32_t>(0, 0);
  };
  CHECK(width() == std::pair<uint32_t, uint32_t>(4, 2));
  uint64_t epoch = v.table().Map()->epoch;
  auto slots = v.drives->Slots();
  for (uint32_t left : {3, 2, 1}) {
    slots[left].drive->SetOffline("test");
    REQUIRE(v.table().SyncWithDrives().ok());
    CHECK(width() == std::pair<uint32_t, uint32_t>(left, 2));
    CHECK(v.table().Map()->epoch > epoch);
    epoch = v.table().Map()->epoch;
  }
  slots[0].drive->SetOffline("test");
  REQUIRE(v.table().SyncWithDrives().ok());
  CHECK(v.cluster().Lease({}).code() == Code::kUnavailable);
  size_t volumes = v.table().Volumes().size();
  v.Restart();
  CHECK(v.RunUntilAllOnline(6));
  CHECK(width() == std::pair<uint32_t, uint32_t>(4, 2));
  CHECK(v.table().Volumes().size() == volumes);
}

TEST_CASE(
    "a drive that fails a write is recorded before the writer hears of it, and stays recorded") {
  TestVolumes v;
  const DriveSlot slot = v.drives->Slots()[1];
  v.disk->SetFault([](std::string_view op, const std::string& path) {
    return op == "sync" && path.starts_with("/d2/") ? Status(Code::kIo, "injected") : Status::Ok();
  });
  wire::ShardHeader header;
  header.blob = {1, 1};
  uint64_t epoch = v.table().Map()->epoch;
  CHECK(v.cluster().WriteShard(slot.drive_id, header, AsBytes("bytes")).Is(Code::kUnavailable));
  v.disk->SetFault(nullptr);
  auto map = v.cluster().Map(epoch + 1);
  REQUIRE(map.ok());
  CHECK((*map)->epoch > epoch);
  REQUIRE((*map)->FindDrive(slot.drive_id));
  CHECK((*map)->FindDrive(slot.drive_id)->state == wire::DriveState::kOffline);
  CHECK((*map)->FindDrive(slot.drive_id)->reason.find("injected") != std::string::npos);
  v.store->Crash();
  auto again = VolumeTable::Create({}, v.store.get(), v.drives.get(), &v.clock());
  REQUIRE(again.ok());
  CHECK((*again)->StateOf(slot.drive_id) == wire::DriveState::kOffline);
}

TEST_CASE("an object is written while drives fail, and read back without them") {
  TestVolumes v;
  v.disk->SetFault([](std::string_view op, const std::string& path) {
    return op == "sync" && path.ends_with(".seg") &&
                   (path.starts_with("/d2/") || path.starts_with("/d5/"))
               ? Status(Code::kIo, "injected")
               : Status::Ok();
  });
  TestObject object = v.Write(3 << 20);
  TestObject small = v.Write(20'000);
  CHECK(v.Reads(object));
  CHECK(v.Reads(small));
  v.disk->SetFault(nullptr);
  CHECK(v.DrivesOnline() == 4);
}

TEST_CASE("extent lists come back in order, from any offset, in pages") {
  TestVolumes v;
  wire::AddExtentsRequest add;
  for (uint64_t i = 0; i < 40; i++) {
    wire::Extent e;
    e.offset = i * 100;
    e.length = 100;
    e.volume = 1;
    e.first_seq = 1000 + i;
    e.count = 1;
    e.blob_bytes = 100;
    add.extents.push_back(e);
  }
  auto list = v.cluster().AddExtents(add);
  REQUIRE(list.ok());
  wire::GetExtentsRequest get;
  get.list_id = *list;
  get.offset = 1050;
  get.limit = 20;
  auto page = v.cluster().GetExtents(get);
  REQUIRE(page.ok());
  CHECK(page->extents.size() == 20);
  CHECK(page->extents[0].first_seq == 1010);
  CHECK_FALSE(page->end);
  get.offset = 3000;
  page = v.cluster().GetExtents(get);
  REQUIRE(page.ok());
  CHECK(page->extents.size() == 10);
  CHECK(page->end);
  get.list_id = 12345;
  CHECK(v.cluster().GetExtents(get).code() == Code::kNotFound);
}

}  // namespace perigee::objectd
