// The mover: verification, retries, hold, forced flushes and what the batch calls say about them.

#include "base/failpoint.h"
#include "world.h"

using namespace perigee;
using namespace perigee::bufferd;
using wire::BurstState;
using wire::LayoutKind;

TEST_CASE(
    "a bit that flipped after the seal is found by the flush, and nothing of it reaches the object "
    "tier") {
  World w;
  wire::FileId id = w.Save("a", Bytes(1, kBig));
  w.RunFor(kSecond);  // sealed, with checksums
  FilePtr f = w.Current(id);
  auto open = w.engine->store().Open(f->dir, f->burst, OpenMode::kReadWrite);
  REQUIRE(open.ok());
  REQUIRE((*open)->WriteAt(1'500'000, AsBytes("!")).ok());
  w.HideChange(f, **open);
  open->reset();
  w.Settle();
  CHECK(w.objectd->Get(id).committed->layout.kind == LayoutKind::kBurst);
  CHECK(w.Count("corrupt_files") == 1);
  CHECK(w.Count("files_flushed") == 0);
  CHECK(w.engine->core().Reported().size() == 1);
  CHECK(w.FilesOnDisk() == 1);  // kept
}

TEST_CASE("a file that was written after its seal all the same is published anew, then flushed") {
  World w;
  wire::FileId id = w.Save("a", Bytes(1, kBig));
  w.RunFor(kSecond);
  FilePtr f = w.Current(id);
  {
    auto open = w.engine->store().Open(f->dir, f->burst, OpenMode::kReadWrite);
    REQUIRE((*open)->WriteAt(1'500'000, AsBytes("dma")).ok());
  }
  w.Settle();
  wire::Record r = w.objectd->Get(id);
  CHECK(r.committed->generation == 2);
  CHECK(w.blobs.BytesOf(*r.committed).substr(1'500'000, 3) == "dma");
  CHECK(w.Count("corrupt_files") == 0);
}

TEST_CASE("a flush that fails is tried again and a stale one is dropped") {
  World w;
  wire::FileId id = w.Save("a", Bytes(2, kBig));
  int failures = 0;
  w.blobs.on_commit = [&](uint64_t) {
    return ++failures <= 2 ? Status(Code::kUnavailable, "no drives") : Status::Ok();
  };
  w.Settle();
  CHECK(failures > 2);
  CHECK(w.objectd->Get(id).committed->layout.kind == LayoutKind::kBlobs);
  CHECK(w.Count("flush_failures") == 2);
}

TEST_CASE("a file is replaced by O_TRUNC while a flush of it hangs") {
  World w;
  wire::FileId id = w.Save("a", Bytes(2, kBig));
  bool publish = true, goes_on = false;
  SUBCASE("which fails in the end") {}
  SUBCASE("which goes on in the end") { goes_on = true; }
  SUBCASE("and nothing is written, and the flush fails") { publish = false; }
  SUBCASE("and nothing is written, and the flush goes on") { goes_on = !(publish = false); }
  std::optional<Opened> o;
  w.blobs.on_commit = [&](uint64_t) {
    if (o) return Status::Ok();
    o = w.MustOpen(id, wire::Access::kWrite, true);
    if (publish) {
      w.Write(*o, 0, "new");
      REQUIRE(w.engine->Publish(o->file).ok());
    }
    w.Release(*o);
    return goes_on ? Status::Ok() : Status(Code::kUnavailable, "the drive does not answer");
  };
  w.Settle();
  REQUIRE(o);
  o->file.reset();
  w.Settle();
  CHECK(w.Load(id) == (publish ? "new" : Bytes(2, kBig)));
  CHECK(w.StateOf(id) == BurstState::kClean);
  CHECK(w.engine->core().table->size() == 1);
}

