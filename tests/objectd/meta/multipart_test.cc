#include "base/bytes.h"
#include "base/crypto.h"
#include "objectd/kv/key_space.h"
#include "objectd/meta/keys.h"
#include "objectd/volume/reference.h"
#include "tests/objectd/meta/fixture.h"
#include "tests/objectd/meta/hook_store.h"

using namespace perigee;
using namespace perigee::objectd;
using namespace perigee::objectd::test;

namespace {

constexpr uint64_t kMib = 1 << 20;

struct Uploads : Fixture {
  Uploads() { Bucket("bucket"); }
  static std::string Etag(uint32_t n) { return HexEncode(Hash(HashKind::kMd5, std::to_string(n))); }
  // Part `n` of `mib` MiB in blobs of 1 MiB, unlike any other part's.
  PartInfo Part(const UploadInfo& u, uint32_t n, uint32_t mib = 5) {
    return Must(ns->PutPart(u, n, Blobs(100'000ull * n, mib, Etag(n))));
  }
  size_t Rows(const std::string& prefix) {
    size_t rows = 0;
    Must(store
             ->Run([&](kv::Transaction& txn) -> Status {
               PERIGEE_ASSIGN(auto all, txn.Scan(kv::PrefixRange(prefix), 1'000'000,
                                                 kv::Direction::kForward, kv::ReadMode::kSnapshot));
               rows = all.size();
               return Status::Ok();
             })
             .status());
    return rows;
  }
  using Parts = std::vector<std::pair<uint32_t, std::string>>;
  static Parts First(uint32_t count) {
    Parts parts;
    for (uint32_t n = 1; n <= count; ++n) parts.emplace_back(n, Etag(n));
    return parts;
  }
};

}  // namespace

TEST_CASE_FIXTURE(Uploads,
                  "parts become one object with S3's ETag, and its content is theirs in order") {
  std::vector<wire::Attribute> headers = {{.name = "content-type", .value = "x/y"}};
  auto u = Must(ns->CreateUpload("bucket", "dir/big", headers));
  CHECK(Must(ns->GetUpload("bucket", "dir/big", u.upload_id)).headers == headers);
  Part(u, 2, 6);
  Part(u, 1, 5);
  Part(u, 3, 1);
  CHECK(Keys("bucket") == Strings{});
  auto made =
      Must(ns->CompleteUpload(u, {{1, Etag(1)}, {2, "\"" + Etag(2) + "\""}, {3, Etag(3)}}, {}));
  std::string digests;
  for (uint32_t n : {1, 2, 3}) digests += Hash(HashKind::kMd5, std::to_string(n));
  CHECK(made.committed->etag == HexEncode(Hash(HashKind::kMd5, digests)) + "-3");
  CHECK(made.committed->part_count == 3);
  CHECK(made.committed->size == 12 * kMib);
  CHECK(made.headers == headers);
  const auto& e = made.committed->layout.extents;
  REQUIRE(e.size() == 3);
  CHECK(e[1].offset == 5 * kMib);
  CHECK(e[1].first_seq == 200'000);
  CHECK(e[2].offset == 11 * kMib);
  CHECK(Must(ns->GetObject("bucket", "dir/big")) == made);
  CHECK(Rows("Up") == 0);  // the parts let go
  // Repeating it gives the same, for a day.
  CHECK(Must(ns->CompleteUpload(u, {{1, Etag(1)}}, {})) == made);
  CHECK(ns->GetUpload("bucket", "dir/big", u.upload_id).code() == Code::kNotFound);
  CHECK(ns->AbortUpload(u).code() == Code::kNotFound);
  clock.Advance(25 * 3600 * kSecond);
  Must(ns->CleanUp());
  CHECK(ns->CompleteUpload(u, {{1, Etag(1)}}, {}).code() == Code::kNotFound);
  CHECK(Rows("U") == 0);
}

TEST_CASE_FIXTURE(Uploads, "blobs that continue each other become one extent") {
  auto u = Must(ns->CreateUpload("bucket", "k", {}));
  Must(ns->PutPart(u, 1, Blobs(10, 5, Etag(1))));
  Must(ns->PutPart(u, 2, Blobs(15, 5, Etag(2))));
  auto made = Must(ns->CompleteUpload(u, First(2), {}));
  REQUIRE(made.committed->layout.extents.size() == 1);
  CHECK(made.committed->layout.extents[0].count == 10);
}

TEST_CASE_FIXTURE(Uploads, "wrong parts, wrong order and small parts are refused by name") {
  auto u = Must(ns->CreateUpload("bucket", "k", {}));
  Part(u, 1);
  Part(u, 2, 4);
  Part(u, 3);
  auto refusal = [&](const Parts& parts) {
    auto r = ns->CompleteUpload(u, parts, {});
    CHECK(r.code() == Code::kInvalidArgument);
    return r.status().message().substr(0, r.status().message().find(':'));
  };
  CHECK(refusal({}) == "InvalidPart");
  CHECK(refusal({{1, Etag(2)}}) == "InvalidPart");
  CHECK(refusal({{1, Etag(1)}, {4, Etag(4)}}) == "InvalidPart");
  CHECK(refusal({{3, Etag(3)}, {1, Etag(1)}}) == "InvalidPartOrder");
  CHECK(refusal({{1, Etag(1)}, {1, Etag(1)}}) == "InvalidPartOrder");
  CHECK(refusal({{1, Etag(1)}, {2, Etag(2)}, {3, Etag(3)}}) == "EntityTooSmall");
  CHECK(ns->PutPart(u, 0, Blobs(1)).code() == Code::kInvalidArgument);
  CHECK(ns->PutPart(u, 10001, Blobs(1)).code() == Code::kInvalidArgument);
  CHECK(ns->PutPart(u, 4, Inline("x")).code() == Code::kInvalidArgument);
  CHECK(ns->CompleteUpload(u, {{1, Etag(1)}, {2, Etag(2)}}, {}).ok());  // the small one is the last
}

TEST_CASE_FIXTURE(Uploads, "uploads that are not there are NoSuchUpload") {
  auto u = Must(ns->CreateUpload("bucket", "k", {}));
  for (const char* id : {"", "x", "zzzzzzzzzzzzzzzz", "00000000000000ff"}) {
    auto r = ns->GetUpload("bucket", "k", id);
    CHECK(r.code() == Code::kNotFound);
    CHECK(r.status().message().starts_with("NoSuchUpload"));
  }
  CHECK(ns->GetUpload("bucket", "other", u.upload_id).code() == Code::kNotFound);
  CHECK(ns->GetUpload("nowhere", "k", u.upload_id).status().message().starts_with("NoSuchBucket"));
  CHECK(ns->CreateUpload("nowhere", "k", {}).code() == Code::kNotFound);
  Must(ns->AbortUpload(u));
  CHECK(ns->PutPart(u, 1, Blobs(1)).code() == Code::kNotFound);
  CHECK(ns->ListParts(u, 0, 10).code() == Code::kNotFound);
}

TEST_CASE_FIXTURE(Uploads, "a part put again replaces the one before") {
  auto u = Must(ns->CreateUpload("bucket", "k", {}));
  Part(u, 1, 5);
  Must(ns->PutPart(u, 1, Blobs(7, 6, "other")));
  auto parts = Must(ns->ListParts(u, 0, 10));
  REQUIRE(parts.size() == 1);
  CHECK(parts[0].etag == "other");
  CHECK(parts[0].size == 6 * kMib);
  CHECK(ns->CompleteUpload(u, {{1, Etag(1)}}, {}).code() == Code::kInvalidArgument);
  CHECK(Must(ns->CompleteUpload(u, {{1, "other"}}, {})).committed->size == 6 * kMib);
}

TEST_CASE_FIXTURE(Uploads, "parts and uploads are listed in pages") {
  auto u = Must(ns->CreateUpload("bucket", "k", {}));
  for (uint32_t n : {3, 1, 7}) Part(u, n);
  CHECK(Must(ns->ListParts(u, 0, 2)).size() == 2);
  auto rest = Must(ns->ListParts(u, 3, 10));
  REQUIRE(rest.size() == 1);
  CHECK(rest[0].number == 7);
  auto k2 = Must(ns->CreateUpload("bucket", "k", {}));
  auto k1 = Must(ns->CreateUpload("bucket", "a/b", {}));
  auto k3 = Must(ns->CreateUpload("bucket", "k!", {}));
  auto ids = [](const std::vector<UploadInfo>& uploads) {
    Strings all;
    for (const auto& i : uploads) all.push_back(i.key + " " + i.upload_id);
    return all;
  };
  auto all = ids(Must(ns->ListUploads("bucket", "", "", "", 100)));
  CHECK(all == Strings{"a/b " + k1.upload_id, "k " + u.upload_id, "k " + k2.upload_id,
                       "k! " + k3.upload_id});
  CHECK(ids(Must(ns->ListUploads("bucket", "", "k", u.upload_id, 100))) ==
        Strings(all.begin() + 2, all.end()));
  CHECK(ids(Must(ns->ListUploads("bucket", "", "k", "", 100))) ==
        Strings(all.begin() + 3, all.end()));
  CHECK(ids(Must(ns->ListUploads("bucket", "a", "", "", 100))) ==
        Strings(all.begin(), all.begin() + 1));
  CHECK(Must(ns->ListUploads("bucket", "a", "k", "", 100)).empty());
  CHECK(Must(ns->ListUploads("bucket", "", "", "", 2)).size() == 2);
}

TEST_CASE_FIXTURE(Uploads,
                  "an upload of thousands of parts becomes an object with an extent list") {
  const uint32_t count = 2500;
  auto u = Must(ns->CreateUpload("bucket", "huge", {}));
  for (uint32_t n = 1; n <= count; ++n) Part(u, n);
  auto made = Must(ns->CompleteUpload(u, First(count), {}));
  CHECK(made.committed->size == count * 5ull * kMib);
  REQUIRE(made.committed->layout.list_id != 0);
  // The list reads as the parts did.
  uint64_t at = 0;
  Must(store
           ->Run([&](kv::Transaction& txn) -> Status {
             at = 0;
             for (uint32_t n = 1; n <= count;) {
               PERIGEE_ASSIGN(auto some,
                              ReadListExtents(txn, made.committed->layout.list_id, at, 700));
               for (const auto& e : some) {
                 CHECK(e.offset == at);
                 // A long list is cut where a commit was full, never in the middle of a blob.
                 CHECK(e.first_seq >= 100'000ull * n);
                 at += e.length;
                 if (at >= 5ull * kMib * n) ++n;
               }
             }
             return Status::Ok();
           })
           .status());
  CHECK(at == made.committed->size);
  for (int i = 0; i < 10; ++i) Must(ns->CleanUp());
  CHECK(Rows("Up") == 0);
  CHECK(Rows("Uc") == 1);  // the result, in a day
  // A copy uses the same list; it is garbage when the last user goes.
  Must(ns->CopyObject("bucket", "huge", "bucket", "copy", {}, {}, {}));
  Must(ns->DeleteObject("bucket", "huge", {}));
  Must(ns->DeleteObject("bucket", "copy", {}));
}

TEST_CASE_FIXTURE(Uploads,
                  "a part replaced while the upload completes is never half in the object") {
  HookStore hooks(*store);
  auto slow = Must(Namespace::Create(hooks, clock, *registry, {}));
  Must(slow->ReserveIds({.count = 1}));
  auto u = Must(ns->CreateUpload("bucket", "k", {}));
  Part(u, 1);
  // Closure 1 plans, closure 2 commits: the part changes under the commit.
  hooks.Arm([&] { Must(ns->PutPart(u, 1, Blobs(9, 6, Etag(1)))); }, 1);
  auto made = Must(slow->CompleteUpload(u, First(1), {}));
  CHECK(made.committed->size == 6 * kMib);
  CHECK(made.committed->layout.extents[0].first_seq == 9);
}

TEST_CASE_FIXTURE(Uploads, "a part put while the upload completes finds no upload") {
  HookStore hooks(*store);
  auto slow = Must(Namespace::Create(hooks, clock, *registry, {}));
  Must(slow->ReserveIds({.count = 1}));
  auto u = Must(ns->CreateUpload("bucket", "k", {}));
  Part(u, 1);
  hooks.Arm([&] { Must(ns->CompleteUpload(u, First(1), {})); });
  CHECK(slow->PutPart(u, 2, Blobs(9)).code() == Code::kNotFound);
}

TEST_CASE_FIXTURE(Uploads, "completing obeys preconditions and replaces what is there") {
  auto old = Must(Put("bucket", "k", "old"));
  auto u = Must(ns->CreateUpload("bucket", "k", {}));
  Part(u, 1);
  CHECK(ns->CompleteUpload(u, First(1), {.if_none_match = "*"}).code() ==
        Code::kPreconditionFailed);
  auto made = Must(ns->CompleteUpload(u, First(1), {.if_match = "e"}));
  CHECK(made.id != old.id);
  CHECK(Must(ns->GetObject("bucket", "k")).committed->part_count == 1);
}

TEST_CASE_FIXTURE(Uploads, "uploads of a bucket that is deleted are cleaned up") {
  auto u = Must(ns->CreateUpload("bucket", "k", {}));
  for (uint32_t n = 1; n < 50; ++n) Part(u, n);
  Must(ns->DeleteBucket("bucket"));
  Bucket("bucket");
  CHECK(ns->PutPart(u, 1, Blobs(1)).code() == Code::kNotFound);
  for (int i = 0; i < 3; ++i) Must(ns->CleanUp());
  CHECK(Rows("U") == 0);
}

TEST_CASE_FIXTURE(Uploads,
                  "cleaning that cannot be done does not hold up the rest, and is reported") {
  auto u = Must(ns->CreateUpload("bucket", "k", {}));
  Part(u, 1);
  std::string unknown = keys::EncodeChore({.due = 1, .kind = static_cast<Chore>(99), .id = 5});
  Must(store
           ->Run([&](kv::Transaction& txn) -> Status {
             txn.Put(unknown, "\x01");
             return Status::Ok();
           })
           .status());
  Must(ns->AbortUpload(u));
  CHECK(ns->CleanUp().Is(Code::kUnimplemented));
  CHECK(Rows("Up") == 0);
  CHECK(Rows("Uc") == 1);
}
