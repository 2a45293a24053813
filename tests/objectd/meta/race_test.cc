// What conflicts with what: an operation is interrupted between its reads and its commit by another
// one.

#include <memory>

#include "tests/objectd/meta/fixture.h"
#include "tests/objectd/meta/hook_store.h"

using namespace perigee;
using namespace perigee::objectd;
using namespace perigee::objectd::test;

namespace {

struct Races : Fixture {
  Races() : hooks(*store), slow(Must(Namespace::Create(hooks, clock, *registry, {}))) {
    // Ids are reserved by a commit of their own: out of the way before the hooks.
    Must(slow->ReserveIds({.count = 1}));
    b = Bucket("bucket");
    d = Dir(b, "d");
  }
  // How often `op` (on `slow`) ran its closure when `meanwhile` came in between.
  template <class Op>
  int Runs(std::function<void()> meanwhile, Op op) {
    hooks.Arm(std::move(meanwhile));
    op();
    return hooks.runs;
  }

  HookStore hooks;
  std::unique_ptr<Namespace> slow;
  wire::FileId b, d;
};

}  // namespace

TEST_CASE_FIXTURE(Races, "creates in one directory do not disturb each other") {
  CHECK(Runs([&] { Create(d, "b", 1, 1); }, [&] { Must(slow->CreateFile(Make(d, "a"))); }) == 1);
  CHECK(Runs([&] { Dir(d, "sub2"); }, [&] { Must(slow->Mkdir(Make(d, "sub1"))); }) == 1);
  CHECK(Names(d) == Strings{"a", "b", "sub1", "sub2"});
}

TEST_CASE_FIXTURE(Races, "a chmod of the directory does not disturb creates in it") {
  CHECK(Runs([&] { Must(ns->SetAttr({.id = d, .set_mode = true, .mode = 0700})); },
             [&] { Must(slow->CreateFile(Make(d, "a"))); }) == 1);
}

TEST_CASE_FIXTURE(Races, "of two creates of one name the second sees the first") {
  CHECK(Runs([&] { Create(d, "a", 1, 1); },
             [&] { CHECK(slow->CreateFile(Make(d, "a")).code() == Code::kAlreadyExists); }) == 2);
  CHECK(Runs([&] { Dir(d, "n"); },
             [&] { CHECK(slow->CreateFile(Make(d, "n")).code() == Code::kAlreadyExists); }) == 2);
}

TEST_CASE_FIXTURE(Races, "nothing is made in a directory that goes meanwhile") {
  CHECK(Runs([&] { REQUIRE(Rmdir(b, "d") == Code::kOk); },
             [&] { CHECK(slow->CreateFile(Make(d, "a")).code() == Code::kStale); }) == 2);
}

TEST_CASE_FIXTURE(Races, "a directory that gets a file meanwhile is not removed") {
  CHECK(Runs([&] { Create(d, "a", 1, 1); },
             [&] { CHECK(slow->Rmdir({.parent = b, .name = "d"}).code() == Code::kNotEmpty); }) ==
        2);
}

TEST_CASE_FIXTURE(Races, "two renames cannot make a cycle") {
  auto x = Dir(b, "x"), y = Dir(b, "y");
  auto into_y = wire::RenameRequest{.parent = b, .name = "x", .new_parent = y, .new_name = "x"};
  CHECK(Runs([&] { Must(Rename(b, "y", x, "y")); },
             [&] { CHECK(slow->Rename(into_y).code() == Code::kInvalidArgument); }) == 2);
}

TEST_CASE_FIXTURE(Races, "two renames cannot make a cycle further up") {
  auto x = Dir(b, "x"), y = Dir(b, "y");
  auto x1 = Dir(x, "1"), y1 = Dir(y, "1");
  auto into_y1 = wire::RenameRequest{.parent = b, .name = "x", .new_parent = y1, .new_name = "x"};
  CHECK(Runs([&] { Must(Rename(b, "y", x1, "y")); },
             [&] { CHECK(slow->Rename(into_y1).code() == Code::kInvalidArgument); }) == 2);
}

TEST_CASE_FIXTURE(Races, "S3 puts into an implicit directory that vanishes meanwhile") {
  Must(Put("bucket", "i/j/a"));
  CHECK(Runs([&] { Must(ns->DeleteObject("bucket", "i/j/a", {})); },
             [&] { Must(slow->PutObject("bucket", "i/j/b", Inline("x"), {}, {})); }) == 2);
  CHECK(Keys("bucket") == Strings{"d/", "i/j/b"});
}

TEST_CASE_FIXTURE(Races,
                  "two deletes of an implicit directory's last entries leave nothing behind") {
  Must(Put("bucket", "i/a"));
  Must(Put("bucket", "i/b"));
  CHECK(Runs([&] { Must(ns->DeleteObject("bucket", "i/b", {})); },
             [&] { Must(slow->DeleteObject("bucket", "i/a", {})); }) == 2);
  CHECK(Lookup(b, "i").code() == Code::kNotFound);
}

TEST_CASE_FIXTURE(Races,
                  "a marker's delete and the delete of the last entry leave nothing behind") {
  Must(Put("bucket", "i/"));
  Must(Put("bucket", "i/a"));
  Runs([&] { Must(ns->DeleteObject("bucket", "i/", {})); },
       [&] { Must(slow->DeleteObject("bucket", "i/a", {})); });
  CHECK(Lookup(b, "i").code() == Code::kNotFound);
}

TEST_CASE_FIXTURE(Races, "S3 puts to where the path leads at its commit") {
  Must(Put("bucket", "i/a"));
  CHECK(Runs([&] { Must(Rename(b, "i", b, "moved")); },
             [&] { Must(slow->PutObject("bucket", "i/b", Inline("x"), {}, {})); }) == 2);
  CHECK(Keys("bucket") == Strings{"d/", "i/b", "moved/a"});
}

TEST_CASE_FIXTURE(Races, "two conditional puts of a new key: one wins") {
  CHECK(Runs([&] { Must(Put("bucket", "k", "first")); },
             [&] {
               auto second =
                   slow->PutObject("bucket", "k", Inline("second"), {}, {.if_none_match = "*"});
               CHECK(second.code() == Code::kPreconditionFailed);
             }) == 2);
  CHECK(Must(Get("bucket", "k")) == "first");
}

TEST_CASE_FIXTURE(Races, "a flush of content that was rewritten meanwhile is refused") {
  auto f = Create(d, "f", 1, 5);
  Must(ns->Publish({.id = f, .node = 1, .burst = 5, .generation = 1, .size = 1 << 20}, ""));
  auto flush = wire::CommitFlushRequest{
      .id = f, .node = 1, .burst = 5, .generation = 1, .extents = Blobs(100).extents};
  // The first closure only looks; the second one is the commit.
  hooks.Arm(
      [&] { Must(ns->Publish({.id = f, .node = 1, .burst = 5, .generation = 2, .size = 9}, "")); },
      1);
  CHECK(slow->CommitFlush(flush).code() == Code::kStale);
  CHECK(hooks.runs == 3);
  CHECK(Must(ns->GetAttr({.id = f})).record.committed->size == 9);
}

TEST_CASE_FIXTURE(
    Races, "a copy of an object that is deleted meanwhile fails instead of sharing freed blobs") {
  Must(ns->PutObject("bucket", "src", Blobs(10), {}, {}));
  CHECK(Runs([&] { Must(ns->DeleteObject("bucket", "src", {})); },
             [&] {
               CHECK(slow->CopyObject("bucket", "src", "bucket", "dst", {}, {}, {}).code() ==
                     Code::kNotFound);
             }) == 2);
}
