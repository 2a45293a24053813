#include "tests/objectd/meta/fixture.h"

using namespace perigee;
using namespace perigee::objectd;
using namespace perigee::objectd::test;
using wire::Durability;
using wire::LayoutKind;
using Bursts = std::vector<std::pair<wire::NodeId, wire::BurstId>>;

namespace {

struct Writers : Fixture {
  Writers() : b(Bucket("bucket")) {}
  wire::Record Burst(wire::FileId f, wire::NodeId node, wire::BurstId burst, uint64_t generation,
                     uint64_t size, Durability durability = Durability::kUnsynced) {
    return Must(ns->Publish({.id = f,
                             .node = node,
                             .burst = burst,
                             .generation = generation,
                             .size = size,
                             .durability = durability},
                            ""))
        .record;
  }
  wire::Record Open(wire::FileId f, uint64_t expect, wire::NodeId node, wire::BurstId burst) {
    return Must(ns->OpenWrite({.id = f, .expect_generation = expect, .node = node, .burst = burst}))
        .record;
  }
  wire::Record At(wire::FileId f) { return Must(ns->GetAttr({.id = f})).record; }
  wire::FileId b;
};

}  // namespace

TEST_CASE_FIXTURE(Writers, "a created file shows on the mount at once and in S3 when published") {
  auto f = Create(b, "f", 1, 7);
  CHECK(At(f).writer->generation == 1);
  CHECK(Names(b) == Strings{"f"});
  CHECK(Keys("bucket") == Strings{});
  CHECK(ns->GetObject("bucket", "f").code() == Code::kNotFound);
  clock.Advance(kSecond);
  auto r = Burst(f, 1, 7, 1, 100);
  CHECK(r.committed->layout.kind == LayoutKind::kBurst);
  CHECK(r.committed->etag == "0000000000000" + r.committed->etag.substr(13));
  CHECK(r.committed->etag.size() == 34);
  CHECK(r.committed->etag.ends_with("0000000000000001-1"));
  CHECK(r.writer->generation == 2);
  CHECK(r.mtime == clock.Wall());
  CHECK(Must(ns->GetObject("bucket", "f")).committed->size == 100);
  // A repeated call changes nothing.
  CHECK(Burst(f, 1, 7, 1, 100).writer->generation == 2);
  CHECK_FALSE(Must(ns->EndWrite({.id = f, .node = 1, .burst = 8})).record.writer == std::nullopt);
  CHECK(Must(ns->EndWrite({.id = f, .node = 1, .burst = 7})).record.writer == std::nullopt);
}

TEST_CASE_FIXTURE(Writers, "writes are ended together, and one that is gone holds none back") {
  auto f = Create(b, "f", 1, 7), g = Create(b, "g", 1, 8), gone = Create(b, "gone", 1, 9);
  auto other = Create(b, "other", 2, 10);
  Must(ns->Unlink({.parent = b, .name = "gone"}));
  auto reply = Must(ns->EndWrites({.node = 1,
                                   .writes = {{.id = f, .burst = 7},
                                              {.id = gone, .burst = 9},
                                              {.id = other, .burst = 10},
                                              {.id = g, .burst = 8}}}));
  CHECK(reply.codes == std::vector{Code::kOk, Code::kStale, Code::kOk, Code::kOk});
  CHECK(!At(f).writer);
  CHECK(!At(g).writer);
  CHECK(At(other).writer);  // another node's
  std::vector<wire::WriterOf> many(wire::kEndWritesMax + 1, {.id = f, .burst = 7});
  CHECK(ns->EndWrites({.node = 1, .writes = many}).code() == Code::kInvalidArgument);
}

TEST_CASE_FIXTURE(Writers, "a create given up is an empty file that S3 does not list") {
  auto f = Create(b, "f", 1, 7);
  Must(ns->EndWrite({.id = f, .node = 1, .burst = 7}));
  CHECK_FALSE(At(f).committed.has_value());
  CHECK(Keys("bucket") == Strings{});
  CHECK(Open(f, 0, 2, 9).writer->generation == 1);
}

