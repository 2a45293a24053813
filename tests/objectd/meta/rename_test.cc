#include <thread>

#include "base/random.h"
#include "tests/objectd/meta/fixture.h"

using namespace perigee;
using namespace perigee::objectd;
using namespace perigee::objectd::test;

TEST_CASE_FIXTURE(Fixture, "renaming a tree rewrites one entry and moves everything below") {
  auto b = Bucket("bucket");
  auto a = Dir(b, "a");
  auto deep = Dir(Dir(a, "x"), "y");
  auto f = File(deep, "f", "content");
  auto target = Dir(b, "target");
  uint64_t before = Now();
  CHECK(Must(Rename(b, "a", target, "renamed")).moved.id == a);
  CHECK(Changes(before).size() == 2);  // one removed, one put: not one for each file
  CHECK(Must(Path("bucket/target/renamed/x/y/f")).record.id == f);
  CHECK(Path("bucket/a").code() == Code::kNotFound);
  CHECK(Keys("bucket") == Strings{"target/", "target/renamed/", "target/renamed/x/",
                                  "target/renamed/x/y/", "target/renamed/x/y/f"});
}

TEST_CASE_FIXTURE(Fixture, "a directory cannot be moved into itself or below") {
  auto b = Bucket("bucket");
  auto a = Dir(b, "a");
  auto x = Dir(a, "x");
  CHECK(Rename(b, "a", a, "n").code() == Code::kInvalidArgument);
  CHECK(Rename(b, "a", x, "n").code() == Code::kInvalidArgument);
  CHECK(Rename(b, "a", b, "n").ok());
  CHECK(Rename(a, "x", b, "n").code() == Code::kNotEmpty);  // its own parent
}

TEST_CASE_FIXTURE(Fixture, "what a rename may replace follows POSIX") {
  auto b = Bucket("bucket");
  auto full = Dir(b, "full");
  Dir(b, "empty");
  auto d = Dir(b, "d");
  auto f = File(b, "f", "f");
  auto g = File(b, "g", "g");
  File(full, "in");
  CHECK(Rename(b, "none", b, "f").code() == Code::kNotFound);
  CHECK(Rename(b, "f", b, "d").code() == Code::kIsDirectory);
  CHECK(Rename(b, "d", b, "f").code() == Code::kNotDirectory);
  CHECK(Rename(b, "d", b, "full").code() == Code::kNotEmpty);
  auto replaced = Must(Rename(b, "d", b, "empty"));
  CHECK(replaced.moved.id == d);
  CHECK(replaced.replaced.has_value());
  auto over = Must(Rename(b, "f", b, "g"));
  CHECK(over.replaced->id == g);
  CHECK(Must(Lookup(b, "g")).record.id == f);
  CHECK(ns->GetAttr({.id = g}).code() == Code::kStale);
  CHECK(Must(Rename(b, "g", b, "g")).moved.id == f);
  CHECK(Names(b) == Strings{"empty", "full", "g"});
}

TEST_CASE_FIXTURE(Fixture,
                  "with an id, a call changes only that file, and replaces only the one it names") {
  auto b = Bucket("bucket");
  auto f = File(b, "f", "f");
  auto g = File(b, "g", "g");
  auto d = Dir(b, "d");
  auto move = [&](wire::FileId id, const std::string& name, wire::FileId replaced) {
    return ns
        ->Rename({.parent = b,
                  .name = "f",
                  .new_parent = b,
                  .new_name = name,
                  .id = id,
                  .replaced = replaced})
        .code();
  };
  CHECK(move(g, "h", 0) == Code::kStale);
  CHECK(move(f, "g", 0) == Code::kAlreadyExists);
  CHECK(move(f, "g", d) == Code::kAlreadyExists);
  CHECK(Names(b) == Strings{"d", "f", "g"});
  CHECK(move(f, "g", g) == Code::kOk);
  CHECK(Must(Lookup(b, "g")).record.id == f);
  CHECK(ns->Unlink({.parent = b, .name = "g", .id = g}).code() == Code::kStale);
  CHECK(ns->Rmdir({.parent = b, .name = "d", .id = f}).code() == Code::kStale);
  CHECK(ns->Unlink({.parent = b, .name = "g", .id = f}).ok());
  CHECK(ns->Rmdir({.parent = b, .name = "d", .id = d}).ok());
  CHECK(Names(b).empty());
}

