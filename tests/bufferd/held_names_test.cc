// Directories that this node holds: files are made by the journal, and told in batches.

#include <algorithm>

#include "world.h"

using namespace perigee;
using namespace perigee::bufferd;
using wire::Method;

namespace {

// A world that holds a directory "d" with nine files in it.
struct Holder : World {
  Holder() : World({.names = true, .holds = true}) {
    calls = std::make_unique<client::MetaClient>(names->calls());
    names->ReserveIds();
    RunFor(kSecond);
    auto bucket = calls->Mkdir({.parent = wire::kRootId, .name = "b", .mode = 0755});
    REQUIRE(bucket.ok());
    auto made = calls->Mkdir({.parent = bucket->record.id, .name = "d", .mode = 0755});
    REQUIRE(made.ok());
    directory = made->record.id;
    for (int i = 0; i < 8; ++i) Saved("first" + std::to_string(i), "x");
    RunFor(kSecond);
    REQUIRE(objectd->holds == 1);
    Saved("last", "x");  // before the first is told, objectd is asked how far it was told
    RunFor(kSecond);
    objectd->calls.clear();
  }
  void Again() {
    calls = std::make_unique<client::MetaClient>(names->calls());
    Settle();
  }
  Result<Opened> TryCreate(const std::string& name) {
    return engine->opener().Create(
        {.parent = directory, .name = name, .mode = 0644, .deadline = Soon()});
  }
  wire::FileId Saved(const std::string& name, const std::string& bytes, bool fsync = false) {
    auto o = TryCreate(name);
    REQUIRE(o.ok());
    Write(*o, 0, bytes);
    if (fsync)
      REQUIRE(engine->Fsync(o->file, wire::Durability::kLocal, Soon()).ok());
    else
      REQUIRE(engine->publisher().Publish(o->file, false).ok());
    Release(*o);
    return o->record.id;
  }
  // What waits is waited for by tasks only.
  template <class Call>
  auto Within(Nanos time, Call call) {
    std::optional<decltype(call())> result;
    REQUIRE(sched->Post([&] { result.emplace(call()); }).ok());
    RunFor(time);
    REQUIRE(result.has_value());
    return std::move(*result);
  }
  std::string Told(const std::string& name) {
    const wire::FileId id = objectd->IdOf(directory, name);
    if (id == 0) return "absent";
    const wire::Record r = objectd->Get(id);
    if (!r.committed) return "not closed";
    return r.committed->layout.kind == wire::LayoutKind::kInline
               ? objectd->InlineOf(id, r.committed->generation)
               : "elsewhere";
  }
  bool TakenBack(bool keep) {
    return Within(3 * kSecond, [this, keep] { return names->TakeDirectory(directory, keep); }).ok();
  }

  std::unique_ptr<client::MetaClient> calls;
  wire::FileId directory = 0;
};

}  // namespace

TEST_CASE("files in a row are made here, and objectd is told of all in one call") {
  Holder h;
  std::vector<wire::FileId> ids;
  for (int i = 0; i < 20; ++i)
    ids.push_back(h.Saved("f" + std::to_string(i), "bytes " + std::to_string(i)));
  CHECK(h.objectd->calls.empty());
  // Here they are as any others.
  CHECK(h.TryCreate("f3").code() == Code::kAlreadyExists);
  auto found = h.calls->Lookup({.parent = h.directory, .name = "f3"});
  REQUIRE(found.ok());
  CHECK(found->record.id == ids[3]);
  CHECK(found->record.committed->size == 7);
  CHECK(h.calls->Lookup({.parent = h.directory, .name = "g"}).code() == Code::kNotFound);
  CHECK(h.Load(ids[3]) == "bytes 3");
  CHECK(h.objectd->calls.empty());
  h.RunFor(100 * kMillisecond);
  CHECK(h.objectd->calls[Method::kMetaApply] == 1);
  CHECK(h.objectd->calls[Method::kMetaCreate] + h.objectd->calls[Method::kMetaPublish] == 0);
  for (int i = 0; i < 20; ++i)
    CHECK(h.Told("f" + std::to_string(i)) == "bytes " + std::to_string(i));
  h.Settle();
  CHECK(h.names->waiting() == 0);
  CHECK_FALSE(h.names->Keeps(ids[3]));
}

