// Create, publish, seal, flush, re-open, unlink: one file's life, on real files and a fake
// namespace.

#include <sys/mman.h>

#include "world.h"

using namespace perigee;
using namespace perigee::bufferd;
using wire::Access;
using wire::BurstState;
using wire::Durability;
using wire::LayoutKind;

TEST_CASE("a closed file is committed as a burst layout, then sealed, synced, flushed and clean") {
  World w;
  std::string bytes = Bytes(1, kBig);
  Opened o = w.Create("a");
  w.Write(o, 0, bytes);
  CHECK(!w.objectd->Get(o.record.id).committed);
  REQUIRE(w.engine->Publish(o.file).ok());
  CHECK(w.objectd->traffic[wire::Method::kMetaPublish] == rdma::TrafficClass::kCheckpoint);
  wire::Record r = w.objectd->Get(o.record.id);
  REQUIRE(r.committed);
  CHECK(r.committed->generation == 1);
  CHECK(r.committed->size == bytes.size());
  CHECK(r.committed->layout.kind == LayoutKind::kBurst);
  CHECK(r.committed->layout.burst == o.file->burst);
  CHECK(r.committed->durability == Durability::kUnsynced);
  w.Release(o);

  w.RunFor(kSecond);
  r = w.objectd->Get(o.record.id);
  CHECK(!r.writer);
  CHECK(r.committed->durability == Durability::kLocal);
  CHECK(w.StateOf(o.record.id) == BurstState::kSealed);
  CHECK(r.committed->layout.kind == LayoutKind::kBurst);  // lingers

  w.RunFor(3 * kSecond);
  r = w.objectd->Get(o.record.id);
  CHECK(r.committed->layout.kind == LayoutKind::kBlobs);
  CHECK(w.objectd->traffic[wire::Method::kMetaCommitFlush] == rdma::TrafficClass::kFlush);
  CHECK(w.blobs.BytesOf(*r.committed) == bytes);
  CHECK(w.StateOf(o.record.id) == BurstState::kClean);
  CHECK(w.Read(o.file) == bytes);
}

TEST_CASE("a small file travels inside the publish and needs no flush") {
  World w;
  wire::FileId id = w.Save("small", "hello");
  wire::Record r = w.objectd->Get(id);
  CHECK(r.committed->layout.kind == LayoutKind::kInline);
  CHECK(w.objectd->InlineOf(id, 1) == "hello");
  w.Settle();
  CHECK(w.StateOf(id) == BurstState::kClean);
  CHECK(w.Count("files_flushed") == 0);
  CHECK(w.objectd->calls[wire::Method::kMetaSync] == 1);
}

TEST_CASE("files that are closed in short order end their writes in one call, and sync in one") {
  World w;
  std::vector<wire::FileId> ids;
  for (int i = 0; i < 20; ++i) ids.push_back(w.Save("f" + std::to_string(i), "hello"));
  w.Settle();
  for (wire::FileId id : ids) {
    CHECK(w.StateOf(id) == BurstState::kClean);
    CHECK(!w.objectd->Get(id).writer);
  }
  CHECK(w.Count("seals") == 20);
  CHECK(w.objectd->calls[wire::Method::kMetaEndWrites] == 1);
  CHECK(w.objectd->calls[wire::Method::kMetaSync] == 1);
}

TEST_CASE("a small file for which the metadata has no room is published as a burst file") {
  World w;
  w.objectd->metadata_full = true;
  auto id = w.Save("small", "five!");
  CHECK(w.objectd->Get(id).committed->layout.kind == LayoutKind::kBurst);
  w.Settle();
  CHECK(w.objectd->Get(id).committed->layout.kind == LayoutKind::kBlobs);
  CHECK(w.Load(id) == "five!");
  w.objectd->metadata_full = false;
  CHECK(w.objectd->Get(w.Save("next", "six")).committed->layout.kind == LayoutKind::kInline);
}

