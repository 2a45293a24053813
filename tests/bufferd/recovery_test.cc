// What is there after the daemon was killed, and after the power went.

#include "base/failpoint.h"
#include "world.h"

using namespace perigee;
using namespace perigee::bufferd;
using wire::Access;
using wire::BurstState;
using wire::Durability;
using wire::LayoutKind;

TEST_CASE("after a crash published content is there, and is flushed") {
  World w;
  std::string bytes = Bytes(1, kBig);
  wire::FileId id = w.Save("a", bytes);
  w.Restart();
  CHECK(w.Load(id) == bytes);
  w.Settle();
  wire::Record r = w.objectd->Get(id);
  CHECK(!r.writer);
  CHECK(r.committed->generation == 1);
  CHECK(w.blobs.BytesOf(*r.committed) == bytes);
  CHECK(w.engine->recovery().left() == 0);
}

TEST_CASE("a file whose writer died unpublished is ended and its burst file freed") {
  World w;
  Opened o = w.Create("a");
  w.Write(o, 0, "lost");
  wire::FileId id = o.record.id;
  o = {};
  w.Restart();
  w.Settle();
  CHECK(!w.objectd->Get(id).writer);
  CHECK(!w.objectd->Get(id).committed);
  CHECK(w.FilesOnDisk() == 0);
  CHECK(w.Load(id) == "");
}

TEST_CASE("an overwrite that died unpublished gives the old content back, which is flushed") {
  World w;
  w.engine->flusher().Hold(true);
  std::string bytes = Bytes(7, kBig);
  wire::FileId id = w.Save("a", bytes);
  w.Settle();
  REQUIRE(w.objectd->Get(id).committed->layout.kind == LayoutKind::kBurst);
  w.Write(w.MustOpen(id, Access::kWrite, true), 0, "never");
  w.Restart();
  w.Settle();
  CHECK(w.Load(id) == bytes);
  wire::Record r = w.objectd->Get(id);
  CHECK(!r.writer);
  CHECK(r.committed->generation == 1);
  CHECK(w.blobs.BytesOf(*r.committed) == bytes);
}

TEST_CASE("an overwrite that a reboot took gives the old content back, which is flushed") {
  bool journal_survives = false;
  SUBCASE("with its record") {}
  SUBCASE("though its record is there") { journal_survives = true; }
  World w;
  w.engine->flusher().Hold(true);
  std::string bytes = Bytes(8, kBig);
  wire::FileId id = w.Save("a", bytes);
  w.Settle();
  REQUIRE(w.index.Sync().ok());
  REQUIRE(w.objectd->Get(id).committed->durability == Durability::kLocal);
  {
    Opened o = w.MustOpen(id, Access::kWrite, true);
    w.Write(o, 0, Bytes(9, kBig));
    REQUIRE(w.engine->Publish(o.file).ok());
  }
  REQUIRE(w.objectd->Get(id).committed->durability == Durability::kUnsynced);
  if (journal_survives) REQUIRE(w.index.Sync().ok());
  w.Reboot();
  w.Settle();
  CHECK(w.Count("fell_back") == 1);
  CHECK(w.Load(id) == bytes);
  wire::Record r = w.objectd->Get(id);
  CHECK(!r.writer);
  CHECK(r.committed->generation == 1);
  CHECK(w.blobs.BytesOf(*r.committed) == bytes);
}

TEST_CASE("overwrites that died one after the other give the old content back, which is flushed") {
  World w;
  w.engine->flusher().Hold(true);
  std::string bytes = Bytes(21, kBig);
  wire::FileId id = w.Save("a", bytes);
  w.Settle();
  for (int i = 0; i < 3; ++i) {
    w.Write(w.MustOpen(id, Access::kWrite, true), 0, "never");
    w.Kill();
    w.objectd->away = i < 2;  // found out about together
    w.Start();
    w.objectd->away = false;
  }
  w.Settle();
  CHECK(w.Load(id) == bytes);
  CHECK(w.blobs.BytesOf(*w.objectd->Get(id).committed) == bytes);
  CHECK(w.FilesOnDisk() == 1);
}