TEST_CASE("what is closed after its name was told is told when it is closed") {
  Holder h;
  auto o = h.TryCreate("f");
  REQUIRE(o.ok());
  h.RunFor(100 * kMillisecond);
  CHECK(h.Told("f") == "not closed");
  h.Write(*o, 0, "late");
  REQUIRE(h.engine->publisher().Publish(o->file, false).ok());
  CHECK(h.Told("f") == "late");
  h.Release(*o);
}

TEST_CASE(
    "others who come to the directory are told at once, and have it back when they change it") {
  Holder h;
  h.Saved("f", "one");
  CHECK(h.TakenBack(true));
  CHECK(h.Told("f") == "one");
  h.objectd->calls.clear();
  h.Saved("g", "two");
  CHECK(h.objectd->calls[Method::kMetaCreate] == 0);
  CHECK(h.TakenBack(false));
  CHECK(h.Told("g") == "two");
  h.objectd->calls.clear();
  h.Saved("h", "three");
  CHECK(h.objectd->calls[Method::kMetaCreate] == 1);
  CHECK(h.Told("h") == "three");
}

TEST_CASE("what is closed while objectd hears of its name is seen as it was closed") {
  Holder h;
  auto o = h.TryCreate("f");
  REQUIRE(o.ok());
  std::vector<uint64_t> seen;
  h.objectd->before = [&](Method m) {
    if (m != Method::kMetaApply) return;
    if (seen.empty()) {
      h.Write(*o, 0, "late");
      CHECK(h.engine->publisher().Publish(o->file, false).ok());
    }
    auto now = h.calls->GetAttr({.id = o->record.id});
    REQUIRE(now.ok());
    seen.push_back(now->record.committed ? now->record.committed->size : 0);
  };
  h.RunFor(100 * kMillisecond);
  CHECK(seen == std::vector<uint64_t>{4, 4});
  CHECK(h.Told("f") == "late");
  h.objectd->before = nullptr;
  h.Release(*o);
}

TEST_CASE("what is set while objectd hears of the name is set from then on") {
  Holder h;
  auto o = h.TryCreate("f");
  REQUIRE(o.ok());
  const wire::FileId id = o->record.id;
  int calls = 0;
  std::vector<uint32_t> modes;
  h.objectd->before = [&](Method m) {
    if (m != Method::kMetaApply) return;
    if (++calls == 1) CHECK(h.calls->SetAttr({.id = id, .set_mode = true, .mode = 0600}).ok());
    if (calls == 2) {
      h.Write(*o, 0, "late");
      CHECK(h.engine->publisher().Publish(o->file, false).ok());
    }
    modes.push_back(h.calls->GetAttr({.id = id})->record.mode);
  };
  h.RunFor(200 * kMillisecond);
  CHECK(modes == std::vector<uint32_t>{0600, 0600, 0600});  // the name, the mode, what was closed
  CHECK(h.objectd->Get(id).mode == 0600);
  CHECK(h.Told("f") == "late");
  h.objectd->before = nullptr;
  h.Release(*o);
}

TEST_CASE("a kill before objectd was told loses nothing") {
  Holder h;
  const wire::FileId id = h.Saved("f", "one");
  h.Restart();
  h.Again();
  CHECK(h.Told("f") == "one");
  CHECK(h.objectd->IdOf(h.directory, "f") == id);
}

TEST_CASE("power that is lost before objectd was told takes what was not synced, and no more") {
  Holder h;
  h.Saved("synced", "one", true);
  h.Saved("lost", "two");
  h.Reboot();
  h.Again();
  CHECK(h.Told("synced") != "absent");
  CHECK(h.Load(h.objectd->IdOf(h.directory, "synced")) == "one");
  CHECK(h.Told("lost") == "absent");
}

TEST_CASE("what was told is not made again after a loss of power, whatever became of it since") {
  Holder h;
  const wire::FileId id = h.Saved("f", "one", true);
  h.Saved("kept", "two", true);
  h.Settle();  // told and forgotten, which the index has not synced
  REQUIRE(h.Told("f") == "one");
  REQUIRE_FALSE(h.names->Keeps(id));
  h.objectd->Unlink(h.directory, "f");
  h.objectd->ForgetFeed();  // nothing else tells of it
  h.Reboot();
  h.Again();
  CHECK(h.Told("f") == "absent");
  CHECK(h.Told("kept") == "two");
  CHECK_FALSE(h.Current(id));
  CHECK(h.names->waiting() + h.engine->publisher().waiting() == 0);
}

