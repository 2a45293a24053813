// Names without objectd: what goes on, what is journaled, and what becomes of it afterwards.

#include <algorithm>

#include "world.h"

using namespace perigee;
using namespace perigee::bufferd;
using wire::Access;
using wire::LayoutKind;

namespace {

// A world whose client knows bucket "b" whole, with a directory "d" in it.
struct Tree : World {
  Tree() : World({.names = true}) {
    calls = std::make_unique<client::MetaClient>(names->calls());
    names->ReserveIds();
    RunFor(kSecond);
    bucket = Made(wire::kRootId, "b");
    directory = Made(bucket, "d");
  }
  void Again() {
    Restart();
    calls = std::make_unique<client::MetaClient>(names->calls());
  }
  wire::FileId Made(wire::FileId parent, const std::string& name) {
    auto made = calls->Mkdir({.parent = parent, .name = name, .mode = 0755});
    REQUIRE(made.ok());
    return made->record.id;
  }
  Result<Opened> TryCreate(wire::FileId parent, const std::string& name) {
    return engine->opener().Create(
        {.parent = parent, .name = name, .mode = 0644, .deadline = Soon()});
  }
  wire::FileId Saved(wire::FileId parent, const std::string& name, const std::string& bytes) {
    auto o = TryCreate(parent, name);
    REQUIRE(o.ok());
    Write(*o, 0, bytes);
    REQUIRE(engine->Fsync(o->file, wire::Durability::kLocal, Soon()).ok());
    Release(*o);
    return o->record.id;
  }
  void Renamed(wire::FileId parent, const std::string& from, const std::string& to) {
    auto renamed =
        calls->Rename({.parent = parent, .name = from, .new_parent = parent, .new_name = to});
    if (!renamed.ok()) FAIL(renamed.status().ToString());
  }
  Code Found(wire::FileId parent, const std::string& name) {
    return calls->Lookup({.parent = parent, .name = name}).code();
  }
  void Leave() { objectd->away = true; }
  void Return() {
    objectd->away = false;
    Settle();
    CHECK(names->waiting() == 0);
  }
  std::string BytesOf(wire::FileId id) {
    wire::Record r = objectd->Get(id);
    if (!r.committed) return "nothing";
    return r.committed->layout.kind == LayoutKind::kInline
               ? objectd->InlineOf(id, r.committed->generation)
               : blobs.BytesOf(*r.committed);
  }

  std::unique_ptr<client::MetaClient> calls;
  wire::FileId bucket = 0, directory = 0;
};

}  // namespace

TEST_CASE("a journaled change of names has the bytes that the format says") {
  NameOp op{.method = 16, .id = 5, .replaced = 6, .request = "q", .place = "b/d"};
  std::string stored = EncodeOp(op);
  CHECK(HexEncode(stored) == "50424e31afdc70360810100518062201712a03622f64");
  auto back = DecodeOp(stored);
  REQUIRE(back.ok());
  CHECK(EncodeOp(*back) == stored);
  CHECK(DecodeOp("PBN2" + stored.substr(4)).code() == Code::kUnimplemented);
  for (size_t at = 0; at < stored.size(); ++at) {
    std::string bad = stored;
    bad[at] ^= 1;
    CHECK(!DecodeOp(bad).ok());
  }
}

TEST_CASE(
    "files and directories are made without objectd, with their ids, and are there afterwards") {
  Tree t;
  t.Leave();
  std::string big = Bytes(1, kBig);
  wire::FileId one = t.Saved(t.directory, "one", big);
  wire::FileId step = t.Made(t.directory, "step");
  wire::FileId two = t.Saved(step, "two", "two");
  CHECK(t.Found(step, "two") == Code::kOk);
  CHECK(t.Found(step, "three") == Code::kNotFound);
  CHECK(t.TryCreate(step, "two").code() == Code::kAlreadyExists);
  CHECK(t.calls->Lookup({.parent = t.directory, .name = "one"})->record.committed->size == kBig);
  CHECK(t.Load(one) == big);
  auto listed = t.calls->ReadDir({.dir = step});
  REQUIRE(listed.ok());
  CHECK(listed->items.size() == 1);
  CHECK(!t.objectd->Exists(one));

  t.Return();
  CHECK(t.objectd->IdOf(t.directory, "one") == one);
  CHECK(t.objectd->IdOf(t.directory, "step") == step);
  CHECK(t.objectd->IdOf(step, "two") == two);
  CHECK(t.BytesOf(one) == big);
  CHECK(t.BytesOf(two) == "two");
  CHECK(!t.objectd->Get(one).writer);
}

TEST_CASE("a create without an id that was made and not answered is the file that was made here") {
  World w({.names = true});
  client::MetaClient calls(w.names->calls());
  auto bucket = calls.Mkdir({.parent = wire::kRootId, .name = "b", .mode = 0755});
  REQUIRE(bucket.ok());
  auto made = calls.Mkdir({.parent = bucket->record.id, .name = "d", .mode = 0755});
  REQUIRE(made.ok());
  const wire::FileId directory = made->record.id;
  w.objectd->before = [&](wire::Method m) {
    if (m == wire::Method::kMetaCreate) w.RunFor(kMillisecond);  // ids come while it is on its way
  };
  w.objectd->lose_reply = wire::Method::kMetaCreate;
  auto o = w.engine->opener().Create(
      {.parent = directory, .name = "f", .mode = 0644, .deadline = w.Soon()});
  REQUIRE(o.ok());
  w.objectd->before = nullptr;
  const wire::FileId first = w.objectd->IdOf(directory, "f");
  REQUIRE(first != 0);
  REQUIRE(first != o->record.id);
  w.Write(*o, 0, "bytes");
  REQUIRE(w.engine->Publish(o->file).ok());
  w.Release(*o);
  w.Settle();
  CHECK(w.objectd->IdOf(directory, "f") == o->record.id);
  CHECK(!w.objectd->Exists(first));
  CHECK(w.Load(o->record.id) == "bytes");
  CHECK(w.engine->core().Reported().empty());
}

