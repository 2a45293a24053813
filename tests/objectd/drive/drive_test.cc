#include <atomic>
#include <mutex>
#include <set>
#include <thread>

#include "base/event.h"
#include "base/scheduler.h"
#include "tests/objectd/drive/drive_fixture.h"
#include "tests/rdma/lent_piece.h"

namespace perigee::objectd {

TEST_CASE("a shard reads back whole, in part, and as a header alone") {
  MemDrive d;
  for (size_t bytes : {size_t{1}, size_t{4096}, size_t{70'001}, size_t{300 << 10}}) {
    TestShard shard = MakeShard(1, bytes, 3, bytes);
    REQUIRE(d.Write(shard).ok());
    CHECK(Holds(*d.drive, shard));

    wire::ShardReadRequest part = ReadOf(shard);
    part.offset = bytes / 2;
    part.length = bytes - part.offset;
    auto data = d.drive->ReadShard(part);
    REQUIRE(data.ok());
    CHECK(std::equal(data->bytes.data(), data->bytes.data() + data->bytes.size(),
                     shard.bytes.data() + part.offset));

    wire::ShardReadRequest header = ReadOf(shard);
    header.length = 0;
    auto only = d.drive->ReadShard(header);
    REQUIRE(only.ok());
    CHECK_FALSE(static_cast<bool>(only->bytes));
    CHECK(only->header.blob_bytes == bytes * 4);
  }
}

TEST_CASE("what is read again is kept in memory, but for scrub and repair") {
  MemDrive d;
  TestShard shard = MakeShard(1, 1, 0, 300 << 10), other = MakeShard(1, 2, 0, 300 << 10);
  REQUIRE(d.Write(shard).ok());
  REQUIRE(d.Write(other).ok());
  auto kept = [&] {
    return d.metrics
        ->GetCounter("perigee_drive_read_again_bytes_total", "", {{"drive", HexEncode64(7)}})
        ->Value();
  };
  for (int i = 0; i < 3; i++) {
    auto scrubbed = d.drive->ReadShard(ReadOf(shard), rdma::TrafficClass::kRepair);
    REQUIRE(scrubbed.ok());
    CHECK(std::equal(scrubbed->bytes.data(), scrubbed->bytes.data() + scrubbed->bytes.size(),
                     shard.bytes.data()));
  }
  CHECK(Holds(*d.drive, shard));
  CHECK(Holds(*d.drive, other));
  CHECK(kept() == 0);
  CHECK(Holds(*d.drive, shard));
  CHECK(kept() == 300 << 10);
  wire::ShardReadRequest part = ReadOf(shard);
  part.offset = part.length = 128 << 10;
  for (int i = 0; i < 2; i++) REQUIRE(d.drive->ReadShard(part).ok());
  CHECK(kept() == 428 << 10);
  REQUIRE(d.drive->ReadShard(ReadOf(shard), rdma::TrafficClass::kRepair).ok());
  CHECK(kept() == 428 << 10);
}

TEST_CASE("what repair writes goes in pieces and reads back, and a failing piece fails it") {
  MemDrive d({.segment_bytes = 8 << 20});
  for (size_t bytes : {size_t{1}, size_t{256 << 10}, size_t{1'000'001}}) {
    TestShard shard = MakeShard(1, bytes, 3, bytes);
    REQUIRE(
        d.drive->WriteShard(shard.header, shard.bytes.span(), nullptr, rdma::TrafficClass::kRepair)
            .ok());
    CHECK(Holds(*d.drive, shard));
    auto read = d.drive->ReadShard(ReadOf(shard), rdma::TrafficClass::kRepair);
    REQUIRE(read.ok());
    CHECK(std::equal(read->bytes.data(), read->bytes.data() + read->bytes.size(),
                     shard.bytes.data()));
  }
  std::atomic<int> writes = 0;
  d.disk->SetFault([&](std::string_view op, const std::string& path) {
    return op == "write" && path.ends_with(".seg") && ++writes == 3 ? Status(Code::kIo, "injected")
                                                                    : Status::Ok();
  });
  TestShard shard = MakeShard(1, 9, 3, 1'000'001);
  CHECK(d.drive->WriteShard(shard.header, shard.bytes.span(), nullptr, rdma::TrafficClass::kRepair)
            .code() == Code::kUnavailable);
  CHECK_FALSE(d.drive->online());
}

TEST_CASE("reading outside a shard or one that is not there is refused") {
  MemDrive d;
  TestShard shard = MakeShard(1, 1, 0, 10'000);
  REQUIRE(d.Write(shard).ok());
  wire::ShardReadRequest outside = ReadOf(shard);
  outside.offset = 9'000;
  outside.length = 2'000;
  CHECK(d.drive->ReadShard(outside).code() == Code::kInvalidArgument);
  outside.offset = ~uint64_t{0};
  CHECK(d.drive->ReadShard(outside).code() == Code::kInvalidArgument);
  CHECK(CodeOfRead(*d.drive, MakeShard(1, 1, 1, 100)) == Code::kNotFound);
}

TEST_CASE("a shard larger than 4 MiB is refused and the drive stays online") {
  MemDrive d;
  TestShard shard = MakeShard(1, 1, 0, (4 << 20) + 1);
  CHECK(d.Write(shard).code() == Code::kTooLarge);
  CHECK(d.drive->online());
}

TEST_CASE("writing a shard again replaces it, and the old record's space comes back") {
  MemDrive d;
  TestShard old_copy = MakeShard(1, 1, 0, 200'000), new_copy = MakeShard(1, 1, 0, 100'000, 5);
  REQUIRE(d.Write(old_copy).ok());
  REQUIRE(d.Write(new_copy).ok());
  CHECK(Holds(*d.drive, new_copy));
  d.Reopen();
  CHECK(Holds(*d.drive, new_copy));
  auto shards = d.drive->ListShards({}, 10);
  REQUIRE(shards.ok());
  CHECK(shards->size() == 1);
}

TEST_CASE("acknowledged shards survive a power cut and unacknowledged ones are never served torn") {
  for (uint64_t seed = 1; seed <= 20; seed++) {
    CAPTURE(seed);
    MemDrive d({.segment_bytes = 1 << 20}, seed);
    std::vector<TestShard> acknowledged, lost;
    for (uint64_t i = 0; i < 12; i++) {
      TestShard shard = MakeShard(1, i, 0, 1000 + i * 17'011);
      if (i % 3 == 2) {
        // The sync fails after the bytes were written: no promise, and anything may be on the
        // drive.
        d.disk->SetFault([](std::string_view op, const std::string& path) {
          return op == "sync" && path.ends_with(".seg") ? Status(Code::kIo, "injected")
                                                        : Status::Ok();
        });
        CHECK_FALSE(d.Write(shard).ok());
        d.disk->SetFault(nullptr);
        lost.push_back(std::move(shard));
        d.disk->Crash();
        d.Reopen();
      } else {
        REQUIRE(d.Write(shard).ok());
        acknowledged.push_back(std::move(shard));
      }
    }
    d.disk->Crash();
    d.Reopen();
    for (const TestShard& shard : acknowledged) CHECK(Holds(*d.drive, shard));
    for (const TestShard& shard : lost)
      CHECK((CodeOfRead(*d.drive, shard) == Code::kNotFound || Holds(*d.drive, shard)));
  }
}

TEST_CASE("a failed sync takes the drive offline for good") {
  MemDrive d;
  TestShard before = MakeShard(1, 1, 0, 5000);
  REQUIRE(d.Write(before).ok());
  d.disk->SetFault([](std::string_view op, const std::string&) {
    return op == "sync" ? Status(Code::kIo, "injected") : Status::Ok();
  });
  CHECK(d.Write(MakeShard(1, 2, 0, 5000)).code() == Code::kUnavailable);
  d.disk->SetFault(nullptr);
  CHECK_FALSE(d.drive->online());
  CHECK(d.drive->offline_reason().find("injected") != std::string::npos);
  CHECK(d.Write(MakeShard(1, 3, 0, 5000)).code() == Code::kUnavailable);
  CHECK(CodeOfRead(*d.drive, before) == Code::kUnavailable);
  CHECK(d.drive->DeleteShard({1, 1}, 0).code() == Code::kUnavailable);
}

TEST_CASE("a shard whose bytes were taken back while they were written is not there") {
  MemDrive d;
  TestShard shard = MakeShard(1, 1, 0, 5000);
  auto lender = std::make_shared<rdma::TestLender>(
      std::vector<uint8_t>(shard.bytes.data(), shard.bytes.data() + shard.bytes.size()));
  rdma::Piece lent = lender->Lend();
  d.disk->SetFault([&](std::string_view op, const std::string&) {
    if (op == "write") lender->Withdraw();
    return Status::Ok();
  });
  CHECK(d.drive->WriteShard(shard.header, lent.span(), &lent).code() == Code::kUnavailable);
  d.disk->SetFault(nullptr);
  CHECK(d.drive->online());
  CHECK(CodeOfRead(*d.drive, shard) == Code::kNotFound);
  REQUIRE(d.Write(shard).ok());
  CHECK(CodeOfRead(*d.drive, shard) == Code::kOk);
}

TEST_CASE("a write error takes the drive offline, a read error does not") {
  MemDrive d;
  TestShard shard = MakeShard(1, 1, 0, 5000);
  REQUIRE(d.Write(shard).ok());
  d.disk->SetFault([](std::string_view op, const std::string& path) {
    return op == "read" && path.ends_with(".seg") ? Status(Code::kIo, "injected") : Status::Ok();
  });
  CHECK(CodeOfRead(*d.drive, shard) == Code::kIo);
  d.disk->SetFault(nullptr);
  CHECK(d.drive->online());
  CHECK(Holds(*d.drive, shard));
  d.disk->SetFault([](std::string_view op, const std::string& path) {
    return op == "write" && path.ends_with(".seg") ? Status(Code::kIo, "injected") : Status::Ok();
  });
  CHECK(d.Write(MakeShard(1, 2, 0, 5000)).code() == Code::kUnavailable);
  d.disk->SetFault(nullptr);
  CHECK_FALSE(d.drive->online());
}

TEST_CASE("a full drive says so, stays online, and takes shards again after a delete") {
  MemDrive d({.segment_bytes = 1 << 20, .capacity_bytes = 3 << 20});
  std::vector<TestShard> written;
  Status full;
  for (uint64_t i = 0; i < 100 && full.ok(); i++) {
    TestShard shard = MakeShard(1, i, 0, 256 << 10);
    full = d.Write(shard);
    if (full.ok()) written.push_back(std::move(shard));
  }
  CHECK(full.Is(Code::kNoSpace));
  CHECK(d.drive->online());
  CHECK(written.size() >= 6);
  auto space = d.drive->Space();
  REQUIRE(space.ok());
  CHECK(space->total_bytes == 3 << 20);
  CHECK(space->free_bytes < 512 << 10);
  for (const TestShard& shard : written) CHECK(Holds(*d.drive, shard));
  for (size_t i = 0; i < 4; i++) REQUIRE(d.drive->DeleteShard(written[i].header.blob, 0).ok());
  TestShard again = MakeShard(1, 500, 0, 256 << 10);
  Status after = d.Write(again);
  REQUIRE_MESSAGE(after.ok(), after.ToString());
  CHECK(Holds(*d.drive, again));
}

TEST_CASE("a file system that is full gives no-space without taking the drive offline") {
  MemDrive d;
  TestShard first = MakeShard(1, 0, 0, 100'000);
  REQUIRE(d.Write(first).ok());
  d.disk->SetCapacity(1);
  Status full;
  for (uint64_t i = 1; i < 100 && full.ok(); i++) full = d.Write(MakeShard(1, i, 0, 256 << 10));
  CHECK(full.Is(Code::kNoSpace));
  CHECK(d.drive->online());
  CHECK(Holds(*d.drive, first));
  d.disk->SetCapacity(uint64_t{1} << 40);
  CHECK(d.Write(MakeShard(1, 200, 0, 256 << 10)).ok());
}

TEST_CASE("segments whose shards are all deleted are used afresh") {
  MemDrive d({.segment_bytes = 1 << 20});
  for (uint64_t round = 0; round < 12; round++) {
    std::vector<TestShard> shards;
    for (uint64_t i = 0; i < 6; i++) {
      shards.push_back(MakeShard(1, round * 10 + i, 0, 200'000));
      REQUIRE(d.Write(shards.back()).ok());
    }
    for (const TestShard& shard : shards) CHECK(Holds(*d.drive, shard));
    for (const TestShard& shard : shards) REQUIRE(d.drive->DeleteShard(shard.header.blob, 0).ok());
    for (const TestShard& shard : shards) CHECK(CodeOfRead(*d.drive, shard) == Code::kNotFound);
  }
  CHECK(d.SegmentFiles() <= 4);
  d.Reopen();
  auto shards = d.drive->ListShards({}, 10);
  REQUIRE(shards.ok());
  CHECK(shards->empty());
}

TEST_CASE("deleted shards stay deleted across reopening") {
  MemDrive d;
  TestShard kept = MakeShard(1, 1, 0, 50'000), gone = MakeShard(1, 2, 0, 50'000);
  REQUIRE(d.Write(kept).ok());
  REQUIRE(d.Write(gone).ok());
  REQUIRE(d.drive->DeleteShard(gone.header.blob, 0).ok());
  REQUIRE(d.drive->DeleteShard(gone.header.blob, 0).ok());
  d.Reopen();
  CHECK(Holds(*d.drive, kept));
  CHECK(CodeOfRead(*d.drive, gone) == Code::kNotFound);
}

TEST_CASE("concurrent writers share syncs") {
  MemDrive d({.segment_bytes = 8 << 20});
  REQUIRE(d.Write(MakeShard(1, 1000, 0, 100)).ok());  // the segment is there
  constexpr int kWriters = 8;
  Event all_written;
  std::atomic<int> syncs = 0;
  std::mutex mu;
  std::set<std::thread::id> writers;
  d.disk->SetFault([&](std::string_view op, const std::string& path) {
    if (!path.ends_with(".seg")) return Status::Ok();
    if (op == "write") {
      std::lock_guard lock(mu);
      writers.insert(std::this_thread::get_id());
      if (writers.size() == kWriters) all_written.Set();
    }
    // The first sync waits until everyone has written; those who come meanwhile must share the next
    // one.
    if (op == "sync" && syncs.fetch_add(1) == 0 && !all_written.WaitFor(30 * kSecond))
      return Status(Code::kIo, "nobody came");
    return Status::Ok();
  });
  std::vector<TestShard> shards;
  for (uint64_t i = 0; i < kWriters; i++) shards.push_back(MakeShard(1, i, 0, 3000));
  std::vector<Status> outcomes(kWriters);
  std::vector<std::thread> threads;
  for (int i = 0; i < kWriters; i++)
    threads.emplace_back([&, i] { outcomes[i] = d.Write(shards[i]); });
  for (std::thread& t : threads) t.join();
  d.disk->SetFault(nullptr);
  for (const Status& s : outcomes) CHECK_MESSAGE(s.ok(), s.ToString());
  CHECK(syncs.load() < kWriters);
  d.disk->Crash();
  d.Reopen();
  for (const TestShard& shard : shards) CHECK(Holds(*d.drive, shard));
}

TEST_CASE("a flipped header is reported corrupt, a flipped payload is left to the reader") {
  MemDrive d;
  TestShard shard = MakeShard(1, 1, 0, 40'000);
  REQUIRE(d.Write(shard).ok());
  const std::string path = "/d/segments/00000001.seg";
  REQUIRE(d.disk->FlipBit(path, (kPageBytes + kPageBytes + 100) * 8).ok());
  auto data = d.drive->ReadShard(ReadOf(shard));
  REQUIRE(data.ok());
  CHECK(Crc32c(data->bytes.span().subspan(0, 16 << 10)) != data->header.chunk_crcs[0]);
  REQUIRE(d.disk->FlipBit(path, (kPageBytes + 60) * 8).ok());
  CHECK(CodeOfRead(*d.drive, shard) == Code::kCorrupt);
  CHECK(d.drive->online());
}

TEST_CASE("open tells a lost, a foreign and an unreadable drive apart") {
  MemDrive d;
  DriveDeps deps{.disk = d.disk.get(), .slabs = d.slabs};
  CHECK(Drive::Open("/nowhere", kTestCluster, {}, deps).code() == Code::kNotFound);
  REQUIRE(d.disk->CreateDirs("/empty").ok());
  CHECK(Drive::Open("/empty", kTestCluster, {}, deps).code() == Code::kNotFound);
  CHECK(Drive::Open("/d", kTestCluster + 1, {}, deps).code() == Code::kPreconditionFailed);
  CHECK(Drive::Format(*d.disk, "/d", d.drive->superblock()).code() == Code::kAlreadyExists);
  d.drive.reset();
  REQUIRE(d.disk->FlipBit("/d/superblock", 300).ok());
  CHECK(Drive::Open("/d", kTestCluster, {}, deps).code() == Code::kCorrupt);
}

TEST_CASE("the superblock's epoch may only grow") {
  MemDrive d;
  Superblock s = d.drive->superblock();
  s.mirror_epoch = 5;
  s.mirrors = {7, 8, 9};
  REQUIRE(d.drive->WriteSuperblock(s).ok());
  s.mirror_epoch = 4;
  CHECK(d.drive->WriteSuperblock(s).code() == Code::kInvalidArgument);
  d.Reopen();
  CHECK(d.drive->superblock().mirror_epoch == 5);
  CHECK(d.drive->superblock().mirrors == std::vector<uint64_t>{7, 8, 9});
}

TEST_CASE("shards are listed in order of blob, from where one asks") {
  MemDrive d;
  for (uint64_t seq : {5, 1, 3}) REQUIRE(d.Write(MakeShard(2, seq, 1, 100)).ok());
  REQUIRE(d.Write(MakeShard(1, 9, 0, 100)).ok());
  auto all = d.drive->ListShards({}, 10);
  REQUIRE(all.ok());
  REQUIRE(all->size() == 4);
  CHECK((*all)[0].first == wire::BlobId{1, 9});
  CHECK((*all)[3].first == wire::BlobId{2, 5});
  auto some = d.drive->ListShards({2, 2}, 1);
  REQUIRE(some.ok());
  REQUIRE(some->size() == 1);
  CHECK((*some)[0].first == wire::BlobId{2, 3});
  CHECK((*some)[0].second == 1);
}

}  // namespace perigee::objectd