TEST_CASE("changes made without objectd are not made again after a loss of power, either") {
  Holder h;
  h.objectd->away = true;
  const wire::FileId id = h.Saved("f", "one", true);
  h.objectd->away = false;
  while (h.names->Keeps(id)) h.RunFor(kMillisecond);
  REQUIRE(h.Told("f") == "one");
  h.objectd->Unlink(h.directory, "f");
  h.objectd->ForgetFeed();
  h.Reboot();
  h.Again();
  CHECK(h.Told("f") == "absent");
  CHECK_FALSE(h.Current(id));
}

TEST_CASE("numbers that a damaged journal gives once more are not taken for told ones") {
  Holder h;
  for (int i = 0; i < 30; ++i) h.Saved("f" + std::to_string(i), "one");
  h.Settle();
  REQUIRE(h.index.RemoveValue(kNamesTried).ok());
  h.index.Damage(h.Current(h.objectd->IdOf(h.directory, "f3"))->burst);
  h.Restart();
  h.Again();
  auto bucket = h.calls->Lookup({.parent = wire::kRootId, .name = "b"});
  REQUIRE(bucket.ok());
  REQUIRE(h.calls->Lookup({.parent = bucket->record.id, .name = "d"}).ok());
  h.Saved("before", "x");
  h.names->ReserveIds();
  h.RunFor(kSecond);
  h.objectd->away = true;
  const wire::FileId id = h.Saved("g", "two", true);
  h.Restart();
  h.objectd->away = false;
  h.Again();
  CHECK(h.objectd->IdOf(h.directory, "g") == id);
  CHECK(h.Told("g") == "two");
}

TEST_CASE("objectd that falls silent before it was told hears of it afterwards, once") {
  Holder h;
  h.objectd->lose_reply = Method::kMetaApply;
  const wire::FileId id = h.Saved("f", "one");
  h.RunFor(50 * kMillisecond);
  CHECK_FALSE(h.names->there());
  h.Settle();
  CHECK(h.names->there());
  CHECK(h.Told("f") == "one");
  CHECK(h.objectd->IdOf(h.directory, "f") == id);
  h.objectd->away = true;
  h.Saved("g", "two");
  h.objectd->away = false;
  h.Settle();
  CHECK(h.Told("g") == "two");
}

TEST_CASE("what is closed again after objectd did not answer is not taken for what it may have") {
  Holder h;
  h.objectd->lose_reply = Method::kMetaApply;
  const wire::FileId id = h.Saved("f", "one");
  h.RunFor(50 * kMillisecond);
  CHECK(h.Told("f") == "one");
  REQUIRE_FALSE(h.names->there());
  h.objectd->away = true;
  Opened o = h.MustOpen(id, wire::Access::kWrite);
  h.Write(o, 0, "two");
  REQUIRE(h.engine->publisher().Publish(o.file, false).ok());
  h.Release(o);
  h.objectd->away = false;
  h.Settle();
  CHECK(h.Told("f") == "two");
}

TEST_CASE("objectd that loses its power is told again") {
  Holder h;
  h.Saved("f", "one");
  for (int i = 0; i < 100 && h.Told("f") != "one"; ++i) h.RunFor(kMillisecond);
  CHECK(h.Told("f") == "one");
  h.objectd->LosePower();
  CHECK(h.Told("f") == "absent");
  h.Settle();
  CHECK(h.Told("f") == "one");
}

TEST_CASE("an objectd that was started again unnoticed takes nothing for told that it has lost") {
  Holder h;
  h.RunFor(3 * kSecond);  // all is durable
  bool told = false;
  SUBCASE("what it was told") { told = true; }
  SUBCASE("what it made by itself") {}
  std::optional<Opened> open;
  if (told) {
    auto made = h.TryCreate("f");  // nothing of it is to be synced
    REQUIRE(made.ok());
    open = std::move(*made);
    for (int i = 0; i < 100 && h.Told("f") == "absent"; ++i) h.RunFor(kMillisecond);
    REQUIRE(h.Told("f") == "not closed");
  } else {
    REQUIRE(h.calls->Mkdir({.parent = h.directory, .name = "f", .mode = 0755}).ok());
  }
  h.objectd->LosePower();
  h.objectd->calls[Method::kMetaSync] = 0;
  h.Saved("g", "two");
  while (h.objectd->calls[Method::kMetaApply] == told) h.RunFor(kMillisecond);
  CHECK(h.objectd->calls[Method::kMetaSync] == 0);  // nobody has noticed
  h.Settle();
  CHECK(h.Told("g") == "two");
  CHECK(h.objectd->IdOf(h.directory, "f") != 0);
  if (open) h.Release(*open);
}