TEST_CASE("a publish without a change calls nobody") {
  World w;
  Opened o = w.Create("a");
  w.Write(o, 0, "x");
  REQUIRE(w.engine->Publish(o.file).ok());
  int calls = w.objectd->calls[wire::Method::kMetaPublish];
  REQUIRE(w.engine->Publish(o.file).ok());
  CHECK(w.objectd->calls[wire::Method::kMetaPublish] == calls);
  w.Write(o, 1, "y");
  REQUIRE(w.engine->Publish(o.file).ok());
  CHECK(w.objectd->InlineOf(o.record.id, 2) == "xy");
  w.Release(o);
}

TEST_CASE(
    "a file is not sealed while a descriptor or a mapping can still change it, and the last change "
    "is published") {
  World w;
  Opened o = w.Create("mapped");
  std::string bytes = Bytes(2, kBig);
  w.Write(o, 0, bytes);
  auto fd = w.engine->store().Descriptor(o.file->dir, o.file->burst, true);
  REQUIRE(fd.ok());
  auto* map =
      static_cast<char*>(::mmap(nullptr, kBig, PROT_READ | PROT_WRITE, MAP_SHARED, fd->get(), 0));
  REQUIRE(map != MAP_FAILED);
  fd->Reset(-1);
  REQUIRE(w.engine->Publish(o.file).ok());
  w.Release(o);
  w.Settle();
  CHECK(w.StateOf(o.record.id) == BurstState::kPublished);
  CHECK(w.objectd->Get(o.record.id).writer.has_value());
  CHECK(w.Count("seal_refusals") > 3);
  std::string why;
  CHECK(!w.engine->evictor().Evict(o.file, &why));

  map[7] = static_cast<char>(map[7] + 1);
  ::munmap(map, kBig);
  w.Settle();
  bytes[7] = static_cast<char>(bytes[7] + 1);
  wire::Record r = w.objectd->Get(o.record.id);
  CHECK(!r.writer);
  CHECK(r.committed->generation == 2);
  CHECK(w.blobs.BytesOf(*r.committed) == bytes);
}

TEST_CASE("a store through a mapping after the publish of a small file is not lost") {
  World w;
  Opened o = w.Create("mapped");
  w.Write(o, 0, std::string(4096, 'a'));
  auto fd = w.engine->store().Descriptor(o.file->dir, o.file->burst, true);
  REQUIRE(fd.ok());
  auto* map =
      static_cast<char*>(::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd->get(), 0));
  fd->Reset(-1);
  map[0] = 'b';  // the page is dirty: the next store moves no time
  REQUIRE(w.engine->Publish(o.file).ok());
  map[1] = 'c';
  w.Release(o);
  ::munmap(map, 4096);
  w.Settle();
  wire::Record r = w.objectd->Get(o.record.id);
  CHECK(w.objectd->InlineOf(o.record.id, r.committed->generation).substr(0, 3) == "bca");
}

TEST_CASE("opening for write cancels a lingering flush and goes on in the same burst file") {
  World w;
  wire::FileId id = w.Save("a", Bytes(3, kBig));
  w.RunFor(kSecond);
  Opened o = w.MustOpen(id, Access::kWrite);
  CHECK(o.size == kBig);
  w.RunFor(10 * kSecond);
  CHECK(w.objectd->Get(id).committed->layout.kind == LayoutKind::kBurst);
  w.Write(o, kBig, "tail");
  REQUIRE(w.engine->Publish(o.file).ok());
  CHECK(w.objectd->Get(id).committed->generation == 2);
  w.Release(o);
  w.Settle();
  CHECK(w.blobs.BytesOf(*w.objectd->Get(id).committed) == Bytes(3, kBig) + "tail");
}

