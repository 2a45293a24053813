#include <doctest/doctest.h>

#include <atomic>

#include "blob_fixture.h"
#include "client/blob/drive_pace.h"
#include "client/blob/geometry.h"

using namespace perigee;
using namespace perigee::client;

namespace {

constexpr uint64_t kFull = 16 << 20;  // of 4+2

using Notice = FakeCluster::Notice;

// One object of two full blobs and a tail in a 4+2 volume.
struct OneObject : BlobFixture {
  explicit OneObject(size_t bytes = 2 * kFull + 700'001, uint64_t seed = 1) : BlobFixture(seed) {
    volume = cluster->AddVolume(4, 2);
    data = RandomBytes(bytes, seed);
    auto written = Write(data, {.size_hint = bytes});
    REQUIRE(written.ok());
    object = *written;
    seq = object.extents[0].first_seq;
  }
  uint32_t volume = 0;
  std::vector<uint8_t> data;
  WrittenObject object;
  uint64_t seq = 0;
};

}  // namespace

TEST_CASE("a whole healthy blob is read with one call per data shard") {
  OneObject f(kFull);
  CHECK(f.ReadAndCompare(f.object, f.data) == Code::kOk);
  CHECK(f.cluster->counts.reads == 4);
  CHECK(f.cluster->counts.bytes_read == kFull);
  CHECK(f.Counter("perigee_blob_bytes_read_total") == static_cast<double>(kFull));
  CHECK(f.Counter("perigee_blob_chunks_reconstructed_total") == 0);
  CHECK(f.slabs->BytesInUse() == 0);
}

TEST_CASE("a small range touches only its own chunk") {
  OneObject f;
  CHECK(f.ReadAndCompare(f.object, f.data, kFull + kChunkBytes * 5 + 10, 100) == Code::kOk);
  CHECK(f.cluster->counts.reads == 1);
  CHECK(f.cluster->counts.bytes_read == kChunkBytes);
  REQUIRE(f.cluster->read_requests.size() == 1);
  CHECK(f.cluster->read_requests[0].index == 1);
  CHECK(f.cluster->read_requests[0].offset == kChunkBytes);
  CHECK(f.cluster->read_requests[0].blob.seq == f.seq + 1);
}

TEST_CASE("ranges of any place and length are right") {
  OneObject f;
  Random random(4);
  for (int i = 0; i < 60; ++i) {
    uint64_t offset = random.Below(f.data.size());
    uint64_t most = std::min<uint64_t>(f.data.size() - offset, i % 3 ? 3'000'000 : 40'000'000);
    uint64_t length = random.Below(most) + 1;
    CAPTURE(offset);
    CAPTURE(length);
    f.by_sink = i % 2;
    REQUIRE(f.ReadAndCompare(f.object, f.data, offset, length) == Code::kOk);
  }
  CHECK(f.ReadAndCompare(f.object, f.data, f.data.size(), 0) == Code::kOk);
  CHECK(f.ReadAndCompare(f.object, f.data, f.data.size() - 1, 1) == Code::kOk);
}

