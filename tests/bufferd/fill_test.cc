// Copies: from blobs, from the namespace, from another node; whole, in ranges, failing, cancelled.

#include "base/checksum.h"
#include "world.h"

using namespace perigee;
using namespace perigee::bufferd;
using wire::Access;
using wire::BurstState;
using wire::OpenKind;

namespace {

constexpr uint64_t kHuge = 40'000'003;

class FakePeer final : public PeerPort {
 public:
  Status Read(wire::NodeId node, const wire::BurstReadRequest& q, MutableBytes out,
              rdma::TrafficClass) override {
    if (!answer.ok()) return answer;
    if (node != 7 || q.burst != 3 || q.generation != 5 || q.length != out.size())
      return Status(Code::kStale, "not that one");
    std::memcpy(out.data(), bytes.data() + q.offset, out.size());
    return Status::Ok();
  }
  std::string bytes;
  Status answer;
};

}  // namespace

TEST_CASE("an open that can wait for the fill answers with a descriptor of the whole file") {
  World w;
  std::string bytes = Bytes(1, kHuge);
  wire::FileId id = w.objectd->Put("a", w.blobs.Store(bytes));
  auto o = w.Open(id, Access::kRead, false, 10 * kSecond);
  REQUIRE(o.ok());
  CHECK(o->kind == OpenKind::kDescriptor);
  CHECK(w.Read(o->file) == bytes);
  CHECK(w.RecordOf(o->file).mtime == 1'600'000'000'000'000'005);
  CHECK(w.Count("bytes_filled_blobs") == kHuge);
  CHECK(w.Count("opens_descriptor") == 1);
  // The checksums that scrub and peers go by are those of what arrived.
  auto crcs = w.index.GetCrcs(o->file->burst);
  REQUIRE(crcs.ok());
  REQUIRE(crcs->crcs.size() == (kHuge + kCrcBlockBytes - 1) / kCrcBlockBytes);
  for (size_t i = 0; i < crcs->crcs.size(); ++i)
    CHECK(crcs->crcs[i] ==
          Crc32c(AsBytes(bytes).subspan(i * kCrcBlockBytes,
                                        std::min(kCrcBlockBytes, kHuge - i * kCrcBlockBytes))));
  w.Release(*o);
  int reads = w.blobs.reads;
  CHECK(w.Load(id) == bytes);
  CHECK(w.blobs.reads == reads);  // from here
}

TEST_CASE(
    "an open that cannot wait answers cached, and a range is fetched for whoever asks for it "
    "only") {
  World w;
  std::string bytes = Bytes(2, kHuge);
  wire::FileId id = w.objectd->Put("a", w.blobs.Store(bytes));
  auto o = w.Open(id, Access::kRead, false, 0);
  REQUIRE(o.ok());
  CHECK(o->kind == OpenKind::kCached);
  CHECK(o->size == kHuge);
  CHECK(w.blobs.reads == 0);
  REQUIRE(w.engine->filler().Ensure(o->file, {30'000'000, 30'000'010}, w.Soon(), false).ok());
  CHECK(w.Read(o->file).substr(30'000'000, 10) == bytes.substr(30'000'000, 10));
  CHECK(w.Count("bytes_filled_blobs") <= Filler::kSmallRangeBytes);
  std::string why;
  CHECK(!w.engine->evictor().Evict(o->file, &why));  // a reader of unfetched ranges
  w.Release(*o);
  CHECK(w.Load(id) == bytes);
  w.RunFor(kSecond);
  CHECK(w.engine->evictor().Evict(w.Current(id), &why));
}

TEST_CASE("a sequential reader finds what comes next fetched ahead") {
  World w;
  wire::FileId id = w.objectd->Put("a", w.blobs.Store(Bytes(3, kHuge)));
  auto o = w.Open(id, Access::kRead, false, 0);
  REQUIRE(o.ok());
  for (uint64_t at = 0; at < (3 << 20); at += 1 << 20) {
    REQUIRE(w.engine->filler().Ensure(o->file, {at, at + (1 << 20)}, w.Soon(), true).ok());
  }
  w.RunFor(kSecond);
  std::lock_guard lock(o->file->mu);
  CHECK(o->file->residency.Readable({0, 16 << 20}));
  --o->file->readers;
}