TEST_CASE("opening for write cancels a running flush before it answers") {
  World w;
  wire::FileId id = w.Save("a", Bytes(4, kBig));
  w.RunFor(kSecond);
  bool opened = false, opened_while_reading = false;
  Event go;
  w.blobs.on_commit = [&](uint64_t so_far) {
    if (so_far < 2'000'000 && !go.IsSet()) {
      go.Set();
      // The opener runs meanwhile.
      for (int i = 0; i < 20; ++i) {
        Event never;
        (void)never.WaitFor(kMillisecond);
        opened_while_reading = opened_while_reading || opened;
      }
    }
    return Status::Ok();
  };
  FilePtr file;
  w.engine->flusher().Force(w.Current(id));
  REQUIRE(w.sched
              ->Post([&] {
                go.Wait();
                auto o = w.engine->opener().Open(
                    {.id = id, .access = Access::kWrite, .deadline = w.Soon()});
                opened = o.ok();
                if (o.ok()) file = o->file;
              })
              .ok());
  w.RunFor(5 * kSecond);
  CHECK(opened);
  CHECK(!opened_while_reading);
  CHECK(w.objectd->Get(id).committed->layout.kind == LayoutKind::kBurst);
  CHECK(w.Count("flush_cancelled") == 1);
  REQUIRE(file);
  w.engine->opener().Release(file, Access::kWrite);
  w.Settle();
  CHECK(w.blobs.BytesOf(*w.objectd->Get(id).committed) == Bytes(4, kBig));
}

TEST_CASE("opening a clean file for write and closing it unchanged makes no new version") {
  World w;
  wire::FileId id = w.Save("a", Bytes(5, kBig));
  w.Settle();
  Opened o = w.MustOpen(id, Access::kWrite);
  REQUIRE(w.engine->Publish(o.file).ok());
  w.Release(o);
  w.Settle();
  wire::Record r = w.objectd->Get(id);
  CHECK(r.committed->generation == 1);
  CHECK(!r.writer);
  CHECK(w.StateOf(id) == BurstState::kClean);
}

TEST_CASE("rewriting a published version is journaled durably before the opener hears of it") {
  World w;
  wire::FileId id = w.Save("a", Bytes(6, kBig));
  w.Settle();
  uint64_t syncs = w.index.syncs();
  Opened o = w.MustOpen(id, Access::kWrite);
  CHECK(w.index.syncs() > syncs);
  w.Release(o);
}

TEST_CASE("truncating at open leaves the old version whole until the new one is published") {
  World w;
  std::string old_bytes = Bytes(7, kBig);
  wire::FileId id = w.Save("a", old_bytes);
  Opened reader = w.MustOpen(id);
  Opened writer = w.MustOpen(id, Access::kWrite, true);
  CHECK(writer.file->burst != reader.file->burst);
  CHECK(writer.size == 0);
  std::string got(100, '\0');
  wire::BurstReadRequest q{.burst = reader.file->burst, .id = id, .generation = 1, .length = 100};
  CHECK(ReadBurst(w.engine->core(), q, {reinterpret_cast<uint8_t*>(got.data()), got.size()}).ok());
  CHECK(got == old_bytes.substr(0, 100));
  w.Write(writer, 0, "new");
  REQUIRE(w.engine->Publish(writer.file).ok());
  w.Release(writer);
  CHECK(w.Read(reader.file) == old_bytes);  // who has it open keeps it
  CHECK(w.Load(id) == "new");
  CHECK(w.FilesOnDisk() == 2);
  w.Release(reader);
  w.Settle();
  CHECK(w.FilesOnDisk() == 1);
}

TEST_CASE("a truncated file whose writer dies before publishing keeps its old content") {
  World w;
  std::string old_bytes = Bytes(8, kBig);
  wire::FileId id = w.Save("a", old_bytes);
  w.Settle();
  Opened writer = w.MustOpen(id, Access::kWrite, true);
  w.Write(writer, 0, "never");
  w.Release(writer);  // the connection dropped: no publish
  w.Settle();
  wire::Record r = w.objectd->Get(id);
  CHECK(r.committed->generation == 1);
  CHECK(!r.writer);
  CHECK(w.Load(id) == old_bytes);
}