TEST_CASE("what objectd made and did not answer goes when it was removed here") {
  Tree t;
  t.objectd->lose_reply = wire::Method::kMetaCreate;
  auto first = t.TryCreate(t.directory, "f");
  REQUIRE(first.ok());
  t.Leave();
  REQUIRE(t.objectd->IdOf(t.directory, "f") == first->record.id);
  t.Release(*first);
  REQUIRE(t.calls->Unlink({.parent = t.directory, .name = "f"}).ok());
  wire::FileId second = t.Saved(t.directory, "f", "second");
  REQUIRE(second != first->record.id);
  first->file.reset();
  t.Return();
  CHECK(t.objectd->IdOf(t.directory, "f") == second);
  CHECK(t.BytesOf(second) == "second");
  CHECK(t.engine->core().Reported().empty());
}

TEST_CASE("a file put into place by a rename has its content before it replaces the old one") {
  Tree t;
  wire::FileId old = t.Saved(t.directory, "latest", "old");
  t.Settle();
  t.Leave();
  wire::FileId fresh = t.Saved(t.directory, "latest.tmp", "fresh");
  t.Renamed(t.directory, "latest.tmp", "latest");
  CHECK(t.Found(t.directory, "latest.tmp") == Code::kNotFound);
  CHECK(t.calls->Lookup({.parent = t.directory, .name = "latest"})->record.id == fresh);
  bool in_order = true;
  t.objectd->before = [&](wire::Method m) {
    if (m == wire::Method::kMetaRename) in_order = t.objectd->Get(fresh).committed.has_value();
  };
  t.Return();
  CHECK(in_order);
  CHECK(t.objectd->IdOf(t.directory, "latest") == fresh);
  CHECK(!t.objectd->Exists(old));
  CHECK(t.BytesOf(fresh) == "fresh");
}

TEST_CASE(
    "what is removed without objectd is gone afterwards; its bytes stay until objectd knows") {
  Tree t;
  wire::FileId before = t.Saved(t.directory, "before", Bytes(2, kBig));
  t.Leave();
  size_t files = t.FilesOnDisk();
  REQUIRE(t.calls->Unlink({.parent = t.directory, .name = "before"}).ok());
  CHECK(t.Found(t.directory, "before") == Code::kNotFound);
  CHECK(t.FilesOnDisk() == files);  // objectd names it
  t.Saved(t.directory, "meanwhile", Bytes(3, kBig));
  CHECK(t.FilesOnDisk() == files + 1);
  t.RunFor(kSecond);
  REQUIRE(t.calls->Unlink({.parent = t.directory, .name = "meanwhile"}).ok());
  t.RunFor(kSecond);
  CHECK(t.FilesOnDisk() == files);  // nobody else ever heard of it
  wire::FileId step = t.Made(t.directory, "step");
  t.Saved(step, "in it", "x");
  CHECK(t.calls->Rmdir({.parent = t.directory, .name = "step"}).code() == Code::kNotEmpty);
  REQUIRE(t.calls->Unlink({.parent = step, .name = "in it"}).ok());
  REQUIRE(t.calls->Rmdir({.parent = t.directory, .name = "step"}).ok());
  t.Return();
  CHECK(!t.objectd->Exists(before));
  for (const char* name : {"before", "meanwhile", "step"})
    CHECK(t.objectd->IdOf(t.directory, name) == 0);
  CHECK(t.FilesOnDisk() == 0);
}

TEST_CASE("a name that was taken meanwhile becomes a conflict, and both contents are kept") {
  Tree t;
  t.Leave();
  wire::FileId mine = t.Saved(t.directory, "same", "mine");
  wire::FileId moved = t.Saved(t.directory, "source", "moved");
  t.Renamed(t.directory, "source", "target");
  wire::Version inline_version{.size = 6, .durability = wire::Durability::kObject};
  inline_version.layout.kind = LayoutKind::kInline;
  wire::FileId theirs = t.objectd->Put("same", inline_version, "theirs", t.directory);
  wire::FileId there = t.objectd->Put("target", inline_version, "theirs", t.directory);
  t.Return();
  CHECK(t.objectd->IdOf(t.directory, "same") == theirs);
  CHECK(t.objectd->IdOf(t.directory, "same.conflict-" + HexEncode64(mine)) == mine);
  CHECK(t.BytesOf(mine) == "mine");
  CHECK(t.objectd->IdOf(t.directory, "target") == there);
  CHECK(t.objectd->IdOf(t.directory, "target.conflict-" + HexEncode64(moved)) == moved);
  CHECK(t.BytesOf(moved) == "moved");
  CHECK(t.engine->core().Reported().size() == 2);
}

TEST_CASE("a directory that was removed meanwhile is made again") {
  Tree t;
  t.Leave();
  wire::FileId id = t.Saved(t.directory, "f", "kept");
  t.objectd->Unlink(t.bucket, "d");
  t.Return();
  wire::FileId again = t.objectd->IdOf(t.bucket, "d");
  CHECK(again != 0);
  CHECK(t.objectd->IdOf(again, "f") == id);
  CHECK(t.BytesOf(id) == "kept");
}

TEST_CASE("what is unknown, or others own, waits for objectd") {
  Tree t;
  wire::Version inline_version{.size = 6, .durability = wire::Durability::kObject};
  inline_version.layout.kind = LayoutKind::kInline;
  t.objectd->Put("theirs", inline_version, "theirs", t.directory);
  CHECK(t.Found(t.directory, "theirs") == Code::kOk);
  wire::FileId unknown = t.objectd->Put("unknown", {});
  t.Leave();
  CHECK(t.calls->Unlink({.parent = t.directory, .name = "theirs"}).code() == Code::kUnavailable);
  CHECK(t.calls->GetAttr({.id = unknown}).code() == Code::kUnavailable);
  CHECK(t.Found(wire::kRootId, "unknown") == Code::kUnavailable);  // the root was never listed
  CHECK(t.TryCreate(wire::kRootId, "x").code() == Code::kUnavailable);
  t.Return();
  CHECK(t.Found(t.directory, "theirs") == Code::kOk);
}