TEST_CASE("a failed range is an error for its readers, and is fetched again for the next") {
  World w;
  std::string bytes = Bytes(4, kBig);
  wire::FileId id = w.objectd->Put("a", w.blobs.Store(bytes));
  w.blobs.on_read = [](uint64_t, size_t) { return Status(Code::kCorrupt, "too few good chunks"); };
  auto o = w.Open(id, Access::kRead, false, 0);
  REQUIRE(o.ok());
  CHECK(w.engine->filler().Ensure(o->file, {0, 10}, w.Soon(), false).code() == Code::kCorrupt);
  CHECK(w.Open(id, Access::kRead, false, 10 * kSecond).code() == Code::kCorrupt);
  w.blobs.on_read = nullptr;
  CHECK(w.engine->filler().Ensure(o->file, {0, 10}, w.Soon(), false).ok());
  w.Release(*o);
  CHECK(w.Load(id) == bytes);
}

TEST_CASE("a range that does not come in time is a deadline, and its reader can come again") {
  World w;
  wire::FileId id = w.objectd->Put("a", w.blobs.Store(Bytes(5, kBig)));
  w.blobs.on_read = [](uint64_t, size_t) {
    Event never;
    (void)never.WaitFor(10 * kSecond);
    return Status::Ok();
  };
  auto o = w.Open(id, Access::kRead, false, 0);
  REQUIRE(o.ok());
  Nanos soon = w.sched->clock().Monotonic() + kSecond;
  CHECK(w.engine->filler().Ensure(o->file, {0, 10}, soon, false).code() == Code::kDeadlineExceeded);
  CHECK(w.engine->filler().Ensure(o->file, {0, 10}, w.Soon(), false).ok());
  w.Release(*o);
}

TEST_CASE("a file that is not resident is fetched whole before it is written in place") {
  World w;
  std::string bytes = Bytes(6, kHuge);
  wire::FileId id = w.objectd->Put("a", w.blobs.Store(bytes));
  Opened o = w.MustOpen(id, Access::kWrite);
  w.Write(o, 5, "12345");
  REQUIRE(w.engine->Publish(o.file).ok());
  w.Release(o);
  w.Settle();
  bytes.replace(5, 5, "12345");
  CHECK(w.objectd->Get(id).committed->generation == 2);
  CHECK(w.blobs.BytesOf(*w.objectd->Get(id).committed) == bytes);
}

TEST_CASE("truncating a file that is not resident fetches nothing") {
  World w;
  wire::FileId id = w.objectd->Put("a", w.blobs.Store(Bytes(7, kHuge)));
  Opened o = w.MustOpen(id, Access::kWrite, true);
  CHECK(w.blobs.reads == 0);
  w.Release(o);
}

TEST_CASE("inline content is written into a burst file at open") {
  World w;
  wire::Version v{.size = 5, .mtime = 77};
  v.layout.kind = wire::LayoutKind::kInline;
  wire::FileId id = w.objectd->Put("a", v, "hello");
  Opened o = w.MustOpen(id);
  CHECK(o.kind == OpenKind::kDescriptor);
  CHECK(w.Read(o.file) == "hello");
  w.Release(o);
  std::string why;
  w.Settle();
  CHECK(w.engine->evictor().Evict(w.Current(id), &why));
}

TEST_CASE("an empty file opens without fetching") {
  World w;
  wire::FileId id = w.objectd->Put("a", {});
  CHECK(w.Load(id) == "");
}

TEST_CASE(
    "content in another node's buffer is read from there, and kStale there is an error here") {
  World w;
  FakePeer peer;
  peer.bytes = Bytes(8, kHuge);
  w.Kill();
  w.peers = &peer;
  w.Start();
  wire::Version v{.generation = 5, .size = kHuge, .mtime = 1};
  v.layout = {.kind = wire::LayoutKind::kBurst, .node = 7, .burst = 3};
  wire::FileId id = w.objectd->Put("a", v);
  CHECK(w.Load(id) == peer.bytes);
  CHECK(w.Count("bytes_filled_peer") == kHuge);
  peer.answer = Status(Code::kStale, "rewritten");
  peer.answer.Ignore();
  wire::FileId other = w.objectd->Put("b", v);
  CHECK(w.Open(other, Access::kRead, false, 10 * kSecond).code() == Code::kStale);
}

TEST_CASE(
    "content that left another node's buffer before it was read is read from where it is now") {
  World w;
  FakePeer peer;
  peer.answer = Status(Code::kUnavailable, "the node is down");
  peer.answer.Ignore();
  w.Kill();
  w.peers = &peer;
  w.Start();
  const std::string bytes = Bytes(8, kHuge);
  wire::Version v{.generation = 5, .size = kHuge, .mtime = 1};
  v.layout = {.kind = wire::LayoutKind::kBurst, .node = 7, .burst = 3};
  wire::FileId id = w.objectd->Put("a", v);
  SUBCASE("while it is open") {
    auto opened = w.Open(id, Access::kRead, false, 0);
    REQUIRE(opened.ok());
    Opened o = std::move(*opened);
    w.objectd->MoveContent(id, w.blobs.Store(bytes).layout);
    REQUIRE(w.engine->filler().Ensure(o.file, {0, kHuge}, w.Soon(), false).ok());
    CHECK(w.Read(o.file) == bytes);
    w.Release(o);
  }
  SUBCASE("by the next open") {
    CHECK(!w.Open(id, Access::kRead, false, 10 * kSecond).ok());
    w.objectd->MoveContent(id, w.blobs.Store(bytes).layout);
    CHECK(w.Load(id) == bytes);
  }
}