TEST_CASE("a flush whose commit was answered by nobody is found done") {
  World w;
  wire::FileId id = w.Save("a", Bytes(3, kBig));
  w.RunFor(kSecond);
  w.objectd->lose_reply = wire::Method::kMetaCommitFlush;
  w.Settle();
  CHECK(w.objectd->Get(id).committed->layout.kind == LayoutKind::kBlobs);
  w.engine->recovery().ReconcileAll();
  w.Settle();
  CHECK(w.StateOf(id) == BurstState::kClean);
}

TEST_CASE(
    "on hold nothing is flushed, not even by command, and the reason is told; released it goes "
    "on") {
  World w;
  wire::FileId id = w.Save("a", Bytes(4, kBig));
  Batch batch(*w.engine);
  REQUIRE(batch.Hold({.on = true}).ok());
  w.Settle();
  auto flushed = batch.Flush({.wait = true, .timeout_ms = 3000}, w.Soon());
  REQUIRE(flushed.ok());
  CHECK(flushed->left == 1);
  REQUIRE(flushed->reasons.size() == 1);
  CHECK(flushed->reasons[0].find("on hold") != std::string::npos);
  REQUIRE(batch.Hold({.on = false}).ok());
  flushed = batch.Flush({.wait = true}, w.Soon());
  REQUIRE(flushed.ok());
  CHECK(flushed->left == 0);
  CHECK(flushed->files == 1);
  CHECK(w.objectd->Get(id).committed->layout.kind == LayoutKind::kBlobs);
}

TEST_CASE("flush --wait skips the linger, and names files that are open for writing") {
  World w(World::Setup{.linger = 600 * kSecond});
  wire::FileId a = w.Save("a", Bytes(5, kBig));
  Opened open = w.Create("b");
  w.Write(open, 0, Bytes(6, kBig));
  w.RunFor(kSecond);
  Batch batch(*w.engine);
  auto reply = batch.Flush({.wait = true, .timeout_ms = 2000}, w.Soon());
  REQUIRE(reply.ok());
  CHECK(reply->files == 1);
  CHECK(reply->left == 1);
  CHECK(reply->reasons[0].find("open for writing") != std::string::npos);
  CHECK(w.objectd->Get(a).committed->layout.kind == LayoutKind::kBlobs);
  auto one = batch.Flush({.id = a, .wait = true}, w.Soon());
  REQUIRE(one.ok());
  CHECK(one->left == 0);
  w.Release(open);
}

TEST_CASE("a directory means all files below it") {
  World w(World::Setup{.linger = 600 * kSecond});
  client::MetaClient meta(w.objectd);
  auto bucket = meta.Mkdir({.parent = wire::kRootId, .name = "b"});
  REQUIRE(bucket.ok());
  for (const char* name : {"b/x", "b/y"}) {
    auto o = w.engine->opener().Create({.path = name, .deadline = w.Soon()});
    REQUIRE(o.ok());
    w.Write(*o, 0, Bytes(7, kBig));
    REQUIRE(w.engine->Publish(o->file).ok());
    w.Release(*o);
  }
  w.Save("elsewhere", Bytes(8, kBig));
  w.RunFor(kSecond);
  Batch batch(*w.engine);
  auto reply = batch.Flush({.path = "b/", .wait = true}, w.Soon());
  REQUIRE(reply.ok());
  CHECK(reply->files == 2);
  CHECK(reply->left == 0);
  CHECK(w.Count("files_flushed") == 2);
}

TEST_CASE("flush by command says at once when flushing is on hold, instead of waiting") {
  World w;
  w.Save("a", Bytes(7, kBig));
  w.RunFor(kSecond);
  w.engine->flusher().Hold(true);
  Batch batch(*w.engine);
  Nanos begin = w.sched->clock().Monotonic();
  auto reply = batch.Flush({.wait = true}, w.Soon());
  REQUIRE(reply.ok());
  CHECK(reply->left == 1);
  REQUIRE(reply->reasons.size() == 1);
  CHECK(reply->reasons[0].find("on hold") != std::string::npos);
  CHECK(w.sched->clock().Monotonic() == begin);
  w.engine->flusher().Hold(false);
  reply = batch.Flush({.wait = true}, w.Soon());
  REQUIRE(reply.ok());
  CHECK(reply->left == 0);
}