TEST_CASE("the journal survives the daemon's death, and what was fsynced the machine's") {
  Tree t;
  t.Leave();
  wire::FileId step = t.Made(t.directory, "step");
  wire::FileId id = t.Saved(step, "f.tmp", "kept");
  t.Renamed(step, "f.tmp", "f");
  SUBCASE("the daemon") { t.Again(); }
  SUBCASE("the machine") {
    REQUIRE(t.calls->Sync().ok());  // fsync of the directory
    t.Reboot();
    t.calls = std::make_unique<client::MetaClient>(t.names->calls());
  }
  CHECK(t.Found(step, "f") == Code::kOk);  // objectd is still away
  t.Return();
  CHECK(t.objectd->IdOf(step, "f") == id);
  CHECK(t.objectd->IdOf(step, "f.tmp") == 0);
  CHECK(t.BytesOf(id) == "kept");
}

TEST_CASE("a change that objectd made, and did not answer, is not made twice") {
  Tree t;
  auto lost = [&](wire::Method method) { t.objectd->lose_reply = method; };
  lost(wire::Method::kMetaCreate);
  wire::FileId id = t.Saved(t.directory, "a", "a");
  t.Settle();
  lost(wire::Method::kMetaRename);
  t.Renamed(t.directory, "a", "b");
  t.Settle();
  CHECK(t.objectd->IdOf(t.directory, "b") == id);
  lost(wire::Method::kMetaMkdir);
  wire::FileId step = t.Made(t.directory, "step");
  t.Settle();
  CHECK(t.objectd->IdOf(t.directory, "step") == step);
  lost(wire::Method::kMetaUnlink);
  REQUIRE(t.calls->Unlink({.parent = t.directory, .name = "b"}).ok());
  t.Settle();
  CHECK(!t.objectd->Exists(id));
  CHECK(t.names->waiting() == 0);
  CHECK(t.engine->core().Reported().empty());
}

TEST_CASE("without objectd a file has the size of its last content, not of the last look at it") {
  Tree t;
  wire::FileId id = t.Saved(t.directory, "f", "");
  REQUIRE(t.calls->Lookup({.parent = t.directory, .name = "f"})->record.committed->size == 0);
  Opened again = t.MustOpen(id, Access::kWrite);
  t.Write(again, 0, Bytes(11, kBig));
  REQUIRE(t.engine->Publish(again.file).ok());
  t.Release(again);
  t.Leave();
  CHECK(t.calls->GetAttr({.id = id})->record.committed->size == kBig);
  CHECK(t.calls->Lookup({.parent = t.directory, .name = "f"})->record.committed->size == kBig);
}

TEST_CASE("a file made without objectd is opened again for writing, and truncated") {
  Tree t;
  t.Leave();
  wire::FileId id = t.Saved(t.directory, "f", "first");
  Opened again = t.MustOpen(id, Access::kWrite, true);
  t.Write(again, 0, "2nd");
  REQUIRE(t.engine->Publish(again.file).ok());
  t.Release(again);
  CHECK(t.Load(id) == "2nd");
  t.Return();
  CHECK(t.BytesOf(id) == "2nd");
}

TEST_CASE("a file renamed without objectd is at its new name, whatever took the old one there") {
  Tree t;
  wire::FileId old = t.Saved(t.directory, "latest", "old");
  std::string fresh = Bytes(4, kBig);
  wire::FileId id = t.Saved(t.directory, "latest.tmp", fresh);
  SUBCASE("still in the burst buffer only") {}
  SUBCASE("in the object tier, and resident") { t.Settle(); }
  t.Leave();
  t.Renamed(t.directory, "latest.tmp", "latest");
  t.objectd->Unlink(t.directory, "latest.tmp");
  wire::Version inline_version{.size = 6, .durability = wire::Durability::kObject};
  inline_version.layout.kind = LayoutKind::kInline;
  wire::FileId theirs = t.objectd->Put("latest.tmp", inline_version, "theirs", t.directory);
  t.Return();
  CHECK(t.objectd->IdOf(t.directory, "latest.tmp") == theirs);
  CHECK(t.objectd->IdOf(t.directory, "latest") == id);
  CHECK(t.BytesOf(id) == fresh);
  CHECK(t.Load(id) == fresh);
  CHECK(!t.objectd->Exists(old));
  CHECK(!t.objectd->Get(id).writer);
  CHECK(t.engine->core().Reported().empty());
}

TEST_CASE(
    "a renamed file whose old name was replaced, and whose content is not here, is reported") {
  Tree t;
  wire::FileId id = t.Saved(t.directory, "f.tmp", Bytes(5, kBig));
  t.Settle();
  std::string why;
  REQUIRE(t.engine->evictor().Evict(t.Current(id), &why));
  t.Leave();
  t.Renamed(t.directory, "f.tmp", "f");  // this node made it
  t.objectd->Unlink(t.directory, "f.tmp");
  t.Return();
  CHECK(t.objectd->IdOf(t.directory, "f") == 0);
  CHECK(t.engine->core().Reported().size() == 1);
}

TEST_CASE("what this node made is moved and removed without objectd, also when it was evicted") {
  Tree t;
  wire::FileId moved = t.Saved(t.directory, "moved", Bytes(6, kBig));
  wire::FileId removed = t.Saved(t.directory, "removed", Bytes(7, kBig));
  wire::FileId step = t.Made(t.directory, "step.tmp");
  t.Settle();
  for (wire::FileId id : {moved, removed}) {
    std::string why;
    REQUIRE(t.engine->evictor().Evict(t.Current(id), &why));
  }
  t.Leave();
  t.Renamed(t.directory, "moved", "there");
  t.Renamed(t.directory, "step.tmp", "step");
  REQUIRE(t.calls->Unlink({.parent = t.directory, .name = "removed"}).ok());
  t.Return();
  CHECK(t.objectd->IdOf(t.directory, "there") == moved);
  CHECK(t.objectd->IdOf(t.directory, "step") == step);
  CHECK(!t.objectd->Exists(removed));
}

TEST_CASE("a file made where by now is no directory any more, or a file, is kept") {
  Tree t;
  wire::FileId step = t.Made(t.directory, "step");
  t.Leave();
  wire::FileId id = t.Saved(step, "f", "kept");
  t.objectd->Unlink(t.directory, "step");
  std::string at = "step";
  SUBCASE("a file has its name") {
    t.objectd->Put("step", {}, {}, t.directory);
    at = "step.conflict-" + HexEncode64(step);
  }
  SUBCASE("the bucket is gone") {
    t.objectd->Unlink(t.bucket, "d");
    t.objectd->Unlink("b");
  }
  t.Return();
  wire::FileId directory = t.objectd->IdOf(t.objectd->IdOf("b"), "d");
  REQUIRE(directory != 0);
  CHECK(t.objectd->IdOf(t.objectd->IdOf(directory, at), "f") == id);
  CHECK(t.BytesOf(id) == "kept");
}