TEST_CASE("a version committed elsewhere gets a burst file of its own, and the old copy goes") {
  World w;
  wire::FileId id = w.objectd->Put("a", w.blobs.Store(Bytes(9, kBig)));
  Opened old = w.MustOpen(id);
  wire::BurstId before = old.file->burst;
  client::MetaClient other(w.objectd);
  REQUIRE(other.OpenWrite({.id = id, .expect_generation = 1, .node = 7, .burst = 1}).ok());
  REQUIRE(other
              .Publish({.id = id,
                        .node = 7,
                        .burst = 1,
                        .generation = 2,
                        .size = 3,
                        .has_inline = true,
                        .sync = true},
                       AsBytes("new"))
              .ok());
  REQUIRE(other.EndWrite({.id = id, .node = 7, .burst = 1}).ok());
  CHECK(w.Load(id) == "new");
  CHECK(w.Current(id)->burst != before);
  CHECK(w.FilesOnDisk() == 2);
  w.Release(old);
  w.RunFor(kMillisecond);  // removed beside
  CHECK(w.FilesOnDisk() == 1);
}

TEST_CASE("while objectd is away, what is wholly here opens for reading by id") {
  World w;
  wire::FileId id = w.Save("a", "x");
  w.objectd->away = true;
  Opened o = w.MustOpen(id);
  CHECK(w.Read(o.file) == "x");
  CHECK(w.Open(id, Access::kWrite).code() == Code::kUnavailable);
  CHECK(w.Open(999).code() == Code::kUnavailable);
  w.Release(o);
}

TEST_CASE("warm fetches files and reports them") {
  World w;
  wire::FileId id = w.objectd->Put("a", w.blobs.Store(Bytes(10, kBig)));
  w.objectd->Put("b", w.blobs.Store(Bytes(11, kBig)));
  Batch batch(*w.engine);
  auto reply = batch.Warm({.path = "/", .wait = true}, w.Soon());
  REQUIRE(reply.ok());
  CHECK(reply->files == 2);
  CHECK(reply->bytes == 2 * kBig);
  std::lock_guard lock(w.Current(id)->mu);
  CHECK(w.Current(id)->Whole());
}

TEST_CASE("remote reads get the committed generation or nothing") {
  World w;
  std::string bytes = Bytes(12, kBig);
  wire::FileId id = w.Save("a", bytes);
  FilePtr f = w.Current(id);
  auto read = [&](uint64_t generation, uint64_t offset, size_t n, std::string* out) {
    out->assign(n, '\0');
    return ReadBurst(w.engine->core(),
                     {.burst = f->burst, .id = id, .generation = generation, .offset = offset},
                     {reinterpret_cast<uint8_t*>(out->data()), n})
        .code();
  };
  std::string got;
  CHECK(read(1, 1'000'000, 500'000, &got) == Code::kOk);  // before it is sealed
  CHECK(got == bytes.substr(1'000'000, 500'000));
  w.RunFor(kSecond);
  CHECK(read(1, 1'000'000, 1'500'000, &got) == Code::kOk);  // and checked afterwards
  CHECK(got == bytes.substr(1'000'000, 1'500'000));
  CHECK(read(2, 0, 1, &got) == Code::kStale);
  CHECK(read(1, kBig, 1, &got) == Code::kInvalidArgument);
  Opened alone = w.MustOpen(id, Access::kWrite);
  w.Write(alone, 0, "x");
  CHECK(read(1, 0, 10, &got) == Code::kOk);  // written in a copy
  w.Release(alone);
  w.RunFor(kSecond);
  Opened reader = w.MustOpen(id);
  Opened o = w.MustOpen(id, Access::kWrite);
  CHECK(read(1, 0, 10, &got) == Code::kOk);  // still exactly that generation
  w.Write(o, 0, "x");
  CHECK(read(1, 0, 10, &got) == Code::kStale);
  w.Release(o);
  w.Release(reader);
  CHECK(ReadBurst(w.engine->core(), {.burst = 999, .id = id, .generation = 1}, {}).code() ==
        Code::kUnavailable);
}