TEST_CASE("evict by command drops clean files only and says why others stay; pinned ones stay") {
  World w;
  wire::FileId clean = w.Save("clean", Bytes(9, kBig));
  wire::FileId pinned = w.Save("pinned", Bytes(10, kBig));
  w.Settle();
  Batch batch(*w.engine);
  REQUIRE(batch.Pin({.id = pinned, .on = true}).ok());
  w.Save("dirty", Bytes(11, kBig));
  auto reply = batch.Evict({});
  REQUIRE(reply.ok());
  CHECK(reply->files == 1);
  CHECK(reply->left == 2);
  CHECK(w.StateOf(clean) == BurstState::kAbsent);
  CHECK(w.StateOf(pinned) == BurstState::kClean);
  CHECK(w.FilesOnDisk() == 2);
  CHECK(w.Load(clean) == Bytes(9, kBig));  // fetched again
}

TEST_CASE("an evicted file that is still open keeps its descriptor") {
  World w;
  wire::FileId id = w.Save("a", Bytes(12, kBig));
  w.Settle();
  Opened o = w.MustOpen(id);
  auto fd = w.engine->store().Descriptor(o.file->dir, o.file->burst, false);
  std::string why;
  REQUIRE(w.engine->evictor().Evict(o.file, &why));
  char c;
  CHECK(::pread(fd->get(), &c, 1, 0) == 1);
  Opened again = w.MustOpen(id);
  CHECK(again.file->burst != o.file->burst);
  w.Release(o);
  w.Release(again);
}

TEST_CASE("stat tells state, size and durability of files here and elsewhere") {
  World w;
  wire::FileId id = w.Save("a", Bytes(13, kBig));
  Batch batch(*w.engine);
  auto s = batch.Stat({.id = id});
  REQUIRE(s.ok());
  CHECK(s->size == kBig);
  CHECK(s->dirty_bytes == kBig);
  CHECK(s->record.id == id);
  w.Settle();
  s = batch.Stat({.path = "a"});
  REQUIRE(s.ok());
  CHECK(s->state == BurstState::kClean);
  CHECK(s->durability == wire::Durability::kObject);
  CHECK(s->dirty_bytes == 0);
  wire::FileId away = w.objectd->Put("cold", w.blobs.Store("xyz"));
  s = batch.Stat({.id = away});
  REQUIRE(s.ok());
  CHECK(s->state == BurstState::kAbsent);
  CHECK(s->size == 3);
}

TEST_CASE("status counts what only this node holds, by class") {
  World w;
  w.Save("a", Bytes(14, kBig));
  wire::BufferdStatusReply s;
  w.engine->FillStatus(&s);
  REQUIRE(s.at_risk.size() == 1);
  CHECK(s.at_risk[0].durability == wire::Durability::kUnsynced);
  CHECK(s.at_risk[0].bytes == kBig);
  w.Settle();
  wire::BufferdStatusReply after;
  w.engine->FillStatus(&after);
  CHECK(after.at_risk.empty());
  CHECK(after.files == 1);
  CHECK(after.used_bytes >= kBig);
}

#ifdef PERIGEE_FAILPOINTS
TEST_CASE("an error before the flush's commit leaves the file as it was, to be flushed again") {
  World w;
  wire::FileId id = w.Save("a", Bytes(15, kBig));
  REQUIRE(failpoint::Arm("burst_flush_before_commit=error").ok());
  w.Settle();
  failpoint::DisarmAll();
  CHECK(w.Count("flush_failures") == 1);
  CHECK(w.blobs.given_up == 2);  // after the failure, and when its commit was over
  CHECK(w.objectd->Get(id).committed->layout.kind == LayoutKind::kBlobs);
}
#endif
