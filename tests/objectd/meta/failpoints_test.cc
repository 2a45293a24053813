// A failure between a commit and its reply: the caller repeats the call, and it was done once.

#include <algorithm>
#include <map>

#include "base/failpoint.h"
#include "rdma/wire/methods.h"
#include "tests/objectd/meta/fixture.h"

#ifdef PERIGEE_FAILPOINTS

using namespace perigee;
using namespace perigee::objectd;
using namespace perigee::objectd::test;

namespace {

struct Armed : Fixture {
  Armed() : b(Bucket("bucket")) {}
  ~Armed() { failpoint::DisarmAll(); }
  // The first time `op` runs it fails at `name`, after the commit; then it is repeated.
  template <class Op>
  auto Repeated(const std::string& name, Op op) {
    Must(failpoint::Arm(name + "=error"));
    auto lost = op();
    CHECK(lost.code() == Code::kIo);
    return Must(op());
  }
  wire::FileId b;
};

}  // namespace

TEST_CASE_FIXTURE(Armed, "a publish whose reply was lost is the same publish when repeated") {
  auto f = Create(b, "f", 1, 7);
  uint64_t start = Now();
  auto q = wire::PublishRequest{.id = f, .node = 1, .burst = 7, .generation = 1, .size = 100};
  auto r = Repeated("meta_after_publish", [&] { return ns->Publish(q, ""); }).record;
  CHECK(r.committed->generation == 1);
  CHECK(r.writer->generation == 2);
  CHECK(Changes(start).size() == 1);
  auto flush = wire::CommitFlushRequest{.id = f, .node = 1, .burst = 7, .generation = 1};
  flush.extents = {{.length = 100, .volume = 1, .first_seq = 1, .count = 1, .blob_bytes = 100}};
  r = Repeated("meta_after_flush", [&] { return ns->CommitFlush(flush); }).record;
  CHECK(r.committed->layout.kind == wire::LayoutKind::kBlobs);
}

TEST_CASE_FIXTURE(Armed,
                  "a completed upload whose reply was lost completes again to the same object") {
  auto u = Must(ns->CreateUpload("bucket", "k", {}));
  Repeated("meta_after_part", [&] { return ns->PutPart(u, 1, Blobs(10, 6, "p1")); });
  wire::Record made = Repeated("meta_after_complete", [&] {
    return ns->CompleteUpload(u, {{1, "p1"}}, {});
  });
  CHECK(Must(ns->GetObject("bucket", "k")) == made);
}

TEST_CASE_FIXTURE(Armed, "a list half built is never used") {
  auto f = Create(b, "f", 1, 7);
  const uint64_t size = 1300 << 16;
  Must(ns->Publish({.id = f, .node = 1, .burst = 7, .generation = 1, .size = size}, ""));
  auto flush = wire::CommitFlushRequest{.id = f, .node = 1, .burst = 7, .generation = 1};
  flush.extents = {
      {.length = size, .volume = 1, .first_seq = 1, .count = 1300, .blob_bytes = 1 << 16}};
  auto r = Repeated("meta_after_list_rows", [&] { return ns->CommitFlush(flush); }).record;
  CHECK(r.committed->layout.list_id != 0);
}

TEST_CASE_FIXTURE(
    Armed,
    "what was committed before its durability was waited for may be lost whole, never half") {
  Must(failpoint::Arm("meta_before_durable=error"));
  CHECK(Put("bucket", "a/b/c").code() == Code::kIo);
  store->Crash();
  CHECK(Keys("bucket") == Strings{});
  CHECK(Names(b) == Strings{});
  Must(Put("bucket", "a/b/c"));
}

TEST_CASE_FIXTURE(Armed, "every failpoint of the namespace is passed") {
  std::map<std::string, uint64_t> before;
  auto hits = [](const std::string& name) {
    auto names = failpoint::Names();
    auto at = std::find(names.begin(), names.end(), name);
    return failpoint::Hits(static_cast<failpoint::Id>(at - names.begin()));
  };
  for (const auto& name : failpoint::Names()) before[name] = hits(name);
  File(b, "f");
  Must(Put("bucket", "k"));
  Must(ns->CopyObject("bucket", "k", "bucket", "l", {}, {}, {}));
  Must(ns->DeleteObject("bucket", "k", {}));
  auto f = Create(b, "g", 1, 7);
  const uint64_t size = 600 << 16;
  Must(ns->Publish({.id = f, .node = 1, .burst = 7, .generation = 1, .size = size}, ""));
  auto flush = wire::CommitFlushRequest{.id = f, .node = 1, .burst = 7, .generation = 1};
  flush.extents = {
      {.length = size, .volume = 1, .first_seq = 1, .count = 600, .blob_bytes = 1 << 16}};
  Must(ns->CommitFlush(flush));
  auto u = Must(ns->CreateUpload("bucket", "k", {}));
  Must(ns->PutPart(u, 1, Blobs(10, 6, "p1")));
  Must(ns->CompleteUpload(u, {{1, "p1"}}, {}));
  Must(ns->AbortUpload(Must(ns->CreateUpload("bucket", "k", {}))));
  Fixture holding([](wire::NodeId, wire::FileId, bool, Nanos) { return Status::Ok(); });
  const wire::FileId bucket = holding.Bucket("bucket");
  CHECK(Must(holding.ns->HoldDirectory({.node = 1, .dir = bucket, .at = 1})).granted);
  auto make = Make(bucket, "f");
  make.id = Must(holding.ns->ReserveIds({.count = 1})).first;
  wire::ApplyRequest told{.node = 1};
  told.ops.push_back(
      {.method = static_cast<uint64_t>(wire::Method::kMetaCreate), .request = wire::Encode(make)});
  Must(holding.ns->Apply(told, ""));
  Must(holding.ns->ReleaseDirectories({.node = 1, .all = true, .at = 2}));
  for (const auto& name : failpoint::Names()) {
    if (!name.starts_with("meta_") || name == "meta_before_reply")
      continue;  // that one: meta_service_test.cc
    INFO(name);
    CHECK(hits(name) > before[name]);
  }
}

#endif