TEST_CASE_FIXTURE(Fixture, "rename flags: not over something, and exchange") {
  auto b = Bucket("bucket");
  auto d = Dir(b, "d");
  auto f = File(b, "f", "f");
  auto in = File(d, "in", "in");
  CHECK(Rename(b, "f", d, "in", wire::kRenameNoReplace).code() == Code::kAlreadyExists);
  CHECK(Rename(b, "f", d, "new", wire::kRenameNoReplace).ok());
  CHECK(Rename(d, "new", b, "f", wire::kRenameNoReplace).ok());
  CHECK(Rename(b, "f", b, "none", wire::kRenameExchange).code() == Code::kNotFound);
  CHECK(Rename(b, "f", d, "in", 3).code() == Code::kInvalidArgument);
  CHECK(Rename(b, "f", d, "in", 8).code() == Code::kInvalidArgument);
  Must(Rename(b, "f", d, "in", wire::kRenameExchange));
  CHECK(Must(Lookup(b, "f")).record.id == in);
  CHECK(Must(Lookup(d, "in")).record.id == f);
  // A file and a directory change names: components change with the kind.
  Must(Rename(b, "f", b, "d", wire::kRenameExchange));
  CHECK(Must(Lookup(b, "f")).record.id == d);
  CHECK(Must(Lookup(b, "d")).record.id == in);
  // A directory with what is inside it.
  CHECK(Rename(b, "f", d, "in", wire::kRenameExchange).code() == Code::kInvalidArgument);
  CHECK(Rename(d, "in", b, "f", wire::kRenameExchange).code() == Code::kInvalidArgument);
}

TEST_CASE_FIXTURE(Fixture, "an exchange does not overwrite an object that a directory hides") {
  auto b = Bucket("bucket");
  Must(Put("bucket", "n", "hidden"));
  Must(Put("bucket", "n/x", "x"));
  File(b, "f", "f");
  CHECK(Rename(b, "f", b, "n", wire::kRenameExchange).code() == Code::kAlreadyExists);
  CHECK(Must(Get("bucket", "n")) == "hidden");
}

TEST_CASE_FIXTURE(Fixture, "nothing is renamed across buckets, and buckets not at all") {
  auto b = Bucket("bucket"), c = Bucket("cucket");
  Dir(b, "d");
  File(b, "f");
  CHECK(Rename(b, "f", c, "f").code() == Code::kCrossDevice);
  CHECK(Rename(b, "d", wire::kRootId, "ddd").code() == Code::kCrossDevice);
  CHECK(Rename(wire::kRootId, "bucket", wire::kRootId, "other").code() == Code::kPermissionDenied);
  CHECK(Rename(wire::kRootId, "bucket", c, "other").code() == Code::kPermissionDenied);
  CHECK(Rename(wire::kRootId, "none", c, "other").code() == Code::kNotFound);
}

TEST_CASE_FIXTURE(Fixture, "an implicit directory emptied through the mount becomes explicit") {
  auto b = Bucket("bucket");
  Must(Put("bucket", "i/j/a"));
  auto j = Must(Path("bucket/i/j")).record.id;
  Must(Rename(j, "a", b, "a"));
  CHECK(Keys("bucket") == Strings{"a", "i/j/"});
  CHECK(Rmdir(Must(Path("bucket/i")).record.id, "j") == Code::kOk);
  CHECK(Keys("bucket") == Strings{"a", "i/"});
}

TEST_CASE_FIXTURE(Fixture, "parallel renames of directories keep a tree") {
  const uint64_t seed = 20251;
  MESSAGE("seed ", seed);
  auto b = Bucket("bucket");
  std::vector<wire::FileId> dirs{b};
  for (int i = 0; i < 8; ++i) {
    dirs.push_back(Dir(dirs[static_cast<size_t>(i) / 2], "d" + std::to_string(i)));
    File(dirs.back(), "f", "f" + std::to_string(i));
  }
  std::vector<std::thread> threads;
  std::atomic<int> moved = 0, unexpected = 0;
  for (uint64_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      Random random(seed + t);
      for (int i = 0; i < 100; ++i) {
        // By id, wherever it is now: the name never changes, the parent is asked for.
        wire::FileId id = dirs[1 + random.Below(dirs.size() - 1)];
        wire::FileId to = dirs[random.Below(dirs.size())];
        auto at = ns->GetAttr({.id = id});
        if (!at.ok()) {
          ++unexpected;
          continue;
        }
        auto r = Rename(at->parent, at->name, to, at->name);
        if (r.ok())
          ++moved;
        else if (r.code() != Code::kInvalidArgument && r.code() != Code::kNotFound &&
                 r.code() != Code::kNotEmpty && r.code() != Code::kBusy)
          ++unexpected;
      }
    });
  }
  for (auto& t : threads) t.join();
  CHECK(moved > 0);
  CHECK(unexpected == 0);
  // Every file is still there once, by listing from the top and by id.
  size_t files = 0;
  for (const auto& key : Keys("bucket")) files += key.ends_with("f");
  CHECK(files == 8);
}