TEST_CASE("small content synced while the namespace was away survives a reboot") {
  World w;
  Opened o = w.Create("a");
  w.Write(o, 0, "kept");
  wire::FileId id = o.record.id;
  w.objectd->away = true;
  REQUIRE(w.engine->Fsync(o.file, Durability::kLocal, w.Soon()).ok());
  bool closed = false;
  SUBCASE("while it is open") {}
  SUBCASE("after its close") { closed = true; }
  if (closed) w.Release(o);
  o = {};
  w.Reboot();
  w.objectd->away = false;
  w.Settle();
  CHECK(w.Load(id) == "kept");
  CHECK(w.objectd->InlineOf(id, w.objectd->Get(id).committed->generation) == "kept");
  CHECK(!w.objectd->Get(id).writer);
  CHECK(w.Count("fell_back") == 0);
}

TEST_CASE("content that was closed before the namespace heard of it, and is lost, ends the write") {
  World w;
  wire::FileId id;
  bool first = true;
  SUBCASE("and the file, whose first it was") {}
  SUBCASE("and what was there before stands") { first = false; }
  if (!first) {
    id = w.Save("a", Bytes(25, kBig));
    w.Settle();
  }
  {
    Opened o = first ? w.Create("a") : w.MustOpen(id, Access::kWrite, true);
    id = o.record.id;
    w.Write(o, 0, Bytes(26, kBig));
    w.objectd->away = true;
    REQUIRE(w.engine->publisher().Publish(o.file, false).ok());
    w.Release(o);
  }
  REQUIRE(w.index.Sync().ok());
  w.Reboot();
  w.objectd->away = false;
  w.Settle();
  CHECK(w.Count("fell_back") == 1);
  CHECK(w.objectd->Exists(id) != first);
  if (!first) {
    CHECK(!w.objectd->Get(id).writer);
    CHECK(w.Load(id) == Bytes(25, kBig));
  }
}

TEST_CASE("content that the object tier had, of a file made there once more, is published again") {
  World w;
  const std::string bytes = Bytes(24, kBig);
  const wire::FileId id = w.Save("a", bytes);
  w.Settle();
  FilePtr file = w.Current(id);
  REQUIRE(w.RecordOf(file).durability == Durability::kObject);
  w.Kill();
  w.objectd->MadeAgain(id, {.node = kNode, .burst = file->burst, .generation = 1});
  bool whole = true;
  SUBCASE("where it is whole") {}
  SUBCASE("not where only a part is left of it") {
    whole = false;
    BurstRecord rec = w.RecordOf(file);
    rec.whole = false;
    rec.resident = {0, 4096};
    REQUIRE(w.index.Put(rec, Durable::kYes).ok());
  }
  file = nullptr;
  w.Start();
  w.Settle();
  CHECK(!w.objectd->Get(id).writer);
  if (whole) {
    CHECK(w.Load(id) == bytes);
    CHECK(w.blobs.BytesOf(*w.objectd->Get(id).committed) == bytes);
  } else {
    CHECK_FALSE(w.objectd->Get(id).committed);
    CHECK_FALSE(w.Current(id));
  }
  CHECK(w.engine->publisher().waiting() == 0);
}

TEST_CASE("after a reboot nothing is read before it was checked") {
  World w;
  wire::FileId synced = w.Save("b", Bytes(23, kBig)), id = w.Save("a", Bytes(22, kBig));
  w.Settle();
  REQUIRE(w.index.Sync().ok());
  {
    Opened o = w.MustOpen(id, Access::kWrite);
    w.Write(o, 0, "torn");
    REQUIRE(w.engine->Publish(o.file).ok());
  }
  REQUIRE(w.index.Sync().ok());
  SUBCASE("with the namespace") {
    w.Reboot();
    CHECK(w.Load(id) == Bytes(22, kBig));
  }
  SUBCASE("while the namespace is away") {
    w.Kill();
    w.objectd->away = true;
    w.Reboot();
    CHECK(w.Open(id).code() == Code::kUnavailable);
    CHECK(w.Load(synced) == Bytes(23, kBig));
  }
}

TEST_CASE("a create whose answer was lost leaves neither a writer nor a burst file") {
  World w;
  w.objectd->lose_reply = wire::Method::kMetaCreate;
  auto created = w.engine->opener().Create(
      {.parent = wire::kRootId, .name = "a", .mode = 0644, .deadline = w.Soon()});
  CHECK(created.code() == Code::kUnavailable);
  REQUIRE(w.objectd->IdOf("a") != 0);
  w.Settle();
  CHECK(!w.objectd->Get(w.objectd->IdOf("a")).writer);
  CHECK(w.FilesOnDisk() == 0);
}