TEST_CASE("a range outside the object, or an object elsewhere, is refused") {
  OneObject f(100'000);
  std::vector<uint8_t> out(10);
  CHECK(f.Read(f.object, 99'991, &out).Is(Code::kInvalidArgument));
  CHECK(f.Read(f.object, ~0ull - 3, &out).Is(Code::kInvalidArgument));
  WrittenObject none;
  none.bytes = 100;
  wire::Layout layout = f.LayoutOf(f.object);
  layout.kind = wire::LayoutKind::kBurst;
  Code code = Code::kOk;
  f.Run([&] { code = BlobReader::Create(f.deps())->Read(layout, 100'000, 0, out).code(); });
  CHECK(code == Code::kInvalidArgument);
}

TEST_CASE("with any two drives gone every byte is there, and nothing lost is asked for") {
  for (uint32_t a = 0; a < 6; ++a) {
    for (uint32_t b = a + 1; b < 6; ++b) {
      CAPTURE(a);
      CAPTURE(b);
      OneObject f(5'300'000, a * 6 + b + 1);
      f.cluster->LoseDrive(f.cluster->DriveOf(f.volume, a), wire::DriveState::kLost,
                           Notice::kRecorded);
      f.cluster->LoseDrive(f.cluster->DriveOf(f.volume, b), wire::DriveState::kOffline,
                           Notice::kRecorded);
      REQUIRE(f.ReadAndCompare(f.object, f.data) == Code::kOk);
      CHECK(f.cluster->counts.reads == 4);
      CHECK(f.cluster->reports.empty());
      bool data_lost = a < 4;
      CHECK((f.Counter("perigee_blob_chunks_reconstructed_total") > 0) == data_lost);
      for (bool by_sink : {false, true}) {
        f.by_sink = by_sink;
        REQUIRE(f.ReadAndCompare(f.object, f.data, 2'000'000, 1'234'567) == Code::kOk);
        REQUIRE(f.ReadAndCompare(f.object, f.data, 5'200'000, 100'000) == Code::kOk);
      }
    }
  }
}

TEST_CASE("drives that vanish without a record are read around, and the map is asked for once") {
  OneObject f;
  f.cluster->LoseDrive(f.cluster->DriveOf(f.volume, 0), wire::DriveState::kOffline,
                       Notice::kOnRefresh);
  f.cluster->LoseDrive(f.cluster->DriveOf(f.volume, 2), wire::DriveState::kOffline, Notice::kNever);
  CHECK(f.ReadAndCompare(f.object, f.data) == Code::kOk);
  CHECK(f.cluster->counts.map_refreshes == 1);
  CHECK(f.cluster->reports.empty());  // the drives are away, the shards are not bad
}

TEST_CASE("shards that a server takes back while they are read are computed from others") {
  OneObject f;
  f.cluster->withdrawn = {f.cluster->DriveOf(f.volume, 0), f.cluster->DriveOf(f.volume, 3)};
  for (bool by_sink : {false, true}) {
    f.by_sink = by_sink;
    CHECK(f.ReadAndCompare(f.object, f.data) == Code::kOk);
  }
  CHECK(f.cluster->reports.empty());
  f.cluster->withdrawn.insert(f.cluster->DriveOf(f.volume, 1));
  std::vector<uint8_t> out(f.data.size());
  CHECK(f.Read(f.object, 0, &out).Is(Code::kUnavailable));
}

TEST_CASE("what a sink refuses ends the read with its reason, computed or not") {
  for (bool lost : {false, true}) {
    OneObject f;
    if (lost)
      f.cluster->LoseDrive(f.cluster->DriveOf(f.volume, 1), wire::DriveState::kLost,
                           Notice::kRecorded);
    Status read;
    f.Run([&] {
      read = BlobReader::Create(f.deps())->ReadTo(
          f.LayoutOf(f.object), f.object.bytes, 0, f.object.bytes, [&](uint64_t at, ConstBytes) {
            return at == client::kChunkBytes ? Status(Code::kNoSpace, "full") : Status::Ok();
          });
    });
    CHECK(read.Is(Code::kNoSpace));
    CHECK(f.cluster->reports.empty());
  }
}

TEST_CASE("a third lost drive makes the object unavailable, not corrupt") {
  OneObject f;
  for (uint32_t i = 1; i < 4; ++i) {
    f.cluster->LoseDrive(f.cluster->DriveOf(f.volume, i), wire::DriveState::kOffline,
                         Notice::kNever);
  }
  std::vector<uint8_t> out(f.data.size());
  Status st = f.Read(f.object, 0, &out);
  CHECK(st.Is(Code::kUnavailable));
  CHECK(st.message().find("shard 2") != std::string::npos);
  CHECK(f.slabs->BytesInUse() == 0);
  // What the good drive holds can still be had.
  CHECK(f.ReadAndCompare(f.object, f.data, 0, kChunkBytes) == Code::kOk);
}

TEST_CASE("a flipped bit is found, computed around, counted and reported") {
  OneObject f;
  f.cluster->FlipBit(f.volume, f.seq, 1, 3 * kChunkBytes + 17);
  f.cluster->FlipBit(f.volume, f.seq, 3, 3 * kChunkBytes);
  CHECK(f.ReadAndCompare(f.object, f.data) == Code::kOk);
  CHECK(f.Counter("perigee_blob_bad_chunks_total") == 2);
  CHECK(f.Counter("perigee_blob_chunks_reconstructed_total") == 2);
  REQUIRE(f.cluster->reports.size() == 1);
  CHECK(f.cluster->reports[0].blob.seq == f.seq);
  CHECK(f.cluster->reports[0].bad_shards == std::vector<uint32_t>{1, 3});
  CHECK(f.cluster->counts.map_refreshes == 0);
  // A range that does not need the bad chunks does not notice.
  CHECK(f.ReadAndCompare(f.object, f.data, 0, 100) == Code::kOk);
  CHECK(f.cluster->reports.size() == 1);
}

TEST_CASE("only the stripes that need it read parity") {
  OneObject f(kFull);
  f.cluster->FlipBit(f.volume, f.seq, 0, 5 * kChunkBytes);
  CHECK(f.ReadAndCompare(f.object, f.data) == Code::kOk);
  CHECK(f.cluster->counts.reads == 5);
  CHECK(f.cluster->counts.bytes_read == kFull + kChunkBytes);
}

TEST_CASE("a bad chunk inside a small range costs one stripe") {
  OneObject f;
  f.cluster->FlipBit(f.volume, f.seq, 2, 100);
  CHECK(f.ReadAndCompare(f.object, f.data, 2 * kChunkBytes + 5, 1000) == Code::kOk);
  CHECK(f.cluster->counts.reads == 5);  // itself, then four others
  CHECK(f.cluster->counts.bytes_read == 5 * kChunkBytes);
}

TEST_CASE("bad parity met on the way is replaced by more parity") {
  OneObject f(kFull);
  f.cluster->DropShard(f.volume, f.seq, 0);
  f.cluster->FlipBit(f.volume, f.seq, 4, 7 * kChunkBytes + 1);
  CHECK(f.ReadAndCompare(f.object, f.data) == Code::kOk);
  REQUIRE(f.cluster->reports.size() == 1);
  CHECK(f.cluster->reports[0].bad_shards == std::vector<uint32_t>{0, 4});
}

TEST_CASE("too many bad chunks in one stripe are corrupt; other stripes can be read") {
  OneObject f(kFull);
  for (uint32_t i : {0u, 2u, 5u}) f.cluster->FlipBit(f.volume, f.seq, i, 2 * kChunkBytes);
  CHECK(f.ReadAndCompare(f.object, f.data) == Code::kCorrupt);
  CHECK(f.ReadAndCompare(f.object, f.data, 0, 2 * 4 * kChunkBytes) == Code::kOk);
  CHECK(f.ReadAndCompare(f.object, f.data, 12 * kChunkBytes, 4 * kChunkBytes) == Code::kOk);
}

TEST_CASE("a blob without any shard is not found") {
  OneObject f(1'000'000);
  for (uint32_t i = 0; i < 6; ++i) f.cluster->DropShard(f.volume, f.seq, i);
  CHECK(f.ReadAndCompare(f.object, f.data) == Code::kNotFound);
}

TEST_CASE("shards whose header does not fit the blob are not believed") {
  using Mutation = std::function<void(FakeCluster::Stored&)>;
  std::vector<Mutation> mutations{[](auto& s) { s.header.blob_bytes += 1; },
                                  [](auto& s) { s.header.index = 3; },
                                  [](auto& s) { s.header.k = 3; },
                                  [](auto& s) { s.header.m = 1; },
                                  [](auto& s) { s.header.blob.seq += 1; },
                                  [](auto& s) { s.header.chunk_bytes = 4096; },
                                  [](auto& s) { s.header.chunk_crcs.pop_back(); },
                                  [](auto& s) { s.bytes.resize(s.bytes.size() - 1); },
                                  [](auto& s) { s.bytes.clear(); }};
  for (size_t i = 0; i < mutations.size(); ++i) {
    CAPTURE(i);
    OneObject f(3'000'000);
    mutations[i](*f.cluster->Find(f.volume, f.seq, 1));
    CHECK(f.ReadAndCompare(f.object, f.data) == Code::kOk);
    REQUIRE(f.cluster->reports.size() == 1);
    CHECK(f.cluster->reports[0].bad_shards == std::vector<uint32_t>{1});
    CHECK(f.Counter("perigee_blob_bad_chunks_total") > 0);
  }
}

TEST_CASE("copies are served from any drive that has a good one") {
  OneObject f(20'000);
  CHECK(f.ReadAndCompare(f.object, f.data, 100, 50) == Code::kOk);
  CHECK(f.cluster->counts.reads == 1);
  f.cluster->LoseDrive(f.cluster->DriveOf(f.volume, 0), wire::DriveState::kLost, Notice::kRecorded);
  f.cluster->FlipBit(f.volume, f.seq, 1, 9);
  CHECK(f.ReadAndCompare(f.object, f.data) == Code::kOk);
  f.cluster->FlipBit(f.volume, f.seq, 2, 9);
  CHECK(f.ReadAndCompare(f.object, f.data) != Code::kOk);
}

TEST_CASE("shards that repair has moved are found with a newer map") {
  OneObject f(3'000'000);
  for (uint32_t i : {0u, 1u, 2u}) {
    uint64_t to = f.cluster->AddDrive();
    f.cluster->MoveShard(f.volume, f.seq, i, to);
    f.cluster->SwapDrive(f.volume, i, to);
  }
  CHECK(f.ReadAndCompare(f.object, f.data) == Code::kOk);
  CHECK(f.cluster->counts.map_refreshes == 1);
}

TEST_CASE("a drive under repair is asked last, and what it has is used") {
  OneObject f(3'000'000);
  f.cluster->LoseDrive(f.cluster->DriveOf(f.volume, 0), wire::DriveState::kLost, Notice::kRecorded);
  f.cluster->LoseDrive(f.cluster->DriveOf(f.volume, 1), wire::DriveState::kLost, Notice::kRecorded);
  uint64_t repairing = f.cluster->AddDrive();
  f.cluster->MoveShard(f.volume, f.seq, 2, repairing);
  f.cluster->SwapDrive(f.volume, 2, repairing);
  CHECK(f.cluster->Map(~0ull).ok());
  f.cluster->LoseDrive(repairing + 100, wire::DriveState::kRepairing, Notice::kRecorded);  // epoch
  CHECK(f.ReadAndCompare(f.object, f.data) == Code::kOk);
}

TEST_CASE("a drive that is busy for a moment is waited for") {
  OneObject f(1'000'000);
  f.cluster->FailReads(f.cluster->DriveOf(f.volume, 0), Code::kBusy);
  CHECK(f.ReadAndCompare(f.object, f.data) == Code::kOk);  // busy for ever: computed
  CHECK(f.cluster->reports.empty());
}

namespace {

// Reads with one reader, which remembers how fast drives are.
struct SlowDrives : OneObject {
  explicit SlowDrives(size_t bytes = 5'300'000, uint64_t seed = 1) : OneObject(bytes, seed) {
    reader = BlobReader::Create(deps());
  }
  void Slow(uint32_t index, Nanos by) { cluster->SlowReads(cluster->DriveOf(volume, index), by); }
  // What it takes; the bytes are checked.
  Nanos Timed(uint64_t offset, size_t length) {
    const Nanos begun = scheduler->clock().Monotonic();
    std::vector<uint8_t> out(length, 0xee);
    Status read = ReadBy(*reader, object, offset, &out);
    if (!read.ok()) FAIL_CHECK(read.ToString());
    CHECK(std::equal(out.begin(), out.end(), data.begin() + static_cast<ptrdiff_t>(offset)));
    return scheduler->clock().Monotonic() - begun;
  }
  Nanos Timed() { return Timed(0, data.size()); }
  double LateReads() { return Counter("perigee_blob_late_reads_total"); }

  std::unique_ptr<BlobReader> reader;
};

}  // namespace

TEST_CASE("a drive that hangs is waited for briefly, then read around, and tried again later") {
  for (uint32_t index : {0u, 3u, 5u}) {
    CAPTURE(index);
    SlowDrives f;
    f.by_sink = index == 3;
    f.Slow(index, 30 * kSecond);
    const bool needed = index < 4;
    CHECK(f.Timed() == (needed ? DrivePace::kPatienceMin : 0));
    CHECK(f.LateReads() == (needed ? 1 : 0));
    CHECK(f.Timed() == 0);
    CHECK(f.Timed(index * kChunkBytes, 100) == 0);
    CHECK(f.cluster->ReadsUnderWay(f.cluster->DriveOf(f.volume, index)) == (needed ? 1 : 0));
    f.scheduler->RunFor(60 * kSecond);
    CHECK(f.slabs->BytesInUse() == 0);  // what came late is gone
    f.Slow(index, 0);
    CHECK(f.Timed() == 0);
    CHECK(f.LateReads() == (needed ? 1 : 0));
    CHECK(f.cluster->reports.empty());
    CHECK(f.cluster->counts.map_refreshes == 0);
  }
}

TEST_CASE("with any two drives hanging a read waits for neither") {
  for (uint32_t a = 0; a < 6; ++a) {
    for (uint32_t b = a + 1; b < 6; ++b) {
      CAPTURE(a);
      CAPTURE(b);
      SlowDrives f(1'200'000, a * 6 + b + 1);
      f.Slow(a, 30 * kSecond);
      f.Slow(b, 30 * kSecond);
      CHECK(f.Timed() <= 3 * DrivePace::kPatienceMin);
      CHECK(f.Timed() == 0);
      f.scheduler->RunFor(60 * kSecond);
      CHECK(f.slabs->BytesInUse() == 0);
    }
  }
}

TEST_CASE("slow drives that nothing can replace are waited for") {
  SlowDrives f;
  for (uint32_t index : {1u, 2u, 4u}) f.Slow(index, 5 * kSecond);
  const Nanos took = f.Timed();
  CHECK(took >= 5 * kSecond);
  CHECK(took < 6 * kSecond);
  f.cluster->LoseDrive(f.cluster->DriveOf(f.volume, 0), wire::DriveState::kLost, Notice::kRecorded);
  f.cluster->LoseDrive(f.cluster->DriveOf(f.volume, 3), wire::DriveState::kLost, Notice::kRecorded);
  CHECK(f.Timed() == 5 * kSecond);
}

TEST_CASE("a late answer is used where what was asked instead has nothing") {
  SlowDrives f;
  f.Slow(0, kSecond);
  f.cluster->DropShard(f.volume, f.seq, 4);
  f.cluster->DropShard(f.volume, f.seq, 5);
  CHECK(f.Timed() == kSecond);
  REQUIRE(f.cluster->reports.size() == 1);
  CHECK(f.cluster->reports[0].bad_shards == std::vector<uint32_t>{4, 5});
}

TEST_CASE("where all drives are as slow none is late for long") {
  SlowDrives f;
  for (uint32_t index = 0; index < 6; ++index) f.Slow(index, 400 * kMillisecond);
  for (int i = 0; i < 10; ++i) f.Timed();
  const double before = f.LateReads();
  for (int i = 0; i < 10; ++i) CHECK(f.Timed() == 400 * kMillisecond);
  CHECK(f.LateReads() == before);
}

TEST_CASE("a drive that hangs holds few threads, whoever reads") {
  SlowDrives f(1'200'000);
  f.Slow(1, 30 * kSecond);
  const uint64_t drive = f.cluster->DriveOf(f.volume, 1);
  int done = 0;
  for (int i = 0; i < 30; ++i) {
    REQUIRE(f.scheduler
                ->Post([&] {
                  std::vector<uint8_t> out(100);
                  done +=
                      f.reader->Read(f.LayoutOf(f.object), f.object.bytes, kChunkBytes, out).ok();
                })
                .ok());
  }
  f.scheduler->RunFor(DrivePace::kPatienceMin / 2);
  CHECK(f.cluster->ReadsUnderWay(drive) == DrivePace::kReadsMax);
  f.scheduler->RunFor(DrivePace::kPatienceMin);
  CHECK(done == 30);
  f.scheduler->RunFor(30 * kSecond);
  CHECK(f.cluster->ReadsUnderWay(drive) == 0);  // those in line were wanted no more
  CHECK(f.slabs->BytesInUse() == 0);
}

TEST_CASE("repair goes on beside a drive that hangs, once it is known to be slow") {
  SlowDrives f(kFull);
  f.Slow(2, 30 * kSecond);
  f.Timed();
  f.cluster->DropShard(f.volume, f.seq, 0);
  const Nanos begun = f.scheduler->clock().Monotonic();
  f.Run([&] {
    auto map = f.cluster->Map(0);
    auto rebuilt = f.reader->Rebuild(*(*map)->Find(f.volume), f.seq, {0});
    REQUIRE(rebuilt.ok());
    CHECK(rebuilt->front().bytes.size() == kFull / 4);
  });
  CHECK(f.scheduler->clock().Monotonic() == begun);
}

TEST_CASE("a sink that refuses ends the read though a drive hangs") {
  SlowDrives f;
  f.Slow(2, 30 * kSecond);
  const Nanos begun = f.scheduler->clock().Monotonic();
  f.Run([&] {
    Status read =
        f.reader->ReadTo(f.LayoutOf(f.object), f.object.bytes, 0, f.object.bytes,
                         [&](uint64_t, ConstBytes) { return Status(Code::kNoSpace, ""); });
    CHECK(read.Is(Code::kNoSpace));
  });
  CHECK(f.scheduler->clock().Monotonic() - begun <= DrivePace::kPatienceMin);
}

TEST_CASE("random faults give the right bytes or an error, never wrong ones") {
  for (uint64_t seed = 1; seed <= 25; ++seed) {
    CAPTURE(seed);
    OneObject f(4'000'000 + seed * 9'999, seed);
    Random random(seed);
    for (uint64_t i = random.Below(6); i-- > 0;) {
      uint32_t shard = static_cast<uint32_t>(random.Below(6));
      uint64_t seq = f.seq;
      FakeCluster::Stored* s = f.cluster->Find(f.volume, seq, shard);
      if (!s) continue;
      switch (random.Below(4)) {
        case 0:
          f.cluster->DropShard(f.volume, seq, shard);
          break;
        case 1:
          f.cluster->FlipBit(f.volume, seq, shard, random.Below(s->bytes.size()));
          break;
        case 2:
          s->bytes.resize(random.Below(s->bytes.size()));
          break;
        case 3:
          f.cluster->LoseDrive(f.cluster->DriveOf(f.volume, shard), wire::DriveState::kOffline,
                               random.OneIn(2) ? Notice::kRecorded : Notice::kNever);
      }
    }
    for (int i = 0; i < 4; ++i) {
      uint64_t offset = random.Below(f.data.size());
      f.by_sink = i % 2;
      Code code =
          f.ReadAndCompare(f.object, f.data, offset, random.Below(f.data.size() - offset) + 1);
      REQUIRE(code != Code::kInternal);
      REQUIRE(code != Code::kInvalidArgument);
    }
  }
}

TEST_CASE("several readers and writers share one pool of real threads") {
  auto made = rdma::SlabPool::Create({});
  REQUIRE(made.ok());
  FakeCluster cluster(*made);
  uint32_t volume = cluster.AddVolume(4, 2);
  cluster.LoseDrive(cluster.DriveOf(volume, 1), wire::DriveState::kOffline, Notice::kRecorded);
  auto shard_pool = CreateThreadPool({.name = "shards", .threads = 4});
  auto callers = CreateThreadPool({.name = "callers", .threads = 4});
  BlobIoDeps deps{&cluster, shard_pool.get(), *made, nullptr, &shard_pool->clock(), 1};
  auto reader = BlobReader::Create(deps);
  std::atomic<int> right = 0, left = 4;
  Event done;
  for (uint64_t i = 0; i < 4; ++i) {
    REQUIRE(callers
                ->Post([&, i] {
                  std::vector<uint8_t> data = RandomBytes(3'000'000 * (i + 1), i);
                  auto writer = BlobWriter::Create(deps, {.size_hint = data.size()});
                  bool ok = writer->Append(data).ok();
                  auto object = writer->Finish();
                  if (object.ok() && ok) {
                    std::vector<uint8_t> out(data.size());
                    wire::Layout layout = BlobFixture::LayoutOf(*object);
                    for (int round = 0; round < 3 && ok; ++round) {
                      ok = reader->Read(layout, object->bytes, 0, out).ok() && out == data;
                    }
                    right += ok;
                  }
                  if (--left == 0) done.Set();
                })
                .ok());
  }
  done.Wait();
  CHECK(right == 4);
  callers->Stop();
  shard_pool->Stop();
}

TEST_CASE("repair gets missing shards back byte for byte, with their headers") {
  for (size_t bytes : {size_t{20'000}, size_t{1'200'001}, size_t{kFull}}) {
    OneObject f(bytes);
    const bool copies = bytes < kCopyBytesMax;
    std::vector<FakeCluster::Stored> lost{*f.cluster->Find(f.volume, f.seq, 1),
                                          *f.cluster->Find(f.volume, f.seq, copies ? 2 : 4)};
    f.cluster->DropShard(f.volume, f.seq, 1);
    f.cluster->DropShard(f.volume, f.seq, copies ? 2 : 4);
    std::optional<Result<std::vector<ShardData>>> rebuilt;
    f.Run([&] {
      auto map = f.cluster->Map(0);
      rebuilt.emplace(BlobReader::Create(f.deps())->Rebuild(
          *(*map)->Find(f.volume), f.seq,
          copies ? std::vector<uint32_t>{1, 2, 5} : std::vector<uint32_t>{1, 4}));
    });
    REQUIRE(rebuilt->ok());
    REQUIRE((*rebuilt)->size() == 2);
    for (size_t i = 0; i < 2; ++i) {
      const ShardData& shard = (**rebuilt)[i];
      CHECK(wire::Encode(shard.header) == wire::Encode(lost[i].header));
      ConstBytes got = shard.bytes.span();
      CHECK(std::equal(got.begin(), got.end(), lost[i].bytes.begin(), lost[i].bytes.end()));
    }
  }
}

TEST_CASE("repair works around bad chunks of survivors and gives up honestly") {
  OneObject f(kFull);
  f.cluster->DropShard(f.volume, f.seq, 0);
  f.cluster->FlipBit(f.volume, f.seq, 1, 0);
  f.cluster->FlipBit(f.volume, f.seq, 2, 9 * kChunkBytes);
  auto rebuild = [&](std::vector<uint32_t> missing) {
    Code code = Code::kOk;
    f.Run([&] {
      auto map = f.cluster->Map(0);
      auto reader = BlobReader::Create(f.deps());
      code = reader->Rebuild(*(*map)->Find(f.volume), f.seq, missing).code();
    });
    return code;
  };
  CHECK(rebuild({0}) == Code::kOk);
  CHECK(rebuild({6}) == Code::kInvalidArgument);
  f.cluster->FlipBit(f.volume, f.seq, 4, 10);
  CHECK(rebuild({0}) == Code::kCorrupt);
  for (uint32_t i = 1; i < 6; ++i) f.cluster->DropShard(f.volume, f.seq, i);
  CHECK(rebuild({0}) == Code::kNotFound);
  CHECK(f.slabs->BytesInUse() == 0);
}