TEST_CASE_FIXTURE(Writers, "only one node writes, and only what it has seen") {
  auto f = Create(b, "f", 1, 7);
  Burst(f, 1, 7, 1, 100);
  CHECK(ns->OpenWrite({.id = f, .expect_generation = 1, .node = 2, .burst = 9}).code() ==
        Code::kBusy);
  CHECK(ns->OpenWrite({.id = f, .expect_generation = 0, .node = 1, .burst = 7}).code() ==
        Code::kStale);
  Must(ns->EndWrite({.id = f, .node = 1, .burst = 7}));
  CHECK(Open(f, 1, 2, 9).writer->generation == 2);
  CHECK(ns->Publish({.id = f, .node = 1, .burst = 7, .generation = 2, .size = 1}, "").code() ==
        Code::kStale);
  CHECK(ns->Publish({.id = f, .node = 2, .burst = 9, .generation = 3, .size = 1}, "").code() ==
        Code::kStale);
  CHECK(ns->OpenWrite({.id = b, .node = 2, .burst = 9}).code() == Code::kIsDirectory);
  CHECK(ns->OpenWrite({.id = 999999, .node = 2, .burst = 9}).code() == Code::kStale);
}

TEST_CASE_FIXTURE(Writers,
                  "inline content is checked, read back by generation, and gone when replaced") {
  auto f = Create(b, "f", 1, 7);
  auto q = wire::PublishRequest{
      .id = f, .node = 1, .burst = 7, .generation = 1, .size = 3, .has_inline = true};
  CHECK(ns->Publish(q, "four").code() == Code::kInvalidArgument);
  std::string big(20000, 'x');
  auto large = q;
  large.size = big.size();
  CHECK(ns->Publish(large, big).code() == Code::kTooLarge);
  CHECK(Must(ns->Publish(q, "one")).record.committed->durability == Durability::kObject);
  CHECK(Must(ns->ReadInline(f, 1)) == "one");
  q.generation = 2;
  q.sync = true;
  CHECK(Must(ns->Publish(q, "two")).record.committed->durability == Durability::kObject);
  CHECK(Must(ns->ReadInline(f, 2)) == "two");
  CHECK(ns->ReadInline(f, 1).code() == Code::kStale);
  q.generation = 3;
  q.size = 0;
  CHECK(Must(ns->Publish(q, "")).record.committed->layout.kind == LayoutKind::kNone);
  CHECK(ns->ReadInline(f, 2).code() == Code::kStale);
}

TEST_CASE_FIXTURE(Writers, "a sync publish is durable when it returns") {
  auto f = Create(b, "f", 1, 7);
  Must(ns->Sync());
  auto q = wire::PublishRequest{
      .id = f, .node = 1, .burst = 7, .generation = 1, .size = 3, .has_inline = true, .sync = true};
  Must(ns->Publish(q, "one"));
  store->Crash();
  CHECK(Must(Get("bucket", "f")) == "one");
}

TEST_CASE_FIXTURE(Writers, "the previous version is kept while the new one is unsynced") {
  auto f = File(b, "f", "safe");
  uint64_t start = Now();
  Open(f, 1, 1, 20);
  auto r = Burst(f, 1, 20, 2, 1000);
  REQUIRE(r.previous.has_value());
  CHECK(r.previous->generation == 1);
  CHECK(Must(ns->ReadInline(f, 1)) == "safe");
  // An unsynced one over an unsynced one: the safe one stays.
  r = Burst(f, 1, 20, 3, 1001);
  CHECK(r.previous->generation == 1);
  r = Must(
          ns->SetDurability(
              {.id = f, .node = 1, .burst = 20, .generation = 3, .durability = Durability::kLocal}))
          .record;
  CHECK_FALSE(r.previous.has_value());
  CHECK(r.committed->durability == Durability::kLocal);
  CHECK(ns->ReadInline(f, 1).code() == Code::kStale);
  CHECK(ns->SetDurability({.id = f, .node = 1, .burst = 20, .generation = 2}).code() ==
        Code::kStale);
  CHECK(ns->SetDurability({.id = f, .node = 1, .burst = 21, .generation = 3}).code() ==
        Code::kStale);
  CHECK(Released(start) == Bursts{});
}

TEST_CASE_FIXTURE(Writers, "a burst file is released when no version names it any more") {
  auto f = Create(b, "f", 1, 10);
  Burst(f, 1, 10, 1, 100, Durability::kLocal);
  Must(ns->EndWrite({.id = f, .node = 1, .burst = 10}));
  uint64_t start = Now();
  Open(f, 1, 2, 30);
  auto r = Burst(f, 2, 30, 2, 100);
  CHECK(r.previous->layout.node == 1);
  CHECK(Released(start) == Bursts{});
  Must(ns->SetDurability(
      {.id = f, .node = 2, .burst = 30, .generation = 2, .durability = Durability::kPartner}));
  CHECK(Released(start) == Bursts{{1, 10}});
  // Unlink releases what is committed and what is being written.
  Must(ns->EndWrite({.id = f, .node = 2, .burst = 30}));
  Open(f, 2, 2, 31);
  start = Now();
  CHECK(Unlink(b, "f") == Code::kOk);
  CHECK(Released(start) == Bursts{{2, 30}, {2, 31}});
}