TEST_CASE("a writer that outlives the daemon goes on: its file is neither ended nor dropped") {
  World w;
  Opened o = w.Create("a");
  wire::FileId id = o.record.id;
  wire::BurstId burst = o.file->burst;
  auto fd = w.engine->store().Descriptor(o.file->dir, burst, true);
  REQUIRE(fd.ok());
  o = {};
  w.Restart();
  w.Settle();
  CHECK(w.objectd->Get(id).writer.has_value());
  auto again = w.engine->opener().Open(
      {.id = id, .access = Access::kWrite, .expect_burst = burst, .deadline = w.Soon()});
  REQUIRE(again.ok());
  REQUIRE(::pwrite(fd->get(), "alive", 5, 0) == 5);
  fd->Reset(-1);
  REQUIRE(w.engine->Publish(again->file).ok());
  w.Release(*again);
  w.Settle();
  CHECK(w.Load(id) == "alive");
}

TEST_CASE(
    "what was rewritten in place after a publish is published as a new generation after a crash") {
  World w;
  std::string bytes = Bytes(2, kBig);
  Opened o = w.Create("a");
  w.Write(o, 0, bytes);
  REQUIRE(w.engine->Publish(o.file).ok());
  w.Write(o, 0, "changed");
  wire::FileId id = o.record.id;
  o = {};
  w.Restart();
  w.Settle();
  wire::Record r = w.objectd->Get(id);
  CHECK(r.committed->generation == 2);
  bytes.replace(0, 7, "changed");
  CHECK(w.blobs.BytesOf(*r.committed) == bytes);
}

TEST_CASE("a publish journaled but not committed is committed after a crash") {
  World w;
  Opened o = w.Create("a");
  w.Write(o, 0, Bytes(3, kBig));
  w.objectd->away = true;
  REQUIRE(w.engine->Publish(o.file).ok());
  wire::FileId id = o.record.id;
  o = {};
  w.Kill();
  w.objectd->away = false;
  w.Start();
  w.Settle();
  REQUIRE(w.objectd->Get(id).committed);
  CHECK(w.blobs.BytesOf(*w.objectd->Get(id).committed) == Bytes(3, kBig));
}

TEST_CASE("a commit that the daemon did not live to hear of is adopted, not repeated") {
  World w;
  Opened o = w.Create("a");
  w.Write(o, 0, Bytes(4, kBig));
  w.objectd->lose_reply = wire::Method::kMetaPublish;
  REQUIRE(w.engine->Publish(o.file).ok());
  wire::FileId id = o.record.id;
  o = {};
  w.Restart();
  w.Settle();
  CHECK(w.objectd->Get(id).committed->generation == 1);
  CHECK(w.objectd->Get(id).committed->layout.kind == LayoutKind::kBlobs);
}

TEST_CASE("what was published again after a lost answer is not taken for what was committed") {
  for (size_t bytes : {size_t{300}, size_t{kBig}}) {
    World w;
    const std::string second = Bytes(5, bytes - 100);
    Opened o = w.Create("a");
    w.Write(o, 0, Bytes(4, bytes));
    w.objectd->lose_reply = wire::Method::kMetaPublish;
    REQUIRE(w.engine->Publish(o.file).ok());
    w.objectd->away = true;
    REQUIRE(w.engine->opener().Truncate(o.file, 0).ok());
    w.Write(o, 0, second);
    REQUIRE(w.engine->Publish(o.file).ok());
    wire::FileId id = o.record.id;
    o = {};
    w.Kill();
    w.objectd->away = false;
    w.Start();
    w.Settle();
    w.Settle();
    wire::Record record = w.objectd->Get(id);
    REQUIRE(record.committed);
    CHECK(record.committed->generation == 2);
    CHECK(record.committed->size == second.size());
    if (record.committed->layout.kind == LayoutKind::kBlobs)
      CHECK(w.blobs.BytesOf(*record.committed) == second);
    else
      CHECK(w.objectd->InlineOf(id, 2) == second);
  }
}