TEST_CASE("what objectd loses with its power before it was durable there is made again") {
  Tree t;
  wire::FileId old = t.Saved(t.directory, "latest", "old");
  t.Settle();
  t.Leave();
  wire::FileId id = t.Saved(t.directory, "latest.tmp", Bytes(8, kBig));
  t.Renamed(t.directory, "latest.tmp", "latest");
  wire::FileId step = t.Made(t.directory, "step");
  wire::FileId small = t.Saved(step, "small", "small");
  bool lost = false;
  auto lose_power = [&](wire::Method before) {
    t.objectd->before = [&t, &lost, before](wire::Method m) {
      if (m != before || lost || !t.objectd->IdOf(t.directory, "step")) return;
      lost = true;
      t.objectd->LosePower();
    };
  };
  SUBCASE("before it was asked to sync") { lose_power(wire::Method::kMetaSync); }
  SUBCASE("while it was made") { lose_power(wire::Method::kMetaCreate); }
  t.Return();
  CHECK(lost);
  CHECK(t.objectd->IdOf(t.directory, "latest") == id);
  CHECK(t.objectd->IdOf(t.directory, "latest.tmp") == 0);
  CHECK(t.objectd->IdOf(t.objectd->IdOf(t.directory, "step"), "small") == small);
  CHECK(!t.objectd->Exists(old));
  CHECK(t.BytesOf(id) == Bytes(8, kBig));
  CHECK(t.BytesOf(small) == "small");
  CHECK(t.engine->core().Reported().empty());
}

TEST_CASE("what objectd made and lost with its power is made again when fsync was answered here") {
  Tree t;
  wire::FileId moved = t.Saved(t.directory, "moved.tmp", "moved");
  wire::FileId removed = t.Saved(t.directory, "removed", "removed");
  t.Settle();
  auto o = t.TryCreate(t.directory, "made");
  REQUIRE(o.ok());
  t.Write(*o, 0, Bytes(10, kBig));
  t.Renamed(t.directory, "moved.tmp", "moved");
  REQUIRE(t.calls->Unlink({.parent = t.directory, .name = "removed"}).ok());
  SUBCASE("by a node that goes on") { t.Leave(); }
  SUBCASE("by one that starts again meanwhile") {
    t.Leave();
    CHECK(t.Found(t.directory, "nothing") == Code::kNotFound);
    t.Again();
    o = t.engine->opener().Open(
        {.id = o->record.id, .access = Access::kRead, .deadline = t.Soon()});
    REQUIRE(o.ok());
  }
  REQUIRE(t.engine->Fsync(o->file, wire::Durability::kLocal, t.Soon()).ok());
  REQUIRE(t.calls->Sync().ok());
  t.Release(*o);
  t.objectd->LosePower();
  t.Return();
  CHECK(t.objectd->IdOf(t.directory, "made") == o->record.id);
  CHECK(t.BytesOf(o->record.id) == Bytes(10, kBig));
  CHECK(t.objectd->IdOf(t.directory, "moved") == moved);
  CHECK(t.objectd->IdOf(t.directory, "moved.tmp") == 0);
  CHECK(!t.objectd->Exists(removed));
  CHECK(t.engine->core().Reported().empty());
}

TEST_CASE("a sync at objectd that a later one overtakes settles nothing twice") {
  Tree t;
  t.Settle();
  wire::FileId first = t.Made(t.directory, "first"), second = 0, third = 0;
  bool slow = false, more = false;
  SUBCASE("nothing comes later") {}
  SUBCASE("something comes later, and is lost with objectd's power") { more = true; }
  t.objectd->before = [&](wire::Method m) {
    if (m != wire::Method::kMetaSync || slow) return;
    slow = true;
    second = t.Made(t.directory, "second");
    Event().WaitFor(2 * kSecond);  // a sync is asked for and answered, while this one is on its way
    if (more) third = t.Made(t.directory, "third");
  };
  t.RunFor(3 * kSecond + kSecond / 2);
  REQUIRE(second != 0);
  t.objectd->before = nullptr;
  t.objectd->LosePower();
  t.Settle();
  CHECK(t.objectd->IdOf(t.directory, "first") == first);
  CHECK(t.objectd->IdOf(t.directory, "second") == second);
  CHECK(t.objectd->IdOf(t.directory, "third") == third);
}

TEST_CASE("an objectd that was started again unnoticed is told again what it made and lost") {
  Tree t;
  t.Settle();
  auto o = t.TryCreate(t.directory, "f");
  REQUIRE(o.ok());
  t.Write(*o, 0, "f");
  t.objectd->LosePower();
  t.RunFor(5 * kSecond);
  REQUIRE(t.engine->Fsync(o->file, wire::Durability::kLocal, t.Soon()).ok());
  t.Release(*o);
  t.Settle();
  CHECK(t.objectd->IdOf(t.directory, "f") == o->record.id);
  CHECK(t.BytesOf(o->record.id) == "f");
}

TEST_CASE("what others removed or moved before objectd fell silent stays so") {
  Tree t;
  wire::FileId moved = t.Saved(t.directory, "a", "a");
  t.Settle();
  auto o = t.TryCreate(t.directory, "f");
  REQUIRE(o.ok());
  t.Write(*o, 0, "f");
  REQUIRE(t.engine->Publish(o->file).ok());
  t.Release(*o);
  t.Renamed(t.directory, "a", "b");
  client::MetaClient others(t.objectd);
  REQUIRE(others.Unlink({.parent = t.directory, .name = "f"}).ok());
  auto away = others.Rename(
      {.parent = t.directory, .name = "b", .new_parent = t.directory, .new_name = "c"});
  REQUIRE(away.ok());
  t.Leave();
  CHECK(t.Found(t.directory, "nothing") == Code::kNotFound);
  t.Return();
  CHECK(!t.objectd->Exists(o->record.id));
  CHECK(t.objectd->IdOf(t.directory, "f") == 0);
  CHECK(t.objectd->IdOf(t.directory, "c") == moved);
  CHECK(t.engine->core().Reported().empty());
}

