#include "objectd/volume/scrub.h"

#include "base/bytes.h"
#include "objectd/drive/segment.h"
#include "tests/objectd/volume/shard_finder.h"
#include "tests/objectd/volume/volume_fixture.h"

namespace perigee::objectd {
namespace {

using wire::ScrubAction;

wire::ScrubReport Ask(TestVolumes& v, ScrubAction action, uint64_t rate = 0) {
  wire::ScrubRequest request;
  request.action = action;
  request.rate = rate;
  return v.manager->DoScrub(request);
}

wire::ScrubReport RunToEnd(TestVolumes& v) {
  REQUIRE(v.scheduler().RunUntil([&] { return !Ask(v, ScrubAction::kStatus).running; }));
  return Ask(v, ScrubAction::kStatus);
}

RecordPlace PlaceOf(TestVolumes& v, const TestObject& object, uint32_t index) {
  const wire::BlobId blob = TestVolumes::BlobsOf(object)[0];
  auto drive = v.drives->Find(v.table().FindVolume(blob.volume)->drives[index]);
  REQUIRE(drive);
  auto place = FindRecord(*v.disk, drive->dir(), blob, index);
  REQUIRE(place);
  return *place;
}

void Flip(TestVolumes& v, const RecordPlace& place, uint64_t byte) {
  REQUIRE(v.disk->FlipBit(place.path, (place.offset + byte) * 8).ok());
}

}  // namespace

TEST_CASE("scrub reads every shard once, and finds nothing where nothing is wrong") {
  TestVolumes v;
  uint64_t shards = 0;
  for (size_t bytes : {size_t{100}, size_t{70'000}, size_t{3'000'000}, size_t{20'000'000}})
    shards += v.ShardCount(v.Write(bytes));
  auto begun = Ask(v, ScrubAction::kStart);
  CHECK(begun.running);
  CHECK(begun.bytes_total > 30'000'000);
  auto report = RunToEnd(v);
  CHECK(report.checked == shards);
  CHECK(report.bytes == report.bytes_total);
  CHECK(report.damaged == 0);
  CHECK(report.completed >= report.started);
}

TEST_CASE("scrub keeps to its rate, and to another one that it is told while it runs") {
  TestVolumes v;
  TestObject object = v.Write(30'000'000);
  CHECK(v.ShardCount(object) > 0);
  const Nanos begin = v.clock().Monotonic();
  Ask(v, ScrubAction::kStart, 1'000'000);
  v.scheduler().RunFor(10 * kSecond);
  auto report = Ask(v, ScrubAction::kStatus);
  CHECK(report.bytes > 8'000'000);
  CHECK(report.bytes < 20'000'000);
  CHECK(report.running);
  Ask(v, ScrubAction::kStart, 1 << 30);
  report = RunToEnd(v);
  CHECK(report.bytes == report.bytes_total);
  CHECK(v.clock().Monotonic() - begin < 15 * kSecond);
}

TEST_CASE("scrub finds flipped chunks, headers and cut segments, and all is rebuilt") {
  TestVolumes v;
  std::vector<TestObject> objects;
  for (int i = 0; i < 12; i++) objects.push_back(v.Write(500'000));
  Flip(v, PlaceOf(v, objects[0], 0), kPageBytes + 17);      // a data chunk
  Flip(v, PlaceOf(v, objects[1], 5), kPageBytes + 90'000);  // a parity chunk
  Flip(v, PlaceOf(v, objects[2], 3), 70);                   // a header
  {
    const RecordPlace cut = PlaceOf(v, objects[3], 2);
    auto file = v.disk->Open(cut.path, OpenMode::kReadWrite);
    REQUIRE(file.ok());
    REQUIRE((*file)->PunchHole(cut.offset, kPageBytes).ok());
  }
  Ask(v, ScrubAction::kStart);
  auto report = RunToEnd(v);
  CHECK(report.damaged == 4);
  CHECK(report.mended == 4);
  CHECK(report.lost == 0);
  CHECK(report.findings.size() == 4);
  for (const TestObject& object : objects) CHECK(v.Reads(object));
  Ask(v, ScrubAction::kStart);
  report = RunToEnd(v);
  CHECK(report.damaged == 0);
}

TEST_CASE("scrub reports as lost what has more bad shards than parity covers") {
  TestVolumes v;
  TestObject gone = v.Write(500'000), fine = v.Write(500'000);
  for (uint32_t i = 0; i < 3; i++) Flip(v, PlaceOf(v, gone, i), kPageBytes + 1);
  Ask(v, ScrubAction::kStart);
  auto report = RunToEnd(v);
  CHECK(report.damaged == 3);
  CHECK(report.lost == 3);
  CHECK(v.Reads(fine));
  CHECK(v.Read(gone).Is(Code::kCorrupt));
}

TEST_CASE("damage in what nobody wants any more is none") {
  TestVolumes v;
  TestObject object = v.Write(500'000);
  Flip(v, PlaceOf(v, object, 1), kPageBytes + 1);
  v.Release(object);
  REQUIRE(v.store
              ->RunDurable([&](kv::Transaction& txn) {
                for (const wire::BlobId& blob : TestVolumes::BlobsOf(object))
                  txn.Delete(ReferenceKey(blob.volume, blob.seq, object.owner));
                return Status::Ok();
              })
              .ok());
  Ask(v, ScrubAction::kStart);
  auto report = RunToEnd(v);
  CHECK(report.damaged == 0);
}

TEST_CASE("a scrub that a restart interrupts goes on where it was, with what it had found") {
  TestVolumes v;
  std::vector<TestObject> objects;
  for (int i = 0; i < 20; i++) objects.push_back(v.Write(2'000'000));
  uint64_t shards = 0;
  for (const TestObject& object : objects) shards += v.ShardCount(object);
  // More bad than repair mends, so that the finding is still there after the restart.
  for (uint32_t i = 0; i < 3; i++) Flip(v, PlaceOf(v, objects[0], i), kPageBytes + 1);
  Ask(v, ScrubAction::kStart, 1'000'000);
  v.scheduler().RunFor(30 * kSecond);
  const auto before = Ask(v, ScrubAction::kStatus);
  REQUIRE(before.running);
  CHECK(before.bytes > 20'000'000);
  v.Restart();
  const auto after = Ask(v, ScrubAction::kStatus);
  CHECK(after.running);
  CHECK(after.started == before.started);
  CHECK(after.bytes > before.bytes - 8'000'000);
  Ask(v, ScrubAction::kStart, 1 << 30);
  const auto report = RunToEnd(v);
  CHECK(report.checked <= shards + 64);
  CHECK(report.checked >= shards);
  CHECK(report.damaged >= 3);
  CHECK(report.lost >= 3);
}

TEST_CASE("a stopped scrub stays stopped, also after a restart, and the next one begins anew") {
  TestVolumes v;
  TestObject object = v.Write(20'000'000);
  Ask(v, ScrubAction::kStart, 1'000'000);
  v.scheduler().RunFor(5 * kSecond);
  CHECK(!Ask(v, ScrubAction::kStop).running);
  const auto stopped = Ask(v, ScrubAction::kStatus);
  v.scheduler().RunFor(60 * kSecond);
  v.Restart();
  v.scheduler().RunFor(60 * kSecond);
  CHECK(Ask(v, ScrubAction::kStatus).bytes == stopped.bytes);
  Ask(v, ScrubAction::kStart, 1 << 30);
  auto report = RunToEnd(v);
  CHECK(report.checked == v.ShardCount(object));
}

TEST_CASE("scrubs come by themselves, an interval after the last") {
  TestVolumes v;
  TestObject object = v.Write(1'000'000);
  v.Stop();
  v.options.scrub.interval = 600 * kSecond;
  v.Start();
  v.scheduler().RunFor(550 * kSecond);
  CHECK(Ask(v, ScrubAction::kStatus).started == 0);
  v.Restart();  // does not put it off
  v.scheduler().RunFor(100 * kSecond);
  const int64_t first = Ask(v, ScrubAction::kStatus).completed;
  CHECK(first != 0);
  v.scheduler().RunFor(700 * kSecond);
  CHECK(Ask(v, ScrubAction::kStatus).completed > first);
  CHECK(v.Reads(object));
}

TEST_CASE("the row is stored as docs/formats/scrub.md says") {
  ScrubRow row;
  row.report.running = true;
  row.report.checked = 5;
  row.since = 1;
  row.drive = 7;
  row.blob = {1, 2, {}};
  row.index = 3;
  row.volume = 4;
  row.seq = 5;
  CHECK(ScrubKey() == "Ascrub");
  const std::string golden =
      "01"
      "0a0408013005"
      "1002"
      "1807"
      "220408011002"
      "2803"
      "3804"
      "4005";
  CHECK(HexEncode(EncodeScrubRow(row)) == golden);
  auto decoded = DecodeScrubRow(EncodeScrubRow(row));
  REQUIRE(decoded.ok());
  CHECK(EncodeScrubRow(*decoded) == EncodeScrubRow(row));
  CHECK(DecodeScrubRow("").code() == Code::kCorrupt);
  CHECK(DecodeScrubRow("\x02").code() == Code::kUnimplemented);
  CHECK(DecodeScrubRow("\x01\xff").code() == Code::kCorrupt);
}

TEST_CASE("drives that are away are passed over") {
  TestVolumes v;
  TestObject object = v.Write(1'000'000);
  v.Stop();
  v.Hide(2);
  v.Start();
  Ask(v, ScrubAction::kStart);
  auto report = RunToEnd(v);
  CHECK(report.checked == v.ShardCount(object));
  CHECK(report.damaged == 0);
}

TEST_CASE("scrub writes the header of a segment anew that rotted, before a start needs it") {
  TestVolumes v;
  TestObject object = v.Write(500'000);
  const RecordPlace place = PlaceOf(v, object, 2);
  REQUIRE(v.disk->FlipBit(place.path, 8 * 40 + 1).ok());
  AlignedBuffer page(kPageBytes);
  auto file = v.disk->Open(place.path, OpenMode::kRead);
  REQUIRE(file.ok());
  REQUIRE((*file)->ReadAt(0, page.span()).ok());
  REQUIRE(!DecodeSegmentHeader(page.span()).ok());
  Ask(v, ScrubAction::kStart);
  CHECK(RunToEnd(v).damaged == 0);
  REQUIRE((*file)->ReadAt(0, page.span()).ok());
  CHECK(DecodeSegmentHeader(page.span()).ok());
}

}  // namespace perigee::objectd