TEST_CASE("what was published again after a lost answer is told soon after a crash, and counted") {
  World w;
  const std::string second = Bytes(5, kBig - 100);
  Opened o = w.Create("a");
  w.Write(o, 0, Bytes(4, kBig));
  w.objectd->lose_reply = wire::Method::kMetaPublish;
  REQUIRE(w.engine->Publish(o.file).ok());
  w.objectd->away = true;
  REQUIRE(w.engine->opener().Truncate(o.file, 0).ok());
  w.Write(o, 0, second);
  REQUIRE(w.engine->Publish(o.file).ok());
  const wire::FileId id = o.record.id;
  o = {};
  w.Kill();
  w.objectd->away = false;
  w.Start();
  for (int i = 0; i < 20 && w.objectd->Get(id).committed->size != second.size(); ++i) {
    wire::BufferdStatusReply status;
    w.engine->FillStatus(&status);
    CHECK(status.registered_later == 1);
    w.RunFor(kSecond / 10);
  }
  CHECK(w.objectd->Get(id).committed->size == second.size());
  CHECK(w.objectd->Get(id).committed->generation == 2);
}

TEST_CASE("what was synced by a number that the namespace had given already survives a reboot") {
  for (int i = 0; i < 26; ++i) {
    const bool crashed = i % 2 == 1;  // its daemon dies before the power goes
    const Nanos after = i / 2 * kSecond / 2;
    World w;
    const std::string second = Bytes(5, kBig - 100);
    const wire::FileId id = w.Save("a", Bytes(3, kBig));
    w.Settle();
    REQUIRE(w.objectd->Get(id).committed->layout.kind == LayoutKind::kBlobs);
    Opened o = w.MustOpen(id, Access::kWrite);
    w.Write(o, 0, Bytes(4, kBig));
    w.objectd->lose_reply = wire::Method::kMetaPublish;
    REQUIRE(w.engine->Publish(o.file).ok());
    w.objectd->away = true;
    REQUIRE(w.engine->opener().Truncate(o.file, 0).ok());
    w.Write(o, 0, second);
    REQUIRE(w.engine->Fsync(o.file, Durability::kLocal, w.Soon()).ok());
    o = {};
    if (crashed) w.Kill();
    w.objectd->away = false;
    if (crashed) w.Start();
    w.RunFor(after);
    w.Kill();
    w.boot += "'";  // the power went, and what was not synced of the journal happens to be there
    w.Start();
    w.Settle();
    INFO("crashed ", crashed, ", ", after / kMillisecond, " ms later");
    CHECK(w.Load(id) == second);
    CHECK(w.blobs.BytesOf(*w.objectd->Get(id).committed) == second);
  }
}

#ifdef PERIGEE_FAILPOINTS
TEST_CASE("what is written while the content before it is synced does not count as synced") {
  World w;
  const std::string second = Bytes(5, kBig);
  Opened o = w.Create("a");
  const wire::FileId id = o.record.id;
  const wire::BurstId burst = o.file->burst;
  w.objectd->away = true;
  w.Write(o, 0, Bytes(4, kBig));
  REQUIRE(w.engine->Publish(o.file).ok());
  o = {};
  w.Kill();
  w.objectd->away = false;
  w.Start();  // which syncs it, and registers it a second later
  constexpr Nanos kStep = 100 * kMillisecond;
  REQUIRE(failpoint::Arm("burst_sync_after_data=delay:300@*").ok());
  w.sched->PostAfter(2 * kStep, [&] {
    auto again = w.engine->opener().Open(
        {.id = id, .access = Access::kWrite, .expect_burst = burst, .deadline = w.Soon()});
    REQUIRE(again.ok());
    w.Write(*again, 0, second);
    REQUIRE(w.engine->Publish(again->file).ok());
    w.Release(*again);
  });
  w.RunFor(4 * kStep);
  REQUIRE(w.objectd->Get(id).committed);
  CHECK(w.objectd->Get(id).committed->generation == 1);  // the number of the first
  CHECK(w.objectd->Get(id).committed->durability == Durability::kUnsynced);
  w.RunFor(4 * kStep);
  CHECK(w.objectd->Get(id).committed->durability == Durability::kLocal);
  failpoint::DisarmAll();
  w.Settle();
  CHECK(w.blobs.BytesOf(*w.objectd->Get(id).committed) == second);
}
#endif