TEST_CASE("content closed and synced without objectd survives when objectd loses power later") {
  Tree t;
  wire::FileId id = t.Saved(t.directory, "f", "first");
  t.Settle();
  t.Leave();
  wire::FileId made = t.Saved(t.directory, "made", Bytes(9, kBig));
  t.objectd->away = false;
  // Made there, and published; flushed later.
  auto published = [&] { return t.objectd->Exists(made) && t.objectd->Get(made).committed; };
  for (int i = 0; i < 100 && !published(); ++i) t.RunFor(kSecond / 10);
  REQUIRE(published());
  t.Leave();
  t.objectd->LosePower();
  t.RunFor(kSecond);
  t.Return();
  CHECK(t.objectd->IdOf(t.directory, "made") == made);
  CHECK(t.BytesOf(made) == Bytes(9, kBig));
  CHECK(t.BytesOf(id) == "first");
}

TEST_CASE("a daemon that dies while changes are made leaves no ghosts of what was replaced since") {
  Tree t;
  t.Saved(t.directory, "latest", "0");
  t.Settle();
  t.Leave();
  wire::FileId last = 0;
  for (const char* content : {"1", "2", "3"}) {
    last = t.Saved(t.directory, "latest.tmp", content);
    t.Renamed(t.directory, "latest.tmp", "latest");
  }
  wire::FileId gone = t.Saved(t.directory, "gone", "gone");
  // They were all made, but not durably as far as this node heard.
  t.objectd->lose_reply = wire::Method::kPing;
  bool died = false;
  t.objectd->before = [&](wire::Method m) {
    if (m == wire::Method::kMetaSync && t.objectd->IdOf(t.directory, "gone") == gone && !died) {
      died = true;
      t.objectd->away = true;
    }
  };
  t.objectd->away = false;
  t.RunFor(kSecond);
  REQUIRE(died);
  t.objectd->before = nullptr;
  t.Again();
  t.objectd->Unlink(t.directory, "gone");
  wire::FileId theirs = t.objectd->Put("gone", {}, {}, t.directory);
  t.Return();
  CHECK(t.objectd->IdOf(t.directory, "latest") == last);
  CHECK(t.BytesOf(last) == "3");
  CHECK(t.objectd->IdOf(t.directory, "gone") == theirs);
  auto listed = t.calls->ReadDir({.dir = t.directory});
  REQUIRE(listed.ok());
  for (const auto& item : listed->items) {
    INFO(item.name);
    CHECK((item.name == "latest" || item.name == "gone"));
  }
}

TEST_CASE("what came to nothing without objectd is not made there at all") {
  Tree t;
  wire::FileId old = t.Saved(t.directory, "latest", "old");
  t.Settle();
  t.Leave();
  for (int step = 0; step < 20; ++step) {
    wire::FileId dir = t.Made(t.directory, "step");
    t.Saved(dir, "rank.tmp", Bytes(10, kBig));
    t.Renamed(dir, "rank.tmp", "rank");
    t.Saved(t.directory, "latest.tmp", std::to_string(step));
    t.Renamed(t.directory, "latest.tmp", "latest");
    REQUIRE(t.calls->Unlink({.parent = dir, .name = "rank"}).ok());
    REQUIRE(t.calls->Rmdir({.parent = t.directory, .name = "step"}).ok());
  }
  t.objectd->calls.clear();
  t.Return();
  CHECK(t.objectd->calls[wire::Method::kMetaCreate] == 1);
  CHECK(t.objectd->calls[wire::Method::kMetaRename] == 1);
  CHECK(t.objectd->calls[wire::Method::kMetaMkdir] == 0);
  CHECK(t.objectd->calls[wire::Method::kMetaUnlink] == 0);
  wire::FileId latest = t.objectd->IdOf(t.directory, "latest");
  CHECK(t.BytesOf(latest) == "19");
  CHECK(latest != old);
  CHECK(!t.objectd->Exists(old));
  CHECK(t.engine->core().Reported().empty());
}

TEST_CASE("a file that objectd has is rewritten without it, and is what was closed afterwards") {
  Tree t;
  const std::string big = Bytes(1, kBig), fresh = Bytes(2, kBig + 5);
  wire::FileId flushed = t.Saved(t.directory, "flushed", big);
  wire::FileId small = t.Saved(t.directory, "small", "small");
  t.Settle();
  CHECK(t.objectd->Get(flushed).committed->layout.kind == LayoutKind::kBlobs);
  t.Leave();
  auto rewrite = [&](wire::FileId id, bool truncate, uint64_t at, const std::string& bytes) {
    auto o = t.Open(id, Access::kWrite, truncate);
    if (!o.ok()) FAIL(o.status().ToString());
    t.Write(*o, at, bytes);
    REQUIRE(t.engine->Fsync(o->file, wire::Durability::kLocal, t.Soon()).ok());
    t.Release(*o);
  };
  std::string expected = fresh;
  bool rebooted = false;
  SUBCASE("with O_TRUNC") { rewrite(flushed, true, 0, fresh); }
  SUBCASE("in place") {
    rewrite(flushed, false, 0, fresh);
    rewrite(small, false, 5, "er");
  }
  SUBCASE("again and again") {
    rewrite(flushed, true, 0, "something shorter");
    rewrite(flushed, true, 0, big);
    rewrite(flushed, false, 0, fresh);
  }
  SUBCASE("and the daemon dies before objectd is back") {
    rewrite(flushed, true, 0, fresh);
    t.Again();
  }
  SUBCASE("and the node loses its power before objectd is back") {
    rewrite(flushed, true, 0, fresh);
    t.RunFor(kSecond);
    t.Kill();
    t.boot += "'";
    t.Start();
    rebooted = true;  // objectd has to say first what is whole
  }
  SUBCASE("and the daemon dies before it is closed") {
    auto o = t.Open(flushed, Access::kWrite, true);
    REQUIRE(o.ok());
    t.Write(*o, 0, "never closed");
    t.Again();
    expected = big;
  }
  if (!rebooted) CHECK(t.Load(flushed) == expected);
  t.Return();
  CHECK(t.BytesOf(flushed) == expected);
  CHECK(t.Load(flushed) == expected);
  CHECK(t.Load(small).starts_with("small"));
  CHECK(!t.objectd->Get(flushed).writer);
  CHECK(t.engine->core().Reported().empty());
}

