// Names without objectd: what goes on, what is journaled, and what becomes of it afterwards.

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