TEST_CASE_FIXTURE(
    Writers,
    "an S3 put over a file being written releases the burst file and makes the writer stale") {
  auto f = Create(b, "f", 3, 40);
  Burst(f, 3, 40, 1, 5);
  uint64_t start = Now();
  auto put = Must(Put("bucket", "f", "s3"));
  CHECK(put.id != f);
  CHECK(Released(start) == Bursts{{3, 40}});
  CHECK(ns->Publish({.id = f, .node = 3, .burst = 40, .generation = 2, .size = 6}, "").code() ==
        Code::kStale);
  // So do a delete and a rename over it.
  auto g = Create(b, "g", 3, 41);
  Burst(g, 3, 41, 1, 5);
  start = Now();
  Must(ns->DeleteObject("bucket", "g", {}));
  CHECK(Released(start) == Bursts{{3, 41}});
  Create(b, "h", 3, 42);
  start = Now();
  Must(Rename(b, "f", b, "h"));
  CHECK(Released(start) == Bursts{{3, 42}});
}

TEST_CASE_FIXTURE(Writers, "a flush moves exactly the version it read into blobs, once") {
  auto f = Create(b, "f", 1, 10);
  auto etag = Burst(f, 1, 10, 1, 2 << 20).committed->etag;
  Must(ns->EndWrite({.id = f, .node = 1, .burst = 10}));
  auto flush = wire::CommitFlushRequest{
      .id = f, .node = 1, .burst = 10, .generation = 1, .extents = Blobs(50, 2).extents};
  auto wrong = flush;
  wrong.generation = 2;
  CHECK(ns->CommitFlush(wrong).code() == Code::kStale);
  wrong = flush;
  wrong.burst = 11;
  CHECK(ns->CommitFlush(wrong).code() == Code::kStale);
  wrong = flush;
  wrong.extents = Blobs(50, 1).extents;
  CHECK(ns->CommitFlush(wrong).code() == Code::kInvalidArgument);
  wrong = flush;
  wrong.intents = {12345};
  CHECK(ns->CommitFlush(wrong).code() == Code::kStale);
  uint64_t start = Now();
  auto r = Must(ns->CommitFlush(flush)).record;
  CHECK(r.committed->layout.kind == LayoutKind::kBlobs);
  CHECK(r.committed->durability == Durability::kObject);
  CHECK(r.committed->etag == etag);
  CHECK(Released(start) == Bursts{});  // the node keeps it as a clean copy
  CHECK(Must(ns->CommitFlush(flush)).record.committed->layout == r.committed->layout);
  store->Crash();
  CHECK(At(f).committed->layout.kind == LayoutKind::kBlobs);
  // Written again, in the same burst file: the blobs are what is kept.
  Open(f, 1, 1, 10);
  r = Burst(f, 1, 10, 2, 77);
  CHECK(r.previous->layout.kind == LayoutKind::kBlobs);
  r = Burst(f, 1, 10, 3, 78);
  CHECK(r.previous->generation == 1);
}

TEST_CASE_FIXTURE(
    Writers,
    "a flush releases neither the clean copy nor what is being written, but what came before") {
  auto f = Create(b, "f", 1, 10);
  Burst(f, 1, 10, 1, 5, Durability::kLocal);
  Must(ns->EndWrite({.id = f, .node = 1, .burst = 10}));
  Open(f, 1, 2, 20);
  Burst(f, 2, 20, 2, 1 << 20);
  Must(ns->EndWrite({.id = f, .node = 2, .burst = 20}));
  Open(f, 2, 2, 21);
  uint64_t start = Now();
  Must(ns->CommitFlush(
      {.id = f, .node = 2, .burst = 20, .generation = 2, .extents = Blobs(50, 1).extents}));
  CHECK(Released(start) == Bursts{{1, 10}});
}