TEST_CASE("two writers of one file share its burst file and the seal waits for the last") {
  World w;
  Opened a = w.Create("a");
  Opened b = w.MustOpen(a.record.id, Access::kWrite);
  CHECK(a.file == b.file);
  w.Write(a, 0, "aaaa");
  w.Write(b, 4, "bbbb");
  REQUIRE(w.engine->Publish(a.file).ok());
  w.Release(a);
  w.Settle();
  CHECK(w.objectd->Get(a.record.id).writer.has_value());
  REQUIRE(w.engine->Publish(b.file).ok());
  w.Release(b);
  w.Settle();
  CHECK(!w.objectd->Get(a.record.id).writer);
  CHECK(w.Load(a.record.id) == "aaaabbbb");
}

TEST_CASE("a reader on this node sees a file that is being written") {
  World w;
  Opened o = w.Create("a");
  w.Write(o, 0, "half");
  Opened r = w.MustOpen(o.record.id);
  CHECK(r.kind == wire::OpenKind::kDescriptor);
  CHECK(r.size == 4);
  CHECK(r.file == o.file);
  w.Release(r);
  w.Release(o);
}

TEST_CASE("a file written on another node opens for write as busy") {
  World w;
  wire::FileId id = w.objectd->Put("a", w.blobs.Store("x"));
  REQUIRE(w.objectd->Get(id).committed);
  client::MetaClient other(w.objectd);
  REQUIRE(other.OpenWrite({.id = id, .expect_generation = 1, .node = 7, .burst = 1}).ok());
  CHECK(w.Open(id, Access::kWrite).code() == Code::kBusy);
  CHECK(w.Load(id) == "x");
  w.objectd->writers_gone = true;
  Opened o = w.MustOpen(id, Access::kWrite);
  CHECK(w.objectd->Get(id).writer->node == kNode);
  w.Release(o);
}

TEST_CASE("a node tells whether it writes a file still") {
  World w;
  Opened o = w.Create("a");
  const wire::FileId id = o.record.id;
  const wire::BurstId burst = o.file->burst;
  auto writes = [&](wire::FileId file, wire::BurstId in) {
    return w.engine->Writes({.id = file, .burst = in});
  };
  CHECK(writes(id, burst));
  CHECK(!writes(id + 1, burst));
  CHECK(writes(id, burst + 1));  // may be in the making
  w.Write(o, 0, "x");
  REQUIRE(w.engine->Publish(o.file).ok());
  w.Release(o);
  o = {};
  w.Settle();
  CHECK(!writes(id, burst));
  w.Restart();
  CHECK(!writes(id, burst + 1));  // of an earlier run, and lost
}

TEST_CASE("a stale burst file is refused, the current one is not") {
  World w;
  wire::FileId id = w.Save("a", "x");
  wire::BurstId burst = w.Current(id)->burst;
  auto open = [&](wire::BurstId expect) {
    return w.engine->opener().Open({.id = id, .expect_burst = expect, .deadline = w.Soon()});
  };
  CHECK(open(burst + 1).code() == Code::kStale);
  auto ok = open(burst);
  REQUIRE(ok.ok());
  w.Release(*ok);
}

TEST_CASE("the mode of the file decides for callers who are to be checked") {
  World w;
  wire::FileId id = w.Save("a", "x");
  w.objectd->SetMode(id, 0640, 1000);
  auto open = [&](uint32_t uid, uint32_t gid, Access access) {
    auto o = w.engine->opener().Open({.caller = {.enforce = true, .uid = uid, .gid = gid},
                                      .id = id,
                                      .access = access,
                                      .deadline = w.Soon()});
    if (o.ok()) w.Release(*o);
    return o.code();
  };
  CHECK(open(1000, 9, Access::kWrite) == Code::kOk);
  CHECK(open(1001, 0, Access::kRead) == Code::kOk);  // by group 0
  CHECK(open(1001, 0, Access::kWrite) == Code::kPermissionDenied);
  CHECK(open(1001, 9, Access::kRead) == Code::kPermissionDenied);
}