TEST_CASE("files without records are removed and ids are never given again") {
  World w;
  wire::FileId id = w.Save("a", "x");
  wire::BurstId burst = w.Current(id)->burst;
  w.Kill();
  {
    auto store = StoreDir::Open(*w.disk, RealClock::Get(), w.dir.path());
    REQUIRE(store.ok());
    REQUIRE((*store)->Create(burst + 100).ok());
  }
  w.Start();
  CHECK(w.FilesOnDisk() == 1);
  wire::FileId other = w.Save("b", "y");
  CHECK(w.Current(other)->burst > burst + 100);
}

TEST_CASE("a file unlinked while the daemon was down is freed") {
  World w;
  w.Save("a", Bytes(5, kBig));
  w.Kill();
  w.objectd->Unlink("a");
  w.Start();
  w.Settle();
  CHECK(w.FilesOnDisk() == 0);
}

TEST_CASE("with objectd away at start, what is here is served, and reconciled when it is back") {
  World w;
  wire::FileId id = w.Save("a", Bytes(6, kBig));
  w.Kill();
  w.objectd->away = true;
  w.Start();
  CHECK(w.Load(id) == Bytes(6, kBig));
  CHECK(w.engine->recovery().left() == 1);
  w.objectd->away = false;
  w.Settle();
  CHECK(w.engine->recovery().left() == 0);
  CHECK(w.objectd->Get(id).committed->layout.kind == LayoutKind::kBlobs);
}

TEST_CASE(
    "after power loss an unsynced version falls back to the one before, whole, and is reported") {
  World w;
  std::string old_bytes = Bytes(7, kBig);
  wire::FileId id = w.Save("a", old_bytes);
  w.Settle();  // in the object tier
  Opened o = w.MustOpen(id, Access::kWrite, true);
  w.Write(o, 0, Bytes(8, kBig));
  REQUIRE(w.index.Sync().ok());  // the journal's pages went out, the data's did not
  REQUIRE(w.engine->Publish(o.file).ok());
  REQUIRE(w.index.Sync().ok());
  CHECK(w.objectd->Get(id).committed->generation == 2);
  o = {};
  w.Reboot();
  w.Settle();
  wire::Record r = w.objectd->Get(id);
  CHECK(r.committed->generation == 1);
  CHECK(!r.writer);
  CHECK(w.Load(id) == old_bytes);
  CHECK(w.Count("fell_back") == 1);
  REQUIRE(w.engine->core().Reported().size() == 1);
  CHECK(w.engine->core().Reported()[0].find("fell back to version 1") != std::string::npos);
}

TEST_CASE(
    "after power loss an unsynced first version is gone, and reported, even when its record is "
    "gone too") {
  World w;
  Opened o = w.Create("a");
  w.Write(o, 0, Bytes(9, kBig));
  REQUIRE(w.engine->Publish(o.file).ok());
  wire::FileId id = o.record.id;
  o = {};
  w.Reboot();  // nothing of the journal survived
  CHECK(w.FilesOnDisk() == 0);
  CHECK(w.Open(id).code() == Code::kStale);
  CHECK(!w.objectd->Exists(id));
  CHECK(w.Count("fell_back") == 1);
}

TEST_CASE("a reader elsewhere finds that a version and its record went with the power") {
  World w;
  wire::FileId id = w.Save("a", "small and safe");
  w.Settle();
  Opened o = w.MustOpen(id, Access::kWrite, true);
  w.Write(o, 0, Bytes(9, kBig));
  REQUIRE(w.engine->Publish(o.file).ok());
  wire::Record r = w.objectd->Get(id);
  wire::BurstReadRequest q{.burst = o.file->burst, .length = 100};
  q.id = id;
  q.generation = r.committed->generation;
  o = {};
  w.Reboot();  // nothing of the journal survived
  std::string out(100, 0);
  Status s = w.engine->ReadForPeer(q, {reinterpret_cast<uint8_t*>(out.data()), out.size()});
  CHECK(s.Is(Code::kStale));
  CHECK(w.objectd->Get(id).committed->generation == 1);
  CHECK(w.Load(id) == "small and safe");
  CHECK(w.Count("fell_back") == 1);
}

TEST_CASE("after power loss a synced version is there") {
  World w;
  Opened o = w.Create("a");
  w.Write(o, 0, Bytes(10, kBig));
  REQUIRE(w.engine->Fsync(o.file, Durability::kLocal, w.Soon()).ok());
  wire::FileId id = o.record.id;
  w.Release(o);
  o = {};
  w.RunFor(kSecond);
  w.Reboot();
  w.Settle();
  CHECK(w.Load(id) == Bytes(10, kBig));
  CHECK(w.objectd->Get(id).committed->layout.kind == LayoutKind::kBlobs);
  CHECK(w.Count("fell_back") == 0);
}