TEST_CASE_FIXTURE(Writers, "content cut into blobs of a few bytes is refused") {
  auto f = Create(b, "f", 1, 10);
  Burst(f, 1, 10, 1, 100);
  wire::CommitFlushRequest q{.id = f, .node = 1, .burst = 10, .generation = 1};
  q.extents = {{.length = 100, .volume = 7, .first_seq = 1, .count = 100, .blob_bytes = 1}};
  CHECK(ns->CommitFlush(q).code() == Code::kInvalidArgument);
  q.extents = {{.length = 100, .volume = 7, .first_seq = 1, .count = 1, .blob_bytes = 100}};
  CHECK(ns->CommitFlush(q).ok());
}

TEST_CASE_FIXTURE(Writers, "a long flush gets an extent list built ahead") {
  auto f = Create(b, "f", 1, 10);
  const uint64_t mib = 1 << 20;
  std::vector<wire::Extent> extents;
  uint64_t at = 0;
  for (uint32_t i = 0; i < 20; ++i) {
    const uint32_t count = i == 3 ? 1300 : 2;  // more than one commit may reference
    extents.push_back({.offset = at,
                       .length = count * mib,
                       .volume = i,
                       .first_seq = 100,
                       .count = count,
                       .blob_bytes = mib});
    at += count * mib;
  }
  Burst(f, 1, 10, 1, at);
  auto r =
      Must(ns->CommitFlush({.id = f, .node = 1, .burst = 10, .generation = 1, .extents = extents}))
          .record;
  CHECK(r.committed->layout.list_id != 0);
  CHECK(r.committed->layout.extents.empty());
  Must(ns->CommitFlush({.id = f, .node = 1, .burst = 10, .generation = 1, .extents = extents}));
  CHECK(Unlink(b, "f") == Code::kOk);
}

TEST_CASE_FIXTURE(
    Writers, "a lost burst file falls back to the version before, and later generations stay new") {
  auto f = File(b, "f", "safe");
  Open(f, 1, 1, 20);
  Burst(f, 1, 20, 2, 1000);
  CHECK(ns->FallBack({.id = f, .node = 1, .burst = 20, .generation = 1}).code() == Code::kStale);
  auto r = Must(ns->FallBack({.id = f, .node = 1, .burst = 20, .generation = 2})).record;
  CHECK(r.committed->generation == 1);
  CHECK_FALSE(r.previous.has_value());
  CHECK_FALSE(r.writer.has_value());
  CHECK(Must(Get("bucket", "f")) == "safe");
  CHECK(Open(f, 1, 1, 21).writer->generation == 3);
}

TEST_CASE_FIXTURE(Writers, "what a rename replaced is kept while the new content is unsynced") {
  auto old = File(b, "latest", "safe");
  const std::string etag = At(old).committed->etag;
  auto f = Create(b, "tmp", 1, 20);
  Burst(f, 1, 20, 1, 1000);
  CHECK(Must(Rename(b, "tmp", b, "latest")).replaced->committed->etag == etag);
  CHECK(Must(ns->GetObject("bucket", "latest")).committed->size == 1000);
  CHECK(ns->FileCount() == 1);
  CHECK(ns->ReadInline(old, 1).code() == Code::kStale);
  SUBCASE("and serves again where that is lost") {
    Must(ns->EndWrite({.id = f, .node = 1, .burst = 20}));
    Open(f, 1, 1, 21);
    CHECK(ns->FallBack({.id = f, .node = 1, .burst = 20, .generation = 1}).code() == Code::kBusy);
    Must(ns->EndWrite({.id = f, .node = 1, .burst = 21}));
    auto r = Must(ns->FallBack({.id = f, .node = 1, .burst = 20, .generation = 1})).record;
    CHECK(Must(Get("bucket", "latest")) == "safe");
    CHECK(r.committed->etag == etag);
    CHECK_FALSE(r.previous.has_value());
    CHECK(r.committed->generation > 1);
    Open(f, r.committed->generation, 1, 22);
    CHECK(Burst(f, 1, 22, r.committed->generation + 1, 5).committed->size == 5);
  }
  SUBCASE("also where it was written again since") {
    Burst(f, 1, 20, 2, 1001);
    CHECK(Must(ns->FallBack({.id = f, .node = 1, .burst = 20, .generation = 2}))
              .record.committed->size == 4);
    CHECK(Must(Get("bucket", "latest")) == "safe");
  }
  SUBCASE("and goes when that is safe") {
    auto q = wire::SetDurabilityRequest{.id = f, .node = 1, .burst = 20, .generation = 1};
    CHECK_FALSE(Must(ns->SetDurability(q)).record.previous.has_value());
  }
  SUBCASE("and goes with its name") {
    Must(ns->EndWrite({.id = f, .node = 1, .burst = 20}));
    CHECK(Unlink(b, "latest") == Code::kOk);
  }
}