TEST_CASE(
    "an unlinked file that is open keeps its bytes and goes with its last handle once that is "
    "durable") {
  World w;
  Opened o = w.Create("a");
  w.Write(o, 0, Bytes(9, kBig));
  REQUIRE(w.engine->Publish(o.file).ok());
  wire::Record r = w.objectd->Get(o.record.id);
  w.objectd->Unlink("a");
  w.engine->OnUnlinked(r);
  w.Write(o, 0, "still");
  CHECK(w.engine->Publish(o.file).ok());  // close(2) of an unlinked file is no error
  w.RunFor(5 * kSecond);
  CHECK(w.FilesOnDisk() == 1);
  w.Release(o);
  w.Settle();
  CHECK(w.FilesOnDisk() == 0);
  CHECK(w.Count("files_flushed") == 0);
}

TEST_CASE("fsync makes the content local, journal and namespace included, before it returns") {
  World w;
  Opened o = w.Create("a");
  w.Write(o, 0, Bytes(10, kBig));
  uint64_t syncs = w.index.syncs();
  REQUIRE(w.engine->Fsync(o.file, Durability::kLocal, w.Soon()).ok());
  CHECK(w.index.syncs() > syncs);
  CHECK(w.objectd->Get(o.record.id).committed->durability == Durability::kLocal);
  CHECK(w.RecordOf(o.file).synced_generation == 1);
  w.Release(o);
}

TEST_CASE("fsync of a small file makes it durable in the namespace") {
  World w;
  Opened o = w.Create("a");
  w.Write(o, 0, "x");
  REQUIRE(w.engine->Fsync(o.file, Durability::kLocal, w.Soon()).ok());
  CHECK(w.objectd->Get(o.record.id).committed->durability == Durability::kObject);
  w.Release(o);
}

TEST_CASE("fsync of class object flushes even while the file is open, and the file goes on") {
  World w;
  Opened o = w.Create("a");
  w.Write(o, 0, Bytes(11, kBig));
  REQUIRE(w.engine->Fsync(o.file, Durability::kObject, w.Soon()).ok());
  wire::Record r = w.objectd->Get(o.record.id);
  CHECK(r.committed->layout.kind == LayoutKind::kBlobs);
  CHECK(w.blobs.BytesOf(*r.committed) == Bytes(11, kBig));
  w.Write(o, 0, "more");
  REQUIRE(w.engine->Publish(o.file).ok());
  CHECK(w.objectd->Get(o.record.id).committed->layout.kind == LayoutKind::kBurst);
  w.Release(o);
  w.Settle();
  CHECK(w.blobs.BytesOf(*w.objectd->Get(o.record.id).committed).substr(0, 4) == "more");
  CHECK(w.engine->Fsync(o.file, Durability::kPartner, w.Soon()).code() == Code::kUnimplemented);
}

TEST_CASE("while objectd is away a close succeeds, is counted, and is registered when it is back") {
  World w;
  Opened o = w.Create("a");
  w.Write(o, 0, Bytes(12, kBig));
  w.objectd->away = true;
  REQUIRE(w.engine->Publish(o.file).ok());
  REQUIRE(w.engine->Fsync(o.file, Durability::kLocal, w.Soon()).ok());
  CHECK(w.RecordOf(o.file).synced_generation == 1);
  CHECK(w.engine->publisher().waiting() == 1);
  w.Release(o);
  w.RunFor(10 * kSecond);
  CHECK(!w.objectd->Get(o.record.id).committed);
  w.objectd->away = false;
  w.Settle();
  CHECK(w.engine->publisher().waiting() == 0);
  wire::Record r = w.objectd->Get(o.record.id);
  REQUIRE(r.committed);
  CHECK(r.committed->layout.kind == LayoutKind::kBlobs);
  CHECK(!r.writer);
}