TEST_CASE("a synced version that is only here falls back whole, however it was rewritten") {
  World w;
  const std::string bytes = Bytes(11, kBig);
  wire::FileId id = w.Save("a", bytes);
  w.RunFor(kSecond);  // local, sealed, not flushed
  REQUIRE(w.objectd->Get(id).committed->durability == Durability::kLocal);
  Opened o = w.MustOpen(id, Access::kWrite);
  CHECK(w.Read(o.file) == bytes);
  CHECK(o.size == kBig);
  uint64_t fallbacks = 0;
  SUBCASE("its writer was at it") { w.Write(o, 0, "torn"); }
  SUBCASE("its writer had closed it, and it was not synced yet") {
    w.Write(o, kBig, Bytes(12, 5000));
    REQUIRE(w.engine->Publish(o.file).ok());
    fallbacks = 1;
  }
  o = {};
  w.Reboot();
  w.Settle();
  wire::Record r = w.objectd->Get(id);
  CHECK(!r.writer);
  CHECK(w.blobs.BytesOf(*r.committed) == bytes);
  CHECK(w.Load(id) == bytes);
  CHECK(w.Count("rewritten_torn") == 0);
  CHECK(w.Count("fell_back") == fallbacks);
}

TEST_CASE(
    "what others have open is rewritten where they see it, and closed unchanged is the same") {
  World w;
  const std::string bytes = Bytes(11, kBig);
  wire::FileId id = w.Save("a", bytes);
  w.RunFor(kSecond);
  Opened reader = w.MustOpen(id);
  Opened writer = w.MustOpen(id, Access::kWrite);
  CHECK(writer.file == reader.file);
  w.Write(writer, 0, "seen");
  CHECK(w.Read(reader.file).substr(0, 4) == "seen");
  w.Release(writer);
  w.Release(reader);
  writer = reader = {};
  w.RunFor(kSecond);
  const std::string now = "seen" + bytes.substr(4);
  Opened alone = w.MustOpen(id, Access::kWrite);
  w.Release(alone);  // and never closed: its process died
  alone = {};
  w.Settle();
  CHECK(w.Load(id) == now);
  CHECK(w.objectd->Get(id).committed->generation == 2);
}

TEST_CASE(
    "a synced version that was being rewritten in place at power loss is kept as what the file "
    "has, and reported") {
  World w;
  std::string bytes = Bytes(11, kBig);
  wire::FileId id = w.Save("a", bytes);
  w.RunFor(kSecond);  // local, sealed, not flushed
  REQUIRE(w.objectd->Get(id).committed->durability == Durability::kLocal);
  Opened reader = w.MustOpen(id);
  Opened o = w.MustOpen(id, Access::kWrite);
  w.Write(o, 0, "torn");
  o = reader = {};
  w.Reboot();
  w.Settle();
  wire::Record r = w.objectd->Get(id);
  CHECK(r.committed->generation == 2);
  CHECK(!r.writer);
  bytes.replace(0, 4, "torn");
  CHECK(w.blobs.BytesOf(*r.committed) == bytes);
  CHECK(w.Count("rewritten_torn") == 1);
}

TEST_CASE(
    "a version opened for rewriting at power loss but never written is proven whole by its "
    "checksums") {
  World w;
  wire::FileId id = w.Save("a", Bytes(12, kBig));
  w.RunFor(kSecond);
  Opened o = w.MustOpen(id, Access::kWrite);
  o = {};
  w.Reboot();
  w.Settle();
  CHECK(w.objectd->Get(id).committed->generation == 1);
  CHECK(w.Count("rewritten_torn") == 0);
  CHECK(w.Load(id) == Bytes(12, kBig));
}

TEST_CASE("copies survive a reboot only when they were synced") {
  World w;
  wire::FileId synced = w.objectd->Put("a", w.blobs.Store(Bytes(13, kBig)));
  wire::FileId fresh = w.objectd->Put("b", w.blobs.Store(Bytes(14, kBig)));
  CHECK(w.Load(synced) == Bytes(13, kBig));
  w.RunFor(kSecond);
  Opened o = w.MustOpen(fresh);
  o = {};
  int reads = w.blobs.reads;
  w.Reboot();
  CHECK(w.Load(synced) == Bytes(13, kBig));
  CHECK(w.blobs.reads == reads);
  CHECK(w.Load(fresh) == Bytes(14, kBig));
  CHECK(w.blobs.reads > reads);
}

