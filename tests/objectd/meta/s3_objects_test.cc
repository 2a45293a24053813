#include "objectd/volume/reference_keys.h"
#include "tests/objectd/meta/fixture.h"

using namespace perigee;
using namespace perigee::objectd;
using namespace perigee::objectd::test;

TEST_CASE_FIXTURE(Fixture, "a put is read back whole, with its headers, from both doors") {
  Bucket("bucket");
  std::vector<wire::Attribute> headers = {{.name = "content-type", .value = "text/plain"}};
  auto put = Must(ns->PutObject("bucket", "a/b/c", Inline("hello", "md5"), headers, {}));
  auto got = Must(ns->GetObject("bucket", "a/b/c"));
  CHECK(got == put);
  CHECK(got.headers == headers);
  CHECK(got.committed->etag == "md5");
  CHECK(got.committed->durability == wire::Durability::kObject);
  CHECK(Must(Get("bucket", "a/b/c")) == "hello");
  auto mounted = Must(Path("bucket/a/b/c"));
  CHECK(mounted.record.id == put.id);
  CHECK(mounted.record.mode == 0644);
  CHECK(Must(Path("bucket/a")).record.mode == 0755);
  CHECK(Must(Path("bucket/a")).record.implicit);
}

TEST_CASE_FIXTURE(Fixture, "a bucket's owner and mode are those of what S3 writes") {
  Must(ns->CreateBucket({.name = "bucket", .uid = 5, .gid = 6, .mode = 0640}));
  auto put = Must(Put("bucket", "d/o"));
  CHECK(put.uid == 5);
  CHECK(put.gid == 6);
  CHECK(put.mode == 0640);
  CHECK(Must(Path("bucket/d")).record.mode == 0750);
}

TEST_CASE_FIXTURE(Fixture, "keys and buckets are checked, and errors name what is missing") {
  Bucket("bucket");
  CHECK(Put("bucket", "").code() == Code::kInvalidArgument);
  CHECK(Put("bucket", std::string(1025, 'k')).code() == Code::kTooLarge);
  CHECK(Put("bucket", std::string(1024, 'k')).ok());
  CHECK(Put("bucket", "\xff\xfe").code() == Code::kInvalidArgument);
  CHECK(Put("bucket", std::string("a\0b", 3)).code() == Code::kInvalidArgument);
  CHECK(Put("bucket", "\xed\xa0\x80").code() == Code::kInvalidArgument);  // a surrogate
  CHECK(Put("bucket", "\xc3\xa9\xf0\x9f\x8e\x89").ok());
  auto no_bucket = Put("nowhere", "k");
  CHECK(no_bucket.code() == Code::kNotFound);
  CHECK(no_bucket.status().message().starts_with("NoSuchBucket"));
  auto no_key = ns->GetObject("bucket", "none/k");
  CHECK(no_key.code() == Code::kNotFound);
  CHECK(no_key.status().message().starts_with("NoSuchKey"));
  CHECK(ns->CreateBucket({.name = "Bad_Name"}).code() == Code::kInvalidArgument);
  CHECK(ns->CreateBucket({.name = "bucket"}).code() == Code::kAlreadyExists);
  CHECK(ns->DeleteBucket("bucket").code() == Code::kNotEmpty);
}

TEST_CASE_FIXTURE(Fixture, "implicit directories come and go with their entries") {
  auto b = Bucket("bucket");
  Must(Put("bucket", "a/b/c/d"));
  Must(Put("bucket", "a/x"));
  CHECK(Must(ns->DeleteObject("bucket", "a/b/c/d", {})).has_value());
  CHECK(Path("bucket/a/b").code() == Code::kNotFound);
  CHECK(Names(b) == Strings{"a"});
  Must(ns->DeleteObject("bucket", "a/x", {}));
  CHECK(Names(b) == Strings{});
  CHECK_FALSE(Must(ns->DeleteObject("bucket", "a/x", {})).has_value());
  Must(ns->DeleteBucket("bucket"));
  CHECK(ns->DeleteBucket("bucket").code() == Code::kNotFound);
}

TEST_CASE_FIXTURE(
    Fixture, "a directory made by mkdir is a zero-byte object and stays when emptied through S3") {
  auto b = Bucket("bucket");
  Dir(b, "d");
  auto marker = Must(ns->GetObject("bucket", "d/"));
  CHECK(marker.committed->size == 0);
  CHECK(marker.committed->etag == "d41d8cd98f00b204e9800998ecf8427e");
  Must(Put("bucket", "d/o"));
  Must(ns->DeleteObject("bucket", "d/o", {}));
  CHECK(Keys("bucket") == Strings{"d/"});
  CHECK(Must(ns->DeleteObject("bucket", "d/", {})).has_value());
  CHECK(Keys("bucket") == Strings{});
  CHECK(Names(b) == Strings{});
}

