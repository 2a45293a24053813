#include <doctest/doctest.h>

#include "base/failpoint.h"
#include "blob_fixture.h"
#include "client/blob/geometry.h"
#include "client/blob/lease_source.h"

using namespace perigee;
using namespace perigee::client;

namespace {

constexpr uint64_t kFull = 16 << 20;  // of 4+2

using Notice = FakeCluster::Notice;

}  // namespace

TEST_CASE("objects of every size class are read back as they were written") {
  BlobFixture f;
  f.cluster->AddVolume(4, 2);
  for (uint64_t bytes :
       {uint64_t{0}, uint64_t{1}, uint64_t{65535}, uint64_t{65536}, uint64_t{300'001},
        uint64_t{1} << 20, kFull, kFull + 1, 2 * kFull + 777'777}) {
    for (uint64_t hint : {uint64_t{0}, bytes, bytes / 2, bytes * 3}) {
      CAPTURE(bytes);
      CAPTURE(hint);
      std::vector<uint8_t> data = RandomBytes(bytes, bytes + 1);
      auto object = f.Write(data, {.size_hint = hint}, hint == bytes ? 256 << 10 : 0);
      REQUIRE(object.ok());
      CHECK(object->bytes == bytes);
      CHECK(object->extents.size() == (bytes > 0 ? 1 : 0));
      CHECK(f.ReadAndCompare(*object, data) == Code::kOk);
    }
  }
  CHECK(f.slabs->BytesInUse() == 0);
}

TEST_CASE("a known size is leased at once and becomes one extent under one intent") {
  BlobFixture f;
  f.cluster->AddVolume(4, 2);
  std::vector<uint8_t> data = RandomBytes(3 * kFull + 5);
  auto object = f.Write(data, {.size_hint = data.size()});
  REQUIRE(object.ok());
  REQUIRE(object->extents.size() == 1);
  CHECK(object->extents[0].count == 4);
  CHECK(object->extents[0].blob_bytes == kFull);
  CHECK(object->intents.size() == 1);
  CHECK(f.cluster->counts.leases == 1);
  CHECK(f.cluster->lease_requests[0].count == 4);
  CHECK(f.cluster->lease_requests[0].node == 7);
  CHECK(f.Counter("perigee_blob_bytes_written_total") == static_cast<double>(data.size()));
}

TEST_CASE("leases grow for a stream of unknown length") {
  BlobFixture f;
  f.cluster->AddVolume(4, 2);
  auto object = f.Write(RandomBytes(4 * kFull));
  REQUIRE(object.ok());
  std::vector<uint32_t> asked;
  for (const auto& r : f.cluster->lease_requests) asked.push_back(r.count);
  CHECK(asked == std::vector<uint32_t>{1, 2, 4});
  CHECK(object->intents.size() == 3);
  CHECK(object->extents.size() == 1);  // the sequences happen to follow each other
}

TEST_CASE("small objects are copies on the first M+1 drives") {
  BlobFixture f;
  uint32_t v = f.cluster->AddVolume(4, 2);
  std::vector<uint8_t> data = RandomBytes(20'000);
  auto object = f.Write(data);
  REQUIRE(object.ok());
  CHECK(f.cluster->shards_.size() == 3);
  FakeCluster::Stored* copy = f.cluster->Find(v, object->extents[0].first_seq, 2);
  REQUIRE(copy);
  CHECK(copy->header.k == 1);
  CHECK(copy->header.m == 2);
  CHECK(copy->header.blob_bytes == 20'000);
  CHECK(std::equal(data.begin(), data.end(), copy->bytes.begin()));
}

TEST_CASE("drives recorded as gone are skipped, up to M of them") {
  BlobFixture f;
  uint32_t v = f.cluster->AddVolume(4, 2);
  f.cluster->LoseDrive(f.cluster->DriveOf(v, 0), wire::DriveState::kOffline, Notice::kRecorded);
  std::vector<uint8_t> data = RandomBytes(2'000'000);
  auto object = f.Write(data);
  REQUIRE(object.ok());
  CHECK(f.cluster->counts.writes == 5);
  CHECK(f.cluster->reports.empty());
  CHECK(f.ReadAndCompare(*object, data) == Code::kOk);

  // K + 1 shards are the least: with two gone of 4+2 no write counts any more.
  f.cluster->LoseDrive(f.cluster->DriveOf(v, 1), wire::DriveState::kLost, Notice::kRecorded);
  f.cluster->counts = {};
  CHECK(f.Write(data).code() == Code::kUnavailable);
  CHECK(f.cluster->counts.writes == 0);
  CHECK(f.ReadAndCompare(*object, data) == Code::kOk);
}

TEST_CASE("a shard that fails counts once the map records its drive as not online") {
  BlobFixture f;
  uint32_t v = f.cluster->AddVolume(4, 2);
  f.cluster->LoseDrive(f.cluster->DriveOf(v, 3), wire::DriveState::kOffline, Notice::kOnRefresh);
  std::vector<uint8_t> data = RandomBytes(1'000'000);
  auto object = f.Write(data);
  REQUIRE(object.ok());
  CHECK(f.cluster->counts.map_refreshes == 1);
  CHECK(f.cluster->counts.leases == 1);
  REQUIRE(f.cluster->reports.size() == 1);
  CHECK(f.cluster->reports[0].bad_shards == std::vector<uint32_t>{3});
  CHECK(f.ReadAndCompare(*object, data) == Code::kOk);
}

TEST_CASE("a shard that fails on a drive still online sends the blob to another volume") {
  BlobFixture f;
  uint32_t bad = f.cluster->AddVolume(4, 2);
  f.cluster->AddVolume(4, 2);
  f.cluster->RefuseWrites(f.cluster->DriveOf(bad, 5), Code::kNoSpace, 1'000);
  for (int i = 0; i < 6; ++i) {  // whichever volume each is given first
    std::vector<uint8_t> data =
        RandomBytes(i == 0 ? kFull + 900'000 : 900'000, static_cast<uint64_t>(i));
    auto object = f.Write(data, {.size_hint = data.size()});
    REQUIRE(object.ok());
    for (const wire::Extent& e : object->extents) CHECK(e.volume != bad);
    CHECK(f.ReadAndCompare(*object, data) == Code::kOk);
    f.scheduler->RunFor(kSecond);  // another spread
  }
  CHECK(f.slabs->BytesInUse() == 0);
}

TEST_CASE("with nowhere else to go the error of the drive comes back, in bounded time") {
  BlobFixture f;
  uint32_t v = f.cluster->AddVolume(4, 2);
  f.cluster->RefuseWrites(f.cluster->DriveOf(v, 5), Code::kNoSpace, 1'000'000);
  Nanos before = f.scheduler->clock().Monotonic();
  auto object = f.Write(RandomBytes(1'000'000));
  CHECK(object.code() == Code::kNoSpace);
  CHECK(object.status().message().find("shard 5") != std::string::npos);
  CHECK(f.scheduler->clock().Monotonic() - before < 5 * kSecond);
  CHECK(f.slabs->BytesInUse() == 0);
}

TEST_CASE("a drive that is busy for a moment is asked again") {
  BlobFixture f;
  uint32_t v = f.cluster->AddVolume(4, 2);
  f.cluster->RefuseWrites(f.cluster->DriveOf(v, 1), Code::kBusy, 3);
  auto object = f.Write(RandomBytes(1'000'000));
  REQUIRE(object.ok());
  CHECK(f.cluster->counts.leases == 1);
  CHECK(f.cluster->counts.writes == 9);
}

TEST_CASE("a blob moves to a volume of a narrower profile, in several blobs if need be") {
  BlobFixture f;
  uint32_t wide = f.cluster->AddVolume(4, 2);
  std::vector<uint8_t> data = RandomBytes(kFull + 3'000'000);
  std::optional<Result<WrittenObject>> object;
  f.Run([&] {
    auto writer = BlobWriter::Create(f.deps(), {.size_hint = data.size()});
    // Half a blob in, the wide volume fills up and a narrow one takes its place.
    Status st = writer->Append(ConstBytes(data).first(1 << 20));
    f.cluster->RefuseWrites(f.cluster->DriveOf(wide, 2), Code::kNoSpace, 1'000);
    f.cluster->SetWritable(wide, false);
    f.cluster->AddVolume(2, 2);
    if (st.ok()) st = writer->Append(ConstBytes(data).subspan(1 << 20));
    if (!st.ok())
      object.emplace(std::move(st));
    else
      object.emplace(writer->Finish());
  });
  REQUIRE(object->ok());
  uint64_t blobs = 0;
  for (const wire::Extent& e : (*object)->extents) {
    CHECK(e.volume != wide);
    CHECK(e.blob_bytes == 8 << 20);
    blobs += e.count;
  }
  CHECK(blobs == 3);
  CHECK(f.ReadAndCompare(**object, data) == Code::kOk);
  CHECK(f.slabs->BytesInUse() == 0);
}

TEST_CASE("no more blobs are in flight than asked for") {
  BlobFixture f(3, 512 << 20);
  f.cluster->AddVolume(4, 2);
  f.cluster->HoldWrites(true);
  uint64_t appended = 0;
  bool done = false;
  REQUIRE(f.scheduler
              ->Post([&] {
                auto writer = BlobWriter::Create(f.deps(), {.blobs_in_flight = 2});
                std::vector<uint8_t> data(kFull, 1);
                for (int i = 0; i < 6; ++i) {
                  if (!writer->Append(data).ok()) return;
                  appended += data.size();
                }
                done = writer->Finish().ok();
              })
              .ok());
  f.scheduler->RunUntil([&] { return f.cluster->WritesHeld() == 12; });
  f.scheduler->RunFor(kSecond);
  CHECK(f.cluster->WritesHeld() == 12);  // two blobs of six shards
  CHECK(appended == 2 * kFull);
  f.cluster->HoldWrites(false);
  f.scheduler->RunUntil([&] { return done; });
  CHECK(done);
}

TEST_CASE("a writer that is dropped waits for its shards and frees its memory") {
  BlobFixture f;
  f.cluster->AddVolume(4, 2);
  f.cluster->HoldWrites(true);
  bool dropped = false;
  Status appended;
  REQUIRE(f.scheduler
              ->Post([&] {
                auto writer = BlobWriter::Create(f.deps(), {});
                appended = writer->Append(std::vector<uint8_t>(kFull + 100, 1));
                writer.reset();
                dropped = true;
              })
              .ok());
  f.scheduler->RunUntil([&] { return f.cluster->WritesHeld() == 6; });
  f.scheduler->RunFor(kSecond);
  CHECK(!dropped);
  f.cluster->HoldWrites(false);
  f.scheduler->RunUntil([&] { return dropped; });
  CHECK(dropped);
  CHECK(appended.ok());
  CHECK(f.slabs->BytesInUse() == 0);
}

TEST_CASE("cancelling ends the write between blobs, and failure is final") {
  BlobFixture f;
  f.cluster->AddVolume(4, 2);
  bool cancelled = false;
  std::vector<Code> codes;
  f.Run([&] {
    auto writer = BlobWriter::Create(f.deps(), {.cancelled = [&] { return cancelled; }});
    std::vector<uint8_t> data(kFull, 1);
    codes.push_back(writer->Append(data).code());
    cancelled = true;
    codes.push_back(writer->Append(data).code());
    cancelled = false;
    codes.push_back(writer->Append(data).code());
    codes.push_back(writer->Reserve(1).code());
    codes.push_back(writer->Finish().code());
  });
  CHECK(codes == std::vector<Code>{Code::kOk, Code::kCancelled, Code::kCancelled, Code::kCancelled,
                                   Code::kCancelled});
}

TEST_CASE(
    "leases of what is not finished, or given up, ride on the next lease; those of the rest do "
    "not") {
  BlobFixture f;
  f.cluster->AddVolume(4, 2);
  BlobIoDeps deps = f.deps();
  deps.given_up = std::make_shared<GivenUpLeases>();
  std::vector<uint8_t> data(1'000'000, 1);
  std::vector<std::vector<uint64_t>> finished;
  auto write = [&](bool finish, bool give_up) {
    auto writer = BlobWriter::Create(deps, {});
    CHECK(writer->Append(data).ok());
    if (!finish) return;
    auto object = writer->Finish();
    REQUIRE(object.ok());
    finished.push_back(object->intents);
    if (give_up) writer->GiveUp();
  };
  f.Run([&] {
    write(true, false);
    write(false, false);
    write(true, true);
    write(true, false);
  });
  auto& requests = f.cluster->lease_requests;
  REQUIRE(requests.size() == 4);
  CHECK(requests[1].given_up.empty());
  CHECK(requests[2].given_up == std::vector<uint64_t>{finished[0][0] + 1});
  CHECK(requests[3].given_up == finished[1]);
  CHECK(deps.given_up->Take(10).empty());
}

TEST_CASE(
    "a lease whose blobs all went to another volume is given up once the object is finished") {
  BlobFixture f;
  uint32_t refuses = f.cluster->AddVolume(4, 2);
  f.cluster->RefuseWrites(f.cluster->DriveOf(refuses, 5), Code::kNoSpace, 1'000);
  BlobIoDeps deps = f.deps();
  deps.given_up = std::make_shared<GivenUpLeases>();
  std::vector<uint64_t> used;
  f.Run([&] {
    auto writer = BlobWriter::Create(deps, {});
    CHECK(writer->Append(std::vector<uint8_t>(1'000'000, 1)).ok());
    f.cluster->AddVolume(4, 2);
    auto object = writer->Finish();
    REQUIRE(object.ok());
    used = object->intents;
  });
  std::vector<uint64_t> given_up = deps.given_up->Take(100);
  REQUIRE(used.size() == 1);
  CHECK(used.size() + given_up.size() == f.cluster->lease_requests.size());
  CHECK(!given_up.empty());
  CHECK(std::find(given_up.begin(), given_up.end(), used[0]) == given_up.end());
}

TEST_CASE("leases whose commit is over go back by themselves") {
  BlobFixture f;
  f.cluster->AddVolume(4, 2);
  auto given_up = std::make_shared<GivenUpLeases>();
  { HeldLeases held(given_up, {7, 8}); }
  CHECK(ReturnGivenUp(*f.cluster, *given_up, 3, 4).ok());
  REQUIRE(f.cluster->lease_requests.size() == 1);
  const wire::LeaseRequest& request = f.cluster->lease_requests[0];
  CHECK(request.count == 0);
  CHECK(request.node == 3);
  CHECK(request.given_up == std::vector<uint64_t>{7, 8});
  CHECK(ReturnGivenUp(*f.cluster, *given_up, 3, 4).ok());  // there are none left
  CHECK(f.cluster->lease_requests.size() == 1);
}

TEST_CASE("leases that could not be given up because the request failed are given up later") {
  BlobFixture f;
  uint32_t v = f.cluster->AddVolume(4, 2);
  BlobIoDeps deps = f.deps();
  deps.given_up = std::make_shared<GivenUpLeases>();
  deps.given_up->Add({77, 78});
  f.cluster->SetWritable(v, false);
  f.Run([&] {
    auto writer = BlobWriter::Create(deps, {});
    CHECK(writer->Append(std::vector<uint8_t>(1000, 1)).Is(Code::kUnavailable));
  });
  CHECK(deps.given_up->Take(1).size() == 1);
  CHECK(deps.given_up->Take(10).size() == 1);
}

TEST_CASE("a shard that fails after its writer was cancelled is nobody's business any more") {
  BlobFixture f;
  uint32_t v = f.cluster->AddVolume(4, 2);
  f.cluster->RefuseWrites(f.cluster->DriveOf(v, 5), Code::kNoSpace, 1'000);
  bool cancelled = false;
  Code code = Code::kOk;
  f.Run([&] {
    auto writer = BlobWriter::Create(f.deps(), {.cancelled = [&] { return cancelled; }});
    CHECK(writer->Append(std::vector<uint8_t>(1'000'000, 1)).ok());
    cancelled = true;
    code = writer->Finish().code();
  });
  CHECK(code == Code::kCancelled);
}

TEST_CASE("committing more than was reserved is refused") {
  BlobFixture f;
  f.cluster->AddVolume(4, 2);
  std::vector<Code> codes;
  f.Run([&] {
    auto writer = BlobWriter::Create(f.deps(), {});
    auto run = writer->Reserve(100);
    codes.push_back(run.code());
    codes.push_back(writer->Commit(run->size() + 1).code());
    codes.push_back(writer->Finish().code());
  });
  CHECK(codes == std::vector<Code>{Code::kOk, Code::kInvalidArgument, Code::kInvalidArgument});
}

TEST_CASE("more extents than a record holds go to a list") {
  BlobFixture f;
  f.cluster->AddVolume(1, 1);
  f.cluster->AddVolume(1, 1);
  f.cluster->lease_max = 1;
  // Each lease is one blob; whichever volume comes, sequences 1, 2, … interleave into many extents.
  std::vector<uint8_t> data = RandomBytes(60 * (4 << 20) + 17);
  auto object = f.Write(data);
  REQUIRE(object.ok());
  REQUIRE(object->list_id != 0);
  CHECK(object->extents.empty());
  CHECK(f.cluster->lists[object->list_id].size() > wire::kExtentsInsideMax);
  std::set<uint64_t> intents(object->intents.begin(), object->intents.end());
  CHECK(intents.size() == 61);
  CHECK(f.cluster->list_intents[object->list_id] == intents);
  CHECK(f.ReadAndCompare(*object, data) == Code::kOk);
  CHECK(f.ReadAndCompare(*object, data, 123'456'789, 9'000'000) == Code::kOk);
}

TEST_CASE("short of memory the blobs get smaller, and the object is still whole") {
  BlobFixture f(1, 16 << 20);  // a full 4+2 blob needs 24 MiB
  f.cluster->AddVolume(4, 2);
  std::vector<uint8_t> data = RandomBytes(40'000'001);
  auto object = f.Write(data, {.size_hint = data.size()});
  REQUIRE(object.ok());
  CHECK(f.slabs->BytesInUse() == 0);
  CHECK(f.ReadAndCompare(*object, data) == Code::kOk);
}

TEST_CASE("two writers that share too little memory both finish") {
  BlobFixture f(1, 16 << 20);
  f.cluster->AddVolume(4, 2);
  std::vector<uint8_t> data[2] = {RandomBytes(30'000'000, 1), RandomBytes(30'000'000, 2)};
  std::optional<Result<WrittenObject>> object[2];
  for (int i = 0; i < 2; ++i) {
    REQUIRE(f.scheduler
                ->Post([&, i] {
                  auto writer = BlobWriter::Create(f.deps(), {});
                  Status st = writer->Append(data[i]);
                  if (!st.ok())
                    object[i].emplace(std::move(st));
                  else
                    object[i].emplace(writer->Finish());
                })
                .ok());
  }
  f.scheduler->RunUntil([&] { return object[0] && object[1]; });
  for (int i = 0; i < 2; ++i) {
    REQUIRE(object[i]);
    REQUIRE(object[i]->ok());
    CHECK(f.ReadAndCompare(**object[i], data[i]) == Code::kOk);
  }
}

TEST_CASE("a lease about to expire takes no more blobs") {
  BlobFixture f;
  f.cluster->AddVolume(4, 2);
  f.cluster->lease_expires = f.scheduler->clock().Wall() + 30 * kSecond;
  auto object = f.Write(RandomBytes(2 * kFull), {.size_hint = 2 * kFull});
  REQUIRE(object.ok());
  CHECK(f.cluster->counts.leases == 2);
  CHECK(object->intents.size() == 2);
}

#ifdef PERIGEE_FAILPOINTS
TEST_CASE("writing passes its failpoints") {
  BlobFixture f;
  f.cluster->AddVolume(4, 2);
  using failpoint::Id;
  uint64_t before = failpoint::Hits(Id::blob_before_shard_write);
  uint64_t after = failpoint::Hits(Id::blob_after_shard_write);
  uint64_t finish = failpoint::Hits(Id::blob_after_finish);
  REQUIRE(f.Write(RandomBytes(1 << 20)).ok());
  CHECK(failpoint::Hits(Id::blob_before_shard_write) == before + 6);
  CHECK(failpoint::Hits(Id::blob_after_shard_write) == after + 6);
  CHECK(failpoint::Hits(Id::blob_after_finish) == finish + 1);
}
#endif