TEST_CASE("a publish whose answer was lost is not committed twice, and a later change is") {
  World w;
  Opened o = w.Create("a");
  w.Write(o, 0, Bytes(13, kBig));
  w.objectd->lose_reply = wire::Method::kMetaPublish;
  REQUIRE(w.engine->Publish(o.file).ok());
  CHECK(w.objectd->Get(o.record.id).committed->generation == 1);
  w.Write(o, kBig, "end");
  REQUIRE(w.engine->Publish(o.file).ok());
  w.Settle();
  wire::Record r = w.objectd->Get(o.record.id);
  CHECK(r.committed->generation == 2);
  CHECK(r.committed->size == kBig + 3);
  w.Release(o);
}

TEST_CASE("a file open for writing is published also when objectd alone lost its power meanwhile") {
  World w;
  std::string first = Bytes(1, kBig), second = Bytes(2, kBig), third = Bytes(3, kBig);
  wire::FileId id = w.Save("f", first);
  w.Settle();
  REQUIRE(w.meta->Sync().ok());
  Opened o = w.MustOpen(id, wire::Access::kWrite);
  w.Write(o, 0, second);
  SUBCASE("and with it that this node writes") {}
  SUBCASE("and with it what was published last") { REQUIRE(w.engine->Publish(o.file).ok()); }
  w.objectd->LosePower();
  CHECK(!w.objectd->Get(id).writer);
  w.Write(o, 0, third);
  REQUIRE(w.engine->Publish(o.file).ok());
  w.Release(o);
  w.Settle();
  CHECK(w.objectd->Get(id).committed->layout.kind == LayoutKind::kBlobs);
  CHECK(w.Load(id) == third);
}

TEST_CASE("what is written here while another node takes the file over is kept beside it") {
  World w;
  const std::string ours = Bytes(2, kBig);
  wire::FileId id = w.Save("f", Bytes(1, kBig));
  w.Settle();
  REQUIRE(w.meta->Sync().ok());
  Opened o = w.MustOpen(id, wire::Access::kWrite);
  w.Write(o, 0, ours);
  w.objectd->LosePower();
  wire::OpenWriteRequest other{.id = id, .node = kNode + 1, .burst = 7};
  other.expect_generation = w.objectd->Get(id).committed->generation;
  client::MetaClient their(w.objectd);
  REQUIRE(their.OpenWrite(other).ok());
  const std::string name = "f.conflict-" + HexEncode64(kNode + o.file->burst);
  SUBCASE("while it is closed") { CHECK(w.engine->Publish(o.file).ok()); }
  SUBCASE("while objectd is away for this node, and hears of it later") {
    w.objectd->away = true;
    CHECK(w.engine->Publish(o.file).ok());
    w.RunFor(10 * kSecond);
    w.objectd->away = false;
    w.RunFor(10 * kSecond);
  }
  SUBCASE("and the answer to its making is lost") {
    w.objectd->lose_reply = wire::Method::kMetaCreate;
    CHECK(w.engine->Publish(o.file).ok());
    w.RunFor(10 * kSecond);
  }
  CHECK(w.objectd->Get(id).writer->node == kNode + 1);
  wire::FileId beside = w.objectd->IdOf(name);
  REQUIRE(beside != 0);
  CHECK(w.objectd->Get(beside).committed->size == ours.size());
  w.Write(o, 0, "goes on");
  REQUIRE(w.engine->Publish(o.file).ok());
  w.Release(o);
  w.Settle();
  CHECK(w.Load(beside) == "goes on" + ours.substr(7));
  CHECK(w.objectd->Get(beside).committed->layout.kind == LayoutKind::kBlobs);
  CHECK(!w.objectd->Get(beside).writer);
  REQUIRE(w.engine->core().Reported().size() == 1);
  CHECK(w.engine->core().Reported()[0].find(name) != std::string::npos);
  CHECK(w.engine->publisher().waiting() == 0);
}

