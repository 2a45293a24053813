// Scrub of burst files, and what becomes of the bad ones it finds.

#include "bufferd/scrub.h"

#include "world.h"

using namespace perigee;
using namespace perigee::bufferd;
using wire::BurstState;
using wire::LayoutKind;
using wire::ScrubAction;

namespace {

// A bit flips without moving times: the record is made to agree with them.
void Flip(World& w, wire::FileId id, uint64_t at) {
  FilePtr f = w.Current(id);
  REQUIRE(f);
  auto open = w.engine->store().Open(f->dir, f->burst, OpenMode::kReadWrite);
  REQUIRE(open.ok());
  uint8_t byte = 0;
  REQUIRE((*open)->ReadAt(at, {&byte, 1}).ok());
  byte ^= 0x10;
  REQUIRE((*open)->WriteAt(at, {&byte, 1}).ok());
  w.HideChange(f, **open);
  REQUIRE(w.engine->core().Save(f).ok());
}

wire::ScrubReport Ask(World& w, ScrubAction action, uint64_t rate = 0) {
  wire::ScrubRequest q;
  q.action = action;
  q.rate = rate;
  return w.engine->scrub().Do(q);
}

wire::ScrubReport RunToEnd(World& w) {
  REQUIRE(w.sched->RunUntil([&] { return !Ask(w, ScrubAction::kStatus).running; }));
  return Ask(w, ScrubAction::kStatus);
}

wire::ScrubReport ScrubAll(World& w) {
  Ask(w, ScrubAction::kStart, 1 << 30);
  return RunToEnd(w);
}

}  // namespace

TEST_CASE("scrub reads all burst files, and finds nothing where nothing is wrong") {
  World w;
  w.engine->flusher().Hold(true);
  wire::FileId dirty = w.Save("dirty", Bytes(1, kBig));
  w.RunFor(kSecond);
  wire::FileId open_one = w.Create("open").record.id;
  wire::FileId fetched = w.objectd->Put("fetched", w.blobs.Store(Bytes(2, kBig)));
  CHECK(w.Load(fetched) == Bytes(2, kBig));
  const auto report = ScrubAll(w);
  CHECK(report.checked == 2);  // not the one that is open
  CHECK(report.bytes == 2 * kBig);
  CHECK(report.damaged == 0);
  CHECK(report.completed != 0);
  CHECK(w.Current(dirty) != nullptr);
  CHECK(w.Current(open_one) != nullptr);
}

TEST_CASE("a bad file that is the only copy is reported, and neither flushed nor served") {
  World w;
  w.engine->flusher().Hold(true);
  wire::FileId id = w.Save("a", Bytes(1, kBig));
  w.RunFor(kSecond);
  Flip(w, id, 2'100'000);
  auto report = ScrubAll(w);
  CHECK(report.damaged == 1);
  CHECK(report.lost == 1);
  REQUIRE(report.findings.size() == 1);
  CHECK(report.findings[0].find("block 2") != std::string::npos);
  CHECK(w.engine->core().Reported().size() == 1);
  w.engine->flusher().Hold(false);
  w.Settle();
  CHECK(w.objectd->Get(id).committed->layout.kind == LayoutKind::kBurst);
  CHECK(w.Count("files_flushed") == 0);
  CHECK(w.Open(id).code() == Code::kCorrupt);
  CHECK(w.Open(id, wire::Access::kWrite).code() == Code::kCorrupt);
  CHECK(w.FilesOnDisk() == 1);   // kept
  CHECK(ScrubAll(w).lost == 1);  // still
  // Replacing the content is how it is mended.
  Opened o = w.MustOpen(id, wire::Access::kWrite, true);
  w.Write(o, 0, Bytes(7, kBig));
  REQUIRE(w.engine->Publish(o.file).ok());
  w.Release(o);
  w.Settle();
  CHECK(w.blobs.BytesOf(*w.objectd->Get(id).committed) == Bytes(7, kBig));
}

TEST_CASE("a bad copy is dropped, and the next open has the bytes of the object tier") {
  World w;
  wire::FileId flushed = w.Save("flushed", Bytes(1, kBig));
  w.Settle();
  REQUIRE(w.StateOf(flushed) == BurstState::kClean);
  wire::FileId fetched = w.objectd->Put("fetched", w.blobs.Store(Bytes(2, 20'000'000)));
  REQUIRE(w.Load(fetched) == Bytes(2, 20'000'000));
  Flip(w, flushed, 1);
  Flip(w, fetched, 19'999'999);
  Opened reader = w.MustOpen(fetched);  // goes on with what it has
  auto report = ScrubAll(w);
  CHECK(report.damaged == 2);
  CHECK(report.mended == 2);
  CHECK(report.lost == 0);
  w.Release(reader);
  CHECK(w.Load(flushed) == Bytes(1, kBig));
  CHECK(w.Load(fetched) == Bytes(2, 20'000'000));
  CHECK(ScrubAll(w).damaged == 0);
}