TEST_CASE_FIXTURE(Writers, "what a rename replaced is kept while the new file was never closed") {
  File(b, "latest", "safe");
  auto f = Create(b, "tmp", 1, 20);
  Must(Rename(b, "tmp", b, "latest"));
  CHECK_FALSE(At(f).committed.has_value());
  SUBCASE("and serves again where it never is") {
    Must(ns->EndWrite({.id = f, .node = 1, .burst = 20}));
    CHECK(Must(Get("bucket", "latest")) == "safe");
    CHECK(Open(f, At(f).committed->generation, 1, 21).writer->generation >
          At(f).committed->generation);
  }
  SUBCASE("and after its close, until that is safe") {
    CHECK(Burst(f, 1, 20, 1, 9).previous.has_value());
    CHECK_FALSE(Burst(f, 1, 20, 1, 9, Durability::kLocal).previous.has_value());
  }
  SUBCASE("and goes when that is safe at once") {
    CHECK_FALSE(Burst(f, 1, 20, 1, 9, Durability::kLocal).previous.has_value());
  }
}

TEST_CASE_FIXTURE(Writers, "of renames over each other's saves the last that is durable is kept") {
  File(b, "latest", "safe");
  for (wire::BurstId burst : {20, 21}) {
    auto f = Create(b, "tmp", 1, burst);
    Burst(f, 1, burst, 1, 1000);
    Must(ns->EndWrite({.id = f, .node = 1, .burst = burst}));
    Must(Rename(b, "tmp", b, "latest"));
  }
  auto f = Must(ns->Lookup({.parent = b, .name = "latest"})).record.id;
  Must(ns->FallBack({.id = f, .node = 1, .burst = 21, .generation = 1}));
  CHECK(Must(Get("bucket", "latest")) == "safe");
}

TEST_CASE_FIXTURE(Writers, "a careful rename waits for the class of what it would replace") {
  auto closed = [&](const std::string& name, wire::BurstId burst, Durability durability) {
    auto f = Create(b, name, 1, burst);
    Burst(f, 1, burst, 1, 1000, durability);
    Must(ns->EndWrite({.id = f, .node = 1, .burst = burst}));
    return f;
  };
  auto careful = [&] {
    return ns
        ->Rename({.parent = b,
                  .name = "tmp",
                  .new_parent = b,
                  .new_name = "latest",
                  .flags = wire::kRenameCareful})
        .code();
  };
  auto old = closed("latest", 10, Durability::kLocal);
  SUBCASE("until what is moved has it") {
    auto f = closed("tmp", 20, Durability::kUnsynced);
    CHECK(careful() == Code::kPreconditionFailed);
    CHECK(Must(ns->Lookup({.parent = b, .name = "latest"})).record.id == old);
    Must(ns->SetDurability({.id = f, .node = 1, .burst = 20, .generation = 1}));
    CHECK(careful() == Code::kOk);
    CHECK(At(f).committed->durability == Durability::kLocal);
  }
  SUBCASE("also of a file that was never closed") {
    Create(b, "tmp", 1, 20);
    CHECK(careful() == Code::kPreconditionFailed);
  }
  SUBCASE("also where that is behind content which is not durable") {
    Open(old, 1, 1, 11);
    Burst(old, 1, 11, 2, 1001);
    closed("tmp", 20, Durability::kUnsynced);
    CHECK(careful() == Code::kPreconditionFailed);
  }
  SUBCASE("not where it has another name") {
    Must(ns->Link({.id = old, .new_parent = b, .new_name = "other"}));
    closed("tmp", 20, Durability::kUnsynced);
    CHECK(careful() == Code::kOk);
  }
  SUBCASE("not where it is asked for all the same") {
    closed("tmp", 20, Durability::kUnsynced);
    CHECK(Must(Rename(b, "tmp", b, "latest")).replaced->id == old);
  }
}