TEST_CASE("a name that others took after the term was over is kept beside theirs") {
  Holder h;
  const wire::FileId id = h.Saved("f", "ours");
  client::MetaClient other(h.objectd);
  REQUIRE(other.Create({.parent = h.directory, .name = "f", .mode = 0644}).ok());
  h.RunFor(kSecond);
  CHECK(h.objectd->IdOf(h.directory, "f") != id);
  CHECK(h.Told(ConflictName("f", id)) == "ours");
  h.objectd->calls.clear();
  h.Saved("g", "two");
  CHECK(h.objectd->calls[Method::kMetaCreate] == 1);  // nothing is held any more
}

TEST_CASE("a term that is not renewed is over here first") {
  Holder h;
  h.objectd->terms_over = true;
  h.RunFor(kSecond);
  h.objectd->calls.clear();
  h.Saved("f", "one");
  CHECK(h.objectd->calls[Method::kMetaCreate] == 1);
}

TEST_CASE("inline content that has no room is told without its bytes") {
  Holder h;
  h.objectd->metadata_full = true;
  const wire::FileId id = h.Saved("f", "one");
  h.Settle();
  CHECK(h.Told("f") != "absent");
  CHECK(h.Load(id) == "one");
}

TEST_CASE("what is not told yet is renamed, removed and changed as any file") {
  Holder h;
  auto within = [&](auto call) { return h.Within(kSecond, call); };
  const wire::FileId moved = h.Saved("f", "one");
  CHECK(within([&] {
          return h.calls->Rename(
              {.parent = h.directory, .name = "f", .new_parent = h.directory, .new_name = "g"});
        }).ok());
  CHECK(h.objectd->IdOf(h.directory, "g") == moved);
  CHECK(h.Told("f") == "absent");
  h.Saved("gone", "two");
  CHECK(within([&] { return h.calls->Unlink({.parent = h.directory, .name = "gone"}); }).ok());
  CHECK(h.Told("gone") == "absent");
  CHECK(h.calls->Lookup({.parent = h.directory, .name = "gone"}).code() == Code::kNotFound);
  h.Saved("gone", "again");
  const wire::FileId changed = h.Saved("changed", "three");
  CHECK(h.calls->SetAttr({.id = changed, .set_mode = true, .mode = 0600}).ok());
  CHECK(h.calls->GetAttr({.id = changed})->record.mode == 0600);
  auto listed = within([&] { return h.calls->ReadDir({.dir = h.directory}); });
  REQUIRE(listed.ok());
  CHECK(std::count_if(listed->items.begin(), listed->items.end(),
                      [](const auto& i) { return i.name == "changed" || i.name == "gone"; }) == 2);
  CHECK(h.objectd->Get(changed).mode == 0600);
  CHECK(h.Told("gone") == "again");
}

TEST_CASE("a directory in which everything is renamed at once is not held for long") {
  Holder h;
  for (int i = 0; i < 40; ++i) {
    const std::string name = "f" + std::to_string(i);
    h.Saved("tmp" + name, name);
    CHECK(h.Within(100 * kMillisecond, [&] {
             return h.calls->Rename({.parent = h.directory,
                                     .name = "tmp" + name,
                                     .new_parent = h.directory,
                                     .new_name = name});
           }).ok());
  }
  for (int i = 0; i < 40; ++i) CHECK(h.Told("f" + std::to_string(i)) == "f" + std::to_string(i));
  h.objectd->calls.clear();
  h.Saved("after", "x");
  CHECK(h.objectd->calls[Method::kMetaCreate] == 1);
}

TEST_CASE("a node that stops has told all") {
  Holder h;
  h.Saved("f", "one");
  h.Within(kSecond, [&] {
    h.names->GiveUpHolds();
    return 0;
  });
  CHECK(h.Told("f") == "one");
  CHECK(h.objectd->calls[Method::kMetaReleaseDirectories] == 1);
}