TEST_CASE("a file renamed before objectd fell silent is what was closed without it") {
  Tree t;
  wire::FileId id = t.Saved(t.directory, "f", Bytes(1, kBig));
  t.Settle();
  t.objectd->hold_durable = true;  // so that the feed tells of the rename afterwards
  t.Renamed(t.directory, "f", "g");
  t.Leave();
  auto o = t.Open(id, Access::kWrite, true);
  REQUIRE(o.ok());
  t.Write(*o, 0, "fresh");
  auto close = [&] {
    REQUIRE(t.engine->Publish(o->file).ok());
    t.Release(*o);
  };
  bool open = false;
  SUBCASE("before it is back") { close(); }
  SUBCASE("when it is back") { open = true; }
  t.objectd->away = false;
  t.RunFor(100 * kMillisecond);
  t.objectd->LetDurable();
  t.Settle();
  if (open) close();
  t.Settle();
  CHECK(t.BytesOf(id) == "fresh");
  CHECK(t.Load(id) == "fresh");
  CHECK(t.engine->core().Reported().empty());
}

TEST_CASE("a file being rewritten when objectd comes back is read by others as it was opened") {
  Tree t;
  wire::FileId id = t.Saved(t.directory, "f", Bytes(1, kBig));
  t.Settle();
  t.Leave();
  auto o = t.Open(id, Access::kWrite, true);
  REQUIRE(o.ok());
  t.Write(*o, 0, "half");
  t.Return();
  REQUIRE(t.objectd->Get(id).writer);
  CHECK(t.objectd->Get(id).writer->burst == o->file->burst);
  auto reader = t.Open(id);
  REQUIRE(reader.ok());
  CHECK(reader->file == o->file);
  t.Release(*reader);
  REQUIRE(t.engine->Publish(o->file).ok());
  t.Release(*o);
  t.Settle();
  CHECK(t.BytesOf(id) == "half");
}

TEST_CASE("content that objectd lost with its power is registered again from here") {
  Tree t;
  wire::FileId id = t.Saved(t.directory, "f", Bytes(1, kBig));
  REQUIRE(t.meta->Sync().ok());
  Opened o = t.MustOpen(id, Access::kWrite, true);
  t.Write(o, 0, Bytes(2, kBig));
  REQUIRE(t.engine->Publish(o.file).ok());
  t.Release(o);
  t.Leave();
  t.objectd->LosePower();
  t.RunFor(kSecond);
  t.Return();
  CHECK(t.BytesOf(id) == Bytes(2, kBig));
  CHECK(t.engine->core().Reported().empty());
}

TEST_CASE("content that objectd lost is registered again though nobody called it meanwhile") {
  Tree t;
  wire::FileId id = t.Saved(t.directory, "f", Bytes(1, kBig));
  t.Settle();
  REQUIRE(t.meta->Sync().ok());
  Opened o = t.MustOpen(id, Access::kWrite, true);
  t.Write(o, 0, Bytes(2, kBig));
  REQUIRE(t.engine->Publish(o.file).ok());
  t.engine->flusher().Hold(true);
  t.Release(o);
  t.objectd->LosePower();
  t.objectd->lose_reply = wire::Method::kMetaFeed;  // none but the feed notices, in its next turn
  t.RunFor(60 * kSecond);
  CHECK(t.objectd->Get(id).committed->generation == 2);
  t.engine->flusher().Hold(false);
  t.Settle();
  CHECK(t.BytesOf(id) == Bytes(2, kBig));
}

namespace {

enum class Then { kClosed, kStaysOpen, kFsynced, kDirectoryFsynced };

// objectd loses its power after a file was published, and is back before anybody calls it.
void LostUnnoticed(Then then, const std::string& bytes) {
  CAPTURE(static_cast<int>(then));
  CAPTURE(bytes.size());
  Tree t;
  REQUIRE(t.meta->Sync().ok());
  auto o = t.TryCreate(t.directory, "f");
  REQUIRE(o.ok());
  const wire::FileId id = o->record.id;
  t.Write(*o, 0, bytes);
  REQUIRE(t.engine->Publish(o->file).ok());
  if (then == Then::kClosed) t.Release(*o);
  t.objectd->LosePower();
  if (then == Then::kStaysOpen) {
    t.Settle();
    CHECK(t.objectd->Get(id).committed.has_value());
    t.Release(*o);
  }
  if (then == Then::kFsynced)
    REQUIRE(t.engine->Fsync(o->file, wire::Durability::kLocal, t.Soon()).ok());
  if (then == Then::kDirectoryFsynced) REQUIRE(t.calls->Sync().ok());
  if (then >= Then::kFsynced) {
    o->file.reset();
    t.Reboot();
  }
  t.Settle();
  const bool durable = then != Then::kDirectoryFsynced;  // a name whose only content is lost goes
  REQUIRE(t.objectd->IdOf(t.directory, "f") == (durable ? id : 0));
  CHECK(t.Count("fell_back") == (durable ? 0 : 1));
  if (durable) CHECK(t.BytesOf(id) == bytes);
}

}  // namespace

TEST_CASE("content that objectd lost in a start that nobody noticed is not taken for durable") {
  for (Then then : {Then::kClosed, Then::kStaysOpen, Then::kFsynced, Then::kDirectoryFsynced}) {
    LostUnnoticed(then, "small");
    LostUnnoticed(then, Bytes(2, kBig));
  }
}

TEST_CASE("what was fsynced without objectd is not undone where it had heard of the close alone") {
  Tree t;
  wire::FileId id = t.Saved(t.directory, "f", "old");
  t.Settle();
  Opened o = t.MustOpen(id, Access::kWrite, true);
  t.Write(o, 0, Bytes(2, kBig));
  t.objectd->lose_reply = wire::Method::kMetaPublish;
  REQUIRE(t.engine->Publish(o.file).ok());
  t.Leave();
  REQUIRE(t.objectd->Get(id).committed->generation == 2);
  REQUIRE(t.engine->Fsync(o.file, wire::Durability::kLocal, t.Soon()).ok());
  o.file.reset();
  t.Reboot();
  t.Return();
  CHECK(t.BytesOf(id) == Bytes(2, kBig));
  CHECK(t.Count("fell_back") == 0);
}