TEST_CASE_FIXTURE(Fixture, "deleting the marker of a directory in use makes it implicit") {
  Bucket("bucket");
  Must(Put("bucket", "d/", ""));
  Must(Put("bucket", "d/o"));
  CHECK(Keys("bucket") == Strings{"d/", "d/o"});
  Must(ns->DeleteObject("bucket", "d/", {}));
  CHECK(Keys("bucket") == Strings{"d/o"});
  CHECK(ns->GetObject("bucket", "d/").code() == Code::kNotFound);
  Must(Put("bucket", "d/", ""));
  CHECK(Keys("bucket") == Strings{"d/", "d/o"});
  Must(ns->DeleteObject("bucket", "d/", {}));
  Must(ns->DeleteObject("bucket", "d/o", {}));
  CHECK(Keys("bucket") == Strings{});
}

TEST_CASE_FIXTURE(
    Fixture, "a key that ends in a slash may have content, and names the same object either way") {
  auto b = Bucket("bucket");
  Must(Put("bucket", "d/", "content"));
  CHECK(Must(Get("bucket", "d/")) == "content");
  CHECK(Names(b) == Strings{"d"});
  CHECK(Names(Must(Lookup(b, "d")).record.id) == Strings{});
  CHECK(Keys("bucket") == Strings{"d/"});
  Must(Put("bucket", "d/", ""));
  CHECK(Must(ns->GetObject("bucket", "d/")).committed->size == 0);
  CHECK(Keys("bucket") == Strings{"d/"});
  Must(Put("bucket", "d/", "again"));
  CHECK(Keys("bucket") == Strings{"d/"});
  Must(ns->DeleteObject("bucket", "d/", {}));
  CHECK(Names(b) == Strings{});
  Must(Put("bucket", "//", "x"));
  Must(Put("bucket", "/", ""));
  CHECK(Keys("bucket") == Strings{"/", "//"});
}

TEST_CASE_FIXTURE(Fixture, "several objects go in one commit, each with an outcome of its own") {
  auto b = Bucket("bucket");
  for (const char* key : {"a", "d/x", "d/y", "kept", "e/"}) Must(Put("bucket", key, ""));
  const uint64_t before = Now();
  Deletion wanted[] = {{"a", {}, {}},      {"a", {}, {}},      {"d/x", {}, {}},
                       {"absent", {}, {}}, {"none/k", {}, {}}, {"kept", {.if_match = "other"}, {}},
                       {"d/y", {}, {}},    {"e/", {}, {}}};
  ns->DeleteObjects("bucket", wanted);
  for (Deletion& d : wanted) {
    INFO(d.key, " ", d.outcome.ToString());
    CHECK(d.outcome.ok() == (d.key != "kept"));
  }
  CHECK(wanted[5].outcome.Is(Code::kPreconditionFailed));
  CHECK(Now() == before + 1);
  CHECK(Keys("bucket") == Strings{"kept"});
  CHECK(Names(b) == Strings{"kept"});  // d went with its last entry

  Deletion nowhere[] = {{"k", {}, {}}, {"l", {}, {}}};
  ns->DeleteObjects("nowhere", nowhere);
  for (Deletion& d : nowhere) CHECK(d.outcome.Is(Code::kNotFound));
}

TEST_CASE_FIXTURE(Fixture, "more deletions than one commit holds go in several") {
  Bucket("bucket");
  std::vector<Deletion> wanted;
  for (int i = 0; i < 600; ++i) {
    wanted.push_back({"d" + std::to_string(i % 7) + "/" + std::to_string(i), {}, {}});
    Must(Put("bucket", wanted.back().key, "bytes"));
  }
  const uint64_t before = Now();
  ns->DeleteObjects("bucket", wanted);
  for (Deletion& d : wanted) CHECK(d.outcome.ok());
  CHECK(Now() > before + 1);
  CHECK(Now() < before + 20);
  CHECK(Keys("bucket") == Strings{});
}

TEST_CASE_FIXTURE(Fixture, "preconditions hold a put, a delete and a copy back") {
  Bucket("bucket");
  Preconditions absent{.if_none_match = "*"}, e1{.if_match = "\"e1\""}, e2{.if_match = "e2"};
  CHECK(ns->PutObject("bucket", "k", Inline("1", "e1"), {}, e1).code() == Code::kNotFound);
  CHECK(ns->PutObject("bucket", "k", Inline("1", "e1"), {}, absent).ok());
  CHECK(ns->PutObject("bucket", "k", Inline("2", "e2"), {}, absent).code() ==
        Code::kPreconditionFailed);
  CHECK(ns->PutObject("bucket", "k", Inline("2", "e2"), {}, e2).code() ==
        Code::kPreconditionFailed);
  CHECK(ns->PutObject("bucket", "k", Inline("2", "e2"), {}, e1).ok());
  CHECK(ns->DeleteObject("bucket", "k", e1).code() == Code::kPreconditionFailed);
  CHECK(ns->CopyObject("bucket", "k", "bucket", "c", {}, e1, {}).code() ==
        Code::kPreconditionFailed);
  CHECK(ns->CopyObject("bucket", "k", "bucket", "c", {}, e2, absent).ok());
  CHECK(ns->CopyObject("bucket", "k", "bucket", "c", {}, e2, absent).code() ==
        Code::kPreconditionFailed);
  CHECK(ns->DeleteObject("bucket", "k", {.if_match = "e0, \"e2\""}).ok());
  // A file that nobody has published yet is no object.
  auto b = Must(ns->HeadBucket("bucket")).id;
  Create(b, "w", 1, 1);
  CHECK(ns->PutObject("bucket", "w", Inline("1", "e1"), {}, absent).ok());
}