TEST_CASE("a create whose answer was lost leaves no writer behind") {
  World w;
  w.objectd->lose_reply = wire::Method::kMetaCreate;
  auto o = w.engine->opener().Create({.parent = wire::kRootId, .name = "a", .deadline = w.Soon()});
  CHECK(!o.ok());
  wire::FileId id = w.objectd->IdOf("a");
  REQUIRE(id != 0);
  w.engine->recovery().ReconcileAll();
  w.Settle();
  CHECK(!w.objectd->Get(id).writer);
  CHECK(w.FilesOnDisk() == 0);
}

TEST_CASE("creating by path makes directories but no bucket, and replace truncates what is there") {
  World w;
  client::MetaClient meta(w.objectd);
  auto create = [&](const std::string& path, bool replace) {
    return w.engine->opener().Create({.path = path, .replace = replace, .deadline = w.Soon()});
  };
  CHECK(create("nobucket/x/y", false).code() == Code::kNotFound);
  REQUIRE(meta.Mkdir({.parent = wire::kRootId, .name = "b"}).ok());
  auto o = create("b/f", false);
  REQUIRE(o.ok());
  w.Write(*o, 0, "one");
  REQUIRE(w.engine->Publish(o->file).ok());
  w.Release(*o);
  CHECK(create("b/f", false).code() == Code::kAlreadyExists);
  auto again = create("b/f", true);
  REQUIRE(again.ok());
  CHECK(again->access == Access::kWrite);
  CHECK(again->record.id == o->record.id);
  CHECK(again->size == 0);
  w.Release(*again);
  CHECK(create("b/", false).code() == Code::kInvalidArgument);
}

TEST_CASE("truncating a closed file publishes the shorter content") {
  World w;
  std::string bytes = Bytes(14, kBig);
  wire::FileId id = w.Save("a", bytes);
  w.Settle();
  auto file = w.engine->opener().TruncateClosed({}, id, 1'000'000, w.Soon());
  REQUIRE(file.ok());
  w.Settle();
  CHECK(w.blobs.BytesOf(*w.objectd->Get(id).committed) == bytes.substr(0, 1'000'000));
  REQUIRE(w.engine->opener().TruncateClosed({}, id, 0, w.Soon()).ok());
  w.Settle();
  CHECK(w.objectd->Get(id).committed->size == 0);
}

TEST_CASE("a stop while inline content is being synced there") {
  World w;
  w.Save("a", Bytes(16, 100));
  w.objectd->lose_reply = wire::Method::kMetaSync;
  w.objectd->before = [&](wire::Method method) {
    if (method == wire::Method::kMetaSync) w.engine->core().stopping = true;
  };
  w.Settle();
  CHECK(w.objectd->calls[wire::Method::kMetaSync] == 1);
  w.objectd->before = nullptr;
  w.Restart();
  w.Settle();
  CHECK(w.objectd->calls[wire::Method::kMetaSync] == 2);
}

TEST_CASE("new times set on a sealed file are no change of its content") {
  World w;
  wire::FileId id = w.Save("a", Bytes(15, kBig));
  w.RunFor(kSecond);
  REQUIRE(w.engine->SetMtime(id, 1'234'567'890'123'456'789).ok());
  w.Settle();
  CHECK(w.objectd->Get(id).committed->generation == 1);
  CHECK(w.objectd->Get(id).committed->layout.kind == LayoutKind::kBlobs);
  CHECK(w.RecordOf(w.Current(id)).mtime == 1'234'567'890'123'456'789);
}