TEST_CASE("what was fsynced here while another node took the file over becomes a file beside it") {
  Tree t;
  bool fresh = false, closed = true, reboot = false, read = false;
  SUBCASE("before it was heard of") {}
  SUBCASE("and the node lost its power") { reboot = true; }
  SUBCASE("and it is closed afterwards") { closed = false; }
  SUBCASE("and it was new") { fresh = true; }
  SUBCASE("and it was new, and is closed afterwards") {
    fresh = true;
    closed = false;
  }
  SUBCASE("and it is read here before it is closed") {
    closed = false;
    read = true;
  }
  SUBCASE("and it was new, and is read here before it is closed") {
    fresh = read = true;
    closed = false;
  }
  wire::FileId id = 0;
  Opened o;
  if (fresh) {
    auto made = t.TryCreate(t.directory, "f");
    REQUIRE(made.ok());
    o = std::move(*made);
    id = o.record.id;
  } else {
    id = t.Saved(t.directory, "f", "old");
    t.Settle();
    o = t.MustOpen(id, Access::kWrite, true);
  }
  t.Write(o, 0, "ours");
  t.Leave();
  auto fsync = [&] {
    REQUIRE(t.engine->Fsync(o.file, wire::Durability::kLocal, t.Soon()).ok());
    if (!reboot) t.Release(o);
    o.file.reset();
  };
  if (closed) fsync();
  t.objectd->away = false;
  client::MetaClient other(t.objectd);
  t.objectd->writers_gone = true;
  REQUIRE(other.ReclaimWriter({.id = id}).ok());
  REQUIRE(other.OpenWrite({.id = id, .expect_generation = fresh ? 0u : 1u, .node = 7, .burst = 1})
              .ok());
  REQUIRE(other
              .Publish({.id = id,
                        .node = 7,
                        .burst = 1,
                        .generation = fresh ? 2u : 3u,
                        .size = 6,
                        .has_inline = true,
                        .sync = true},
                       AsBytes("theirs"))
              .ok());
  REQUIRE(other.EndWrite({.id = id, .node = 7, .burst = 1}).ok());
  if (reboot) t.Reboot();
  t.Settle();
  if (read) CHECK(t.Load(id) == "theirs");
  t.Settle();
  if (!closed) fsync();
  t.Settle();
  CHECK(t.BytesOf(id) == "theirs");
  CHECK(t.Load(id) == "theirs");
  auto listed = other.ReadDir({.dir = t.directory});
  REQUIRE(listed.ok());
  std::vector<std::string> contents;
  for (const auto& item : listed->items) contents.push_back(t.BytesOf(item.record.id));
  std::sort(contents.begin(), contents.end());
  CHECK(contents == std::vector<std::string>{"ours", "theirs"});
}

TEST_CASE("a file that nobody writes, and objectd does not know it, is no other node's") {
  Tree t;
  wire::FileId id = t.Saved(t.directory, "f", "old");
  t.Settle();
  // The end of this write was lost with the power of objectd.
  client::MetaClient other(t.objectd);
  REQUIRE(other.OpenWrite({.id = id, .expect_generation = 1, .node = 7, .burst = 1}).ok());
  t.objectd->writers_gone = true;
  t.Leave();
  Opened o = t.MustOpen(id, Access::kWrite, true);
  t.Write(o, 0, "new");
  REQUIRE(t.engine->Publish(o.file).ok());
  t.Release(o);
  t.Return();
  CHECK(t.BytesOf(id) == "new");
  CHECK(!t.objectd->Get(id).writer);
  CHECK(t.engine->core().Reported().empty());
}

TEST_CASE("objectd is asked to rename a file again only once it has what was closed without it") {
  Tree t;
  wire::FileId id = t.Saved(t.directory, "f", "old");
  t.Settle();
  t.Leave();
  Opened o = t.MustOpen(id, Access::kWrite, true);
  t.Write(o, 0, "new");
  REQUIRE(t.engine->Publish(o.file).ok());
  t.Release(o);
  t.objectd->away = false;
  while (!t.names->there()) t.RunFor(kMillisecond);
  t.Renamed(t.directory, "f", "g");
  CHECK(t.objectd->IdOf(t.directory, "g") == id);
  CHECK(t.BytesOf(id) == "new");
}

TEST_CASE("a file is opened for rewriting while objectd falls silent") {
  Tree t;
  const std::string fresh = Bytes(2, kBig);
  wire::FileId id = t.Saved(t.directory, "f", Bytes(1, kBig));
  t.Settle();
  bool truncate = false, asked = false, done = false;
  SUBCASE("with O_TRUNC") { truncate = true; }
  SUBCASE("in place") {}
  SUBCASE("with O_TRUNC, and it had done what it was asked") { truncate = done = true; }
  SUBCASE("in place, and it had done what it was asked") { done = true; }
  if (done) t.objectd->lose_reply = wire::Method::kMetaOpenWrite;
  t.objectd->before = [&](wire::Method m) {
    if (m != wire::Method::kMetaOpenWrite) return;
    asked = true;
    if (!done) t.objectd->away = true;
  };
  auto o = t.Open(id, Access::kWrite, truncate);
  if (!o.ok()) FAIL(o.status().ToString());
  CHECK(asked);
  t.objectd->before = nullptr;
  t.Leave();
  t.Write(*o, 0, fresh);
  REQUIRE(t.engine->Fsync(o->file, wire::Durability::kLocal, t.Soon()).ok());
  t.Release(*o);
  CHECK(t.Load(id) == fresh);
  t.Return();
  CHECK(t.BytesOf(id) == fresh);
  CHECK(!t.objectd->Get(id).writer);
  CHECK(t.engine->core().Reported().empty());
}

TEST_CASE("without objectd a careful rename waits until what it moves is durable") {
  Tree w;
  w.Leave();
  auto old = w.Saved(w.directory, "latest", "old");
  auto o = w.TryCreate(w.directory, "tmp");
  REQUIRE(o.ok());
  w.Write(*o, 0, "new");
  w.Release(*o);
  wire::RenameRequest q{.parent = w.directory,
                        .name = "tmp",
                        .new_parent = w.directory,
                        .new_name = "latest",
                        .flags = wire::kRenameCareful};
  CHECK(w.calls->Rename(q).code() == Code::kPreconditionFailed);
  CHECK(w.engine->Sync(o->record.id, w.Soon()).ok());
  auto renamed = w.calls->Rename(q);
  REQUIRE(renamed.ok());
  CHECK(renamed->replaced->id == old);
  w.Return();
  CHECK(w.Found(w.directory, "tmp") == Code::kNotFound);
  CHECK(w.BytesOf(o->record.id) == "new");
}