TEST_CASE("a copy that was fetched in pieces of any size is checked whole") {
  World w;
  wire::FileId id = w.objectd->Put("f", w.blobs.Store(Bytes(3, 5'000'000)));
  Opened o = w.MustOpen(id);
  for (uint64_t at : {4'500'000, 100, 1'300'000, 3'000'001})
    REQUIRE(w.engine->filler().Ensure(o.file, {at, at + 333'333}, w.Soon(), false).ok());
  REQUIRE(w.engine->filler().Ensure(o.file, {0, UINT64_MAX}, w.Soon(), false).ok());
  w.Release(o);
  CHECK(ScrubAll(w).damaged == 0);
  Flip(w, id, 1'400'000);
  CHECK(ScrubAll(w).mended == 1);
}

TEST_CASE("a cut-off copy is dropped too") {
  World w;
  wire::FileId id = w.Save("a", Bytes(1, kBig));
  w.Settle();
  FilePtr f = w.Current(id);
  auto open = w.engine->store().Open(f->dir, f->burst, OpenMode::kReadWrite);
  REQUIRE((*open)->Truncate(1'000'000).ok());
  CHECK(ScrubAll(w).mended == 1);
  CHECK(w.Load(id) == Bytes(1, kBig));
}

TEST_CASE("a file that was cut off without its times moving is not taken for a shorter version") {
  World w;
  w.engine->flusher().Hold(true);
  wire::FileId id = w.Save("a", Bytes(1, kBig));
  w.RunFor(kSecond);
  FilePtr f = w.Current(id);
  auto open = w.engine->store().Open(f->dir, f->burst, OpenMode::kReadWrite);
  REQUIRE((*open)->Truncate(2'000'000).ok());
  w.HideChange(f, **open);
  SUBCASE("found by flush") {}
  SUBCASE("found by scrub") { CHECK(ScrubAll(w).lost == 1); }
  w.engine->flusher().Hold(false);
  w.Settle();
  CHECK(w.Count("corrupt_files") == 1);
  CHECK(w.objectd->Get(id).committed->generation == 1);
  CHECK(w.objectd->Get(id).committed->layout.kind == LayoutKind::kBurst);
}

TEST_CASE("after a reboot a file is checked before it is first handed out") {
  World w;
  wire::FileId clean = w.Save("clean", Bytes(1, kBig));
  w.Settle();
  w.engine->flusher().Hold(true);
  wire::FileId dirty = w.Save("dirty", Bytes(2, kBig)), sound = w.Save("sound", Bytes(3, kBig));
  w.Settle();
  Flip(w, clean, 5);
  Flip(w, dirty, 6);
  REQUIRE(w.index.Sync().ok());
  w.Reboot();
  w.engine->flusher().Hold(true);
  w.RunFor(5 * kSecond);
  CHECK(w.Load(clean) == Bytes(1, kBig));
  CHECK(w.Open(dirty).code() == Code::kCorrupt);
  CHECK(w.Load(sound) == Bytes(3, kBig));
}

TEST_CASE("a scrub goes on where a restart stopped it, at its rate") {
  World w;
  for (int i = 0; i < 10; i++) w.Save("f" + std::to_string(i), Bytes(i, 10'000'000));
  w.Settle();
  Ask(w, ScrubAction::kStart, 2'000'000);
  w.RunFor(20 * kSecond);
  const auto before = Ask(w, ScrubAction::kStatus);
  REQUIRE(before.running);
  CHECK(before.bytes > 30'000'000);
  CHECK(before.bytes < 60'000'000);
  w.Restart();
  w.RunFor(kSecond);
  const auto after = Ask(w, ScrubAction::kStatus);
  CHECK(after.running);
  CHECK(after.started == before.started);
  CHECK(after.bytes > before.bytes - 20'000'000);
  Ask(w, ScrubAction::kStart, 1 << 30);
  const auto report = RunToEnd(w);
  CHECK(report.bytes >= 100'000'000 - 20'000'000);
  CHECK(report.damaged == 0);
  Ask(w, ScrubAction::kStart, 1'000'000);
  w.RunFor(kSecond);
  CHECK(!Ask(w, ScrubAction::kStop).running);
  w.Restart();
  w.RunFor(10 * kSecond);
  CHECK(!Ask(w, ScrubAction::kStatus).running);
}