TEST_CASE_FIXTURE(Fixture,
                  "a copy shares blobs, takes inline bytes along, and outlives its source") {
  Bucket("bucket");
  Bucket("other");
  std::vector<wire::Attribute> h1 = {{.name = "a", .value = "1"}},
                               h2 = {{.name = "b", .value = "2"}};
  Must(ns->PutObject("bucket", "blobs", Blobs(10, 3), h1, {}));
  Must(ns->PutObject("bucket", "inline", Inline("bytes"), h1, {}));
  auto copy = Must(ns->CopyObject("bucket", "blobs", "other", "x/y", {}, {}, {}));
  CHECK(copy.headers == h1);
  CHECK(copy.committed->layout.extents == Blobs(10, 3).extents);
  CHECK(Must(ns->CopyObject("bucket", "inline", "other", "z", h2, {}, {})).headers == h2);
  // Onto itself: new headers, the same content.
  Must(ns->CopyObject("bucket", "blobs", "bucket", "blobs", h2, {}, {}));
  CHECK(Must(ns->GetObject("bucket", "blobs")).headers == h2);
  Must(ns->DeleteObject("bucket", "blobs", {}));
  Must(ns->DeleteObject("bucket", "inline", {}));
  CHECK(Must(Get("other", "z")) == "bytes");
  CHECK(ns->CopyObject("bucket", "blobs", "other", "n", {}, {}, {}).code() == Code::kNotFound);
  auto b = Must(ns->HeadBucket("bucket")).id;
  auto f = Create(b, "burst", 1, 1);
  Must(ns->Publish({.id = f, .node = 1, .burst = 1, .generation = 1, .size = 100}, ""));
  CHECK(ns->CopyObject("bucket", "burst", "other", "n", {}, {}, {}).code() == Code::kUnimplemented);
}

TEST_CASE_FIXTURE(Fixture, "a put uses its lease, and fails when that has expired") {
  Bucket("bucket");
  Must(store
           ->Run([](kv::Transaction& txn) -> Status {
             txn.Put(IntentKey(5), IntentValue({.volume = 7, .first_seq = 10, .count = 3}));
             return Status::Ok();
           })
           .status());
  auto content = Blobs(10, 3);
  content.intents = {5};
  Must(ns->PutObject("bucket", "k", content, {}, {}));
  content.intents = {6};
  CHECK(ns->PutObject("bucket", "k2", content, {}, {}).code() == Code::kStale);
  content = Blobs(10, 3);
  content.extents[0].offset = 1;
  CHECK(ns->PutObject("bucket", "k3", content, {}, {}).code() == Code::kInvalidArgument);
  CHECK(Keys("bucket") == Strings{"k"});
}

TEST_CASE_FIXTURE(
    Fixture, "S3 changes are durable when they return, and S3 reads make durable what they show") {
  auto b = Bucket("bucket");
  Must(Put("bucket", "k", "kept"));
  store->Crash();
  CHECK(Must(Get("bucket", "k")) == "kept");
  File(b, "mounted", "seen by S3");
  CHECK(ns->GetObject("bucket", "mounted").ok());
  store->Crash();
  CHECK(Must(Lookup(b, "mounted")).record.committed.has_value());
  File(b, "unseen", "lost");
  store->Crash();
  CHECK(Lookup(b, "unseen").code() == Code::kNotFound);
  // A refusal is a statement about what is there, too.
  File(b, "refused", "x");
  CHECK(ns->PutObject("bucket", "refused", Inline("y"), {}, {.if_none_match = "*"}).code() ==
        Code::kPreconditionFailed);
  store->Crash();
  CHECK(Lookup(b, "refused").ok());
}

TEST_CASE_FIXTURE(Fixture, "buckets are listed in order of their names") {
  for (const char* name : {"abc-x", "abc", "abc.x", "zoo"}) Bucket(name);
  Strings names;
  for (const auto& [name, record] : Must(ns->ListBuckets())) names.push_back(name);
  CHECK(names == Strings{"abc", "abc-x", "abc.x", "zoo"});
}

TEST_CASE_FIXTURE(Fixture, "files are counted through every door") {
  auto b = Bucket("bucket");
  File(b, "a");
  Must(Put("bucket", "b/c"));
  Must(Put("bucket", "b/c"));
  CHECK(ns->FileCount() == 2);
  Must(ns->DeleteObject("bucket", "b/c", {}));
  CHECK(Unlink(b, "a") == Code::kOk);
  CHECK(ns->FileCount() == 0);
}