TEST_CASE("what objectd answered before it was found away, and has lost since, is made again") {
  Tree w;
  auto a = w.Saved(w.directory, "a", "moved");
  auto b = w.Saved(w.directory, "b", "replaced");
  w.Settle();
  REQUIRE(w.objectd->calls.contains(wire::Method::kMetaSync));
  // The answer is on its way while another call finds objectd silent, which is back at once.
  w.objectd->after = [&](wire::Method method) {
    if (method != wire::Method::kMetaRename) return;
    w.objectd->after = nullptr;
    w.objectd->LosePower();
    w.names->Suspect(Status(Code::kUnavailable, "the connection was lost"));
  };
  SUBCASE("while it is away") {}
  SUBCASE("also where it was found again meanwhile") {
    auto lose = w.objectd->after;
    w.objectd->after = [&, lose](wire::Method method) {
      if (method != wire::Method::kMetaRename) return;
      lose(method);
      w.Settle();
      REQUIRE(w.names->there());
    };
  }
  w.Renamed(w.directory, "a", "b");
  w.Settle();
  CHECK(w.names->waiting() == 0);
  CHECK(w.Found(w.directory, "a") == Code::kNotFound);
  auto there = w.calls->Lookup({.parent = w.directory, .name = "b"});
  REQUIRE(there.ok());
  CHECK(there->record.id == a);
  CHECK_FALSE(w.objectd->Exists(b));
}

TEST_CASE("while a rename is made at objectd, the old name is not what objectd still says") {
  Tree t;
  const wire::FileId id = t.Saved(t.directory, "old", "bytes");
  t.Saved(t.directory, "beside", "beside");
  t.Settle();
  t.Leave();
  t.Renamed(t.directory, "old", "new");
  wire::FileId fresh = 0;
  SUBCASE("known whole") {}
  SUBCASE("known by the journal alone") { t.Again(); }
  SUBCASE("and another file has it since") {
    fresh = t.Saved(t.directory, "old", "fresh");
    t.Again();
  }
  bool asked = false;
  t.objectd->before = [&](wire::Method m) {
    if (m != wire::Method::kMetaRename || std::exchange(asked, true)) return;
    auto found = t.calls->Lookup({.parent = t.directory, .name = "old"});
    CHECK((found.ok() ? found->record.id : 0) == fresh);
    CHECK(t.calls->Lookup({.parent = t.bucket, .path = "d/beside"}).ok());
    auto by_path = t.calls->Lookup({.parent = t.bucket, .path = "d/old"});
    CHECK((by_path.ok() ? by_path->record.id : fresh) == fresh);
    auto listed = t.calls->ReadDir({.dir = t.directory});
    if (listed.ok())
      for (const wire::DirItem& item : listed->items)
        if (item.name != "beside") CHECK((item.name == "new" ? id : fresh) == item.record.id);
  };
  t.objectd->away = false;
  t.RunFor(60 * kSecond);  // those calls wait for the rename, which waits for them here
  CHECK(asked);
  CHECK(t.objectd->IdOf(t.directory, "new") == id);
  CHECK(t.objectd->IdOf(t.directory, "old") == fresh);
  auto found = t.calls->Lookup({.parent = t.directory, .name = "old"});
  CHECK((found.ok() ? found->record.id : 0) == fresh);
}

TEST_CASE(
    "what the journal moves or removes is not found where it was, by a daemon started since") {
  Tree t;
  t.Saved(t.directory, "x", "x");
  t.Saved(t.directory, "gone", "gone");
  t.Settle();
  t.Leave();
  t.Saved(t.directory, "y", "y");
  t.Renamed(t.directory, "x", "y");
  const wire::FileId step = t.Made(t.directory, "step");
  auto into =
      t.calls->Rename({.parent = t.directory, .name = "y", .new_parent = step, .new_name = "y"});
  REQUIRE(into.ok());
  REQUIRE(t.calls->Unlink({.parent = t.directory, .name = "gone"}).ok());
  t.Again();
  for (const char* name : {"x", "y", "gone"}) CHECK(t.Found(t.directory, name) != Code::kOk);
  CHECK(t.Found(step, "y") != Code::kNotFound);
  CHECK(t.TryCreate(step, "y").code() == Code::kUnavailable);
  t.Return();
  CHECK(t.Found(step, "y") == Code::kOk);
  for (const char* name : {"x", "y", "gone"}) CHECK(t.Found(t.directory, name) == Code::kNotFound);
}

TEST_CASE("a page of names that was asked for before a rename does not undo it") {
  Tree w;
  auto a = w.Saved(w.directory, "a", "moved");
  w.Saved(w.directory, "b", "replaced");
  w.Settle();
  client::MetaClient users(w.names->calls());
  w.objectd->after = [&](wire::Method method) {
    if (method != wire::Method::kMetaReadDir) return;
    w.objectd->after = nullptr;
    w.Renamed(w.directory, "a", "b");
  };
  SUBCASE("a user's") { CHECK(users.ReadDir({.dir = w.directory, .limit = 10}).ok()); }
  SUBCASE("one that this node asks for by itself") {
    w.objectd->after = nullptr;
    w.Again();  // and knows nothing
    bool raced = false;
    w.objectd->after = [&](wire::Method method) {
      if (method != wire::Method::kMetaReadDir) return;
      w.objectd->after = nullptr;
      raced = true;
      w.Renamed(w.directory, "a", "b");
    };
    w.Saved(w.directory, "c", "this makes it learn the directory");
    w.RunFor(kSecond);
    CHECK(raced);
  }
  w.Leave();
  CHECK(w.Found(w.directory, "a") == Code::kNotFound);
  auto there = w.calls->Lookup({.parent = w.directory, .name = "b"});
  REQUIRE(there.ok());
  CHECK(there->record.id == a);
}