TEST_CASE_FIXTURE(Writers, "blobs that a rename replaced are kept, and released once") {
  uint32_t count = 2;
  SUBCASE("a few") {}
  SUBCASE("in a list") { count = 1300; }
  auto flushed = [&](const std::string& name, wire::BurstId burst, uint64_t seq) {
    auto f = Create(b, name, 1, burst);
    Burst(f, 1, burst, 1, uint64_t{count} << 20);
    Must(ns->EndWrite({.id = f, .node = 1, .burst = burst}));
    Must(ns->CommitFlush({.id = f,
                          .node = 1,
                          .burst = burst,
                          .generation = 1,
                          .extents = Blobs(seq, count).extents}));
    return f;
  };
  flushed("latest", 10, 50);
  for (wire::BurstId burst : {20, 21}) {
    auto f = Create(b, "tmp", 1, burst);
    Burst(f, 1, burst, 1, 1000);
    Must(ns->EndWrite({.id = f, .node = 1, .burst = burst}));
    Must(Rename(b, "tmp", b, "latest"));
    CHECK(FsckAll(*store, clock).findings.empty());
    auto r = Must(ns->FallBack({.id = f, .node = 1, .burst = burst, .generation = 1})).record;
    CHECK(r.committed->layout.kind == LayoutKind::kBlobs);
    CHECK(r.committed->size == uint64_t{count} << 20);
    CHECK(FsckAll(*store, clock).findings.empty());
  }
}

TEST_CASE_FIXTURE(Writers, "a lost burst file without a version before takes all names with it") {
  auto f = Create(b, "f", 1, 20);
  Burst(f, 1, 20, 1, 10);
  Must(ns->Link({.id = f, .new_parent = b, .new_name = "g"}));
  // Rewritten in place: the version before was in the same burst file and is lost with it.
  Must(ns->SetDurability(
      {.id = f, .node = 1, .burst = 20, .generation = 1, .durability = Durability::kLocal}));
  auto r = Burst(f, 1, 20, 2, 11);
  CHECK_FALSE(r.previous.has_value());
  CHECK(ns->FallBack({.id = f, .node = 1, .burst = 20, .generation = 2}).code() == Code::kNotFound);
  CHECK(Names(b) == Strings{});
  CHECK(ns->FileCount() == 0);
}

TEST_CASE_FIXTURE(Writers, "a file whose first content was lost before it was committed goes") {
  auto f = Create(b, "f", 1, 20), g = Create(b, "g", 1, 21);
  CHECK(ns->FallBack({.id = f, .node = 1, .burst = 21}).code() == Code::kStale);
  CHECK(ns->FallBack({.id = f, .node = 2, .burst = 20}).code() == Code::kStale);
  CHECK(ns->FallBack({.id = f, .node = 1, .burst = 20}).code() == Code::kNotFound);
  CHECK(Names(b) == Strings{"g"});
  Burst(g, 1, 21, 1, 10);
  CHECK(ns->FallBack({.id = g, .node = 1, .burst = 21}).code() == Code::kStale);
  CHECK(Names(b) == Strings{"g"});
}

TEST_CASE_FIXTURE(Writers, "a burst file never claims to be in the object tier") {
  auto f = Create(b, "f", 1, 20);
  auto q = wire::PublishRequest{.id = f,
                                .node = 1,
                                .burst = 20,
                                .generation = 1,
                                .size = 5,
                                .durability = Durability::kObject};
  CHECK(ns->Publish(q, "").code() == Code::kInvalidArgument);
  Burst(f, 1, 20, 1, 5);
  CHECK(ns->SetDurability(
              {.id = f, .node = 1, .burst = 20, .generation = 1, .durability = Durability::kObject})
            .code() == Code::kInvalidArgument);
}

TEST_CASE("without room in the metadata inline content is refused, also of a file that is there") {
  auto full = std::make_shared<bool>(false);
  NamespaceOptions options;
  options.room = [full] { return *full ? Status(Code::kNoSpace, "full") : Status::Ok(); };
  Fixture f(options);
  wire::FileId bucket = f.Bucket("data");
  wire::FileId id = f.File(bucket, "f");
  Must(f.ns->OpenWrite({.id = id, .expect_generation = 1, .node = 1, .burst = 77}));
  *full = true;
  wire::PublishRequest q{
      .id = id, .node = 1, .burst = 77, .generation = 2, .size = 3, .has_inline = true};
  CHECK(f.ns->Publish(q, "abc").code() == Code::kNoSpace);
  q.has_inline = false;
  CHECK(f.ns->Publish(q, {}).ok());
}