TEST_CASE("a crash in the middle of a fill keeps what was recorded and fetches the rest") {
  World w;
  std::string bytes = Bytes(15, 40'000'000);
  wire::FileId id = w.objectd->Put("a", w.blobs.Store(bytes));
  auto o = w.Open(id, Access::kRead, false, 0);
  REQUIRE(o.ok());
  REQUIRE(w.engine->filler().Ensure(o->file, {0, 100}, w.Soon(), false).ok());
  *o = {};
  w.Restart();
  CHECK(w.Load(id) == bytes);
}

TEST_CASE("a synced burst file that is missing is reported lost and not given up") {
  World w;
  wire::FileId id = w.Save("a", Bytes(16, kBig));
  w.RunFor(kSecond);
  FilePtr f = w.Current(id);
  uint32_t dir = f->dir;
  wire::BurstId burst = f->burst;
  f.reset();
  w.Kill();
  {
    auto store = StoreDir::Open(*w.disk, RealClock::Get(), w.dir.path());
    REQUIRE(store.ok());
    REQUIRE((*store)->Unlink(dir, burst).ok());
  }
  w.Start();
  w.Settle();
  CHECK(w.objectd->Get(id).committed.has_value());
  CHECK(w.Count("lost_files") == 1);
  CHECK(!w.Open(id).ok());
}

TEST_CASE("a burst file whose record a damaged index lost is set aside, never removed") {
  World w;
  w.engine->flusher().Hold(true);
  const std::string bytes = Bytes(7, 300'000);
  w.Save("f", bytes);
  auto id = w.Save("g", bytes);
  w.Settle();
  const wire::BurstId burst = w.Current(id)->burst;
  w.Kill();
  w.index.Damage(burst);
  w.Start();
  w.Settle();
  CHECK(w.Count("set_aside") == 1);
  CHECK(!w.index.damaged());
  auto aside = w.disk->Open(w.dir.path() + "/lost/" + HexEncode64(burst), OpenMode::kRead);
  REQUIRE(aside.ok());
  std::string seen(bytes.size(), ' ');
  REQUIRE((*aside)->ReadAt(0, {reinterpret_cast<uint8_t*>(seen.data()), seen.size()}).ok());
  CHECK(seen == bytes);
  // Its id is named by the namespace: no new file may get it, or one between.
  CHECK(w.Current(w.Save("h", bytes))->burst > burst + 1'000'000);
  w.Restart();
  w.Settle();
  CHECK(w.Count("set_aside") == 1);
}

TEST_CASE("whatever step a crash interrupts, acknowledged content is there afterwards") {
  constexpr uint64_t kSeed = 99;
  INFO("seed ", kSeed);
  Random random(kSeed);
  for (int round = 0; round < 12; ++round) {
    INFO("round ", round);
    World w(World::Setup{.seed = kSeed + static_cast<uint64_t>(round)});
    std::map<wire::FileId, std::string> acknowledged;
    for (int i = 0; i < 6; ++i) {
      uint64_t size = random.OneIn(2) ? random.Below(10'000) : 100'000 + random.Below(300'000);
      std::string bytes = Bytes(random.Next(), size);
      wire::FileId id = w.Save("f" + std::to_string(i), bytes);
      acknowledged[id] = bytes;
      if (random.OneIn(3)) {
        Opened o = w.MustOpen(id, Access::kWrite, random.OneIn(2));
        std::string next = Bytes(random.Next(), size + 1);
        w.Write(o, 0, next);
        REQUIRE(w.engine->Publish(o.file).ok());
        w.Release(o);
        acknowledged[id] = next;
      }
      w.RunFor(static_cast<Nanos>(random.Below(3 * kSecond)));
    }
    w.Restart();
    for (const auto& [id, bytes] : acknowledged) CHECK(w.Load(id) == bytes);
    w.Settle();
    for (const auto& [id, bytes] : acknowledged) CHECK(w.Load(id) == bytes);
    CHECK(w.engine->publisher().waiting() == 0);
  }
}
