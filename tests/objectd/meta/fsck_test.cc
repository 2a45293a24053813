#include "objectd/meta/fsck.h"

#include <functional>

#include "base/bytes.h"
#include "objectd/kv/key_space.h"
#include "objectd/meta/keys.h"
#include "objectd/volume/reference_keys.h"
#include "tests/objectd/meta/fixture.h"
#include "tests/objectd/meta/fsck_all.h"

namespace perigee::objectd::test {
namespace {

using wire::FsckKind;

// A little of everything that the namespace keeps.
struct Town : Fixture {
  Town() {
    bucket = Bucket("data");
    dir = Dir(bucket, "dir");
    inner = Dir(dir, "inner");
    file = File(inner, "file", "inline bytes");
    linked = File(dir, "linked", "two names");
    Must(ns->Link({.id = linked, .new_parent = inner, .new_name = "other"}));
    Must(ns->PutObject("data", "s3/a/object", Blobs(1, 5), {}, {}));
    Must(ns->CopyObject("data", "s3/a/object", "data", "copy", {}, {}, {}));
    blobs = Must(ns->GetObject("data", "s3/a/object")).id;
    Must(ns->PutObject("data", "old", Blobs(20, 2), {}, {}));
    Must(ns->PutObject("data", "old", Blobs(30, 2), {}, {}));  // its first blobs are garbage now
    auto upload = Must(ns->CreateUpload("data", "big", {}));
    Must(ns->PutPart(upload, 1, Blobs(40, 3)));
    NewContent listed = Blobs(100, 1);
    listed.extents.clear();
    for (uint64_t i = 0; i < 40; ++i)
      listed.extents.push_back({.offset = i << 20,
                                .length = 1 << 20,
                                .volume = 7,
                                .first_seq = 100 + 2 * i,
                                .count = 1,
                                .blob_bytes = 1 << 20});
    listed.size = 40 << 20;
    Must(ns->PutObject("data", "listed", listed, {}, {}));
    burst = Create(dir, "burst", 9, 77);
    Must(ns->Publish({.id = burst, .node = 9, .burst = 77, .generation = 1, .size = 100}, {}));
  }

  void Edit(const std::function<void(kv::Transaction&)>& edit) {
    Must(store->RunDurable([&](kv::Transaction& txn) {
      edit(txn);
      return Status::Ok();
    }));
  }
  std::string Row(const std::string& key) {
    std::optional<std::string> value;
    Must(store
             ->Run([&](kv::Transaction& txn) -> Status {
               PERIGEE_ASSIGN(value, txn.Get(key, kv::ReadMode::kSnapshot));
               return Status::Ok();
             })
             .status());
    REQUIRE(value);
    return *value;
  }
  // Repairs go on until nothing is found: what lies deeper is found once what is above is whole.
  void RepairAll() {
    for (int round = 0; round < 10; ++round) {
      auto found = FsckAll(*store, clock, true).findings;
      if (found.empty()) return;
      for (const auto& f : found) CHECK_MESSAGE(f.mended, f.what);
    }
    FAIL("not mended after ten rounds");
  }

  wire::FileId bucket, dir, inner, file, linked, blobs, burst;
};

struct Damage {
  const char* name;
  FsckKind kind;
  std::function<void(Town&)> seed;
};

const std::vector<Damage>& Damages() {
  using T = kv::Transaction;
  static const std::vector<Damage> damages = {
      {"the index of a file is gone", FsckKind::kBadParent,
       [](Town& t) { t.Edit([&](T& txn) { txn.Delete(keys::Index(t.file)); }); }},
      {"the index of a file points elsewhere", FsckKind::kBadParent,
       [](Town& t) {
         t.Edit([&](T& txn) { txn.Put(keys::Index(t.file), EncodeIndex({t.dir, "nothing"})); });
       }},
      {"the index of a directory points elsewhere", FsckKind::kBadParent,
       [](Town& t) {
         t.Edit([&](T& txn) { txn.Put(keys::Index(t.inner), EncodeIndex({t.bucket, "dir/"})); });
       }},
      {"an index row of nothing", FsckKind::kBadParent,
       [](Town& t) {
         t.Edit([&](T& txn) { txn.Put(keys::Index(999'999), EncodeIndex({t.dir, "nothing"})); });
       }},
      {"the directory of entries is gone", FsckKind::kBadParent,
       [](Town& t) {
         t.Edit([&](T& txn) {
           txn.Delete(keys::Entry(t.dir, "inner/"));
           txn.Delete(keys::Index(t.inner));
           txn.Delete(keys::Directory(t.inner));
         });
       }},
      {"a liveness row is gone", FsckKind::kBadParent,
       [](Town& t) { t.Edit([&](T& txn) { txn.Delete(keys::Directory(t.dir)); }); }},
      {"a directory is said to be of another bucket", FsckKind::kBadParent,
       [](Town& t) { t.Edit([&](T& txn) { txn.Put(keys::Directory(t.dir), EncodeId(5)); }); }},
      {"a liveness row of nothing", FsckKind::kBadParent,
       [](Town& t) {
         t.Edit([&](T& txn) { txn.Put(keys::Directory(999'999), EncodeId(t.bucket)); });
       }},
      {"a link row is gone", FsckKind::kBadParent,
       [](Town& t) {
         t.Edit([&](T& txn) { txn.Delete(keys::Link(t.linked, {t.inner, "other"})); });
       }},
      {"a link row of no entry", FsckKind::kBadParent,
       [](Town& t) {
         t.Edit([&](T& txn) {
           txn.Put(keys::Link(t.linked, {t.inner, "ghost"}), std::string(1, kFormatBody));
         });
       }},
      {"an entry of no inode", FsckKind::kBadParent,
       [](Town& t) {
         t.Edit([&](T& txn) { txn.Put(keys::Entry(t.dir, "ghost"), EncodeReference(999'999)); });
       }},
      {"a wrong count of links", FsckKind::kWrongCounter,
       [](Town& t) {
         auto record = Must(DecodeRow<wire::Record>(t.Row(keys::Inode(t.linked)), "inode"));
         record.nlink = 7;
         t.Edit([&](T& txn) { txn.Put(keys::Inode(t.linked), EncodeRow(record)); });
       }},
      {"a wrong count of files", FsckKind::kWrongCounter,
       [](Town& t) { t.Edit([&](T& txn) { txn.AtomicAdd(keys::FileCount(2), 13); }); }},
      {"times of a directory that is gone", FsckKind::kWrongCounter,
       [](Town& t) { t.Edit([&](T& txn) { txn.AtomicMax(keys::DirectoryTime(999'999, 1), 5); }); }},
      {"a list counts wrongly", FsckKind::kWrongCounter,
       [](Town& t) {
         auto list = Must(t.ns->GetObject("data", "listed")).committed->layout.list_id;
         auto head = Must(DecodeListHead(t.Row(ListHeadKey(list))));
         head.references = 4;
         t.Edit([&](T& txn) { txn.Put(ListHeadKey(list), ListHeadValue(head)); });
       }},
      {"a version without a reference to its blob", FsckKind::kDanglingReference,
       [](Town& t) { t.Edit([&](T& txn) {
                       txn.Delete(ReferenceKey(7, 3, {t.blobs, 1}));
                     }); }},
      {"a reference of a file that is gone", FsckKind::kDanglingReference,
       [](Town& t) { t.Edit([&](T& txn) {
                       txn.Put(ReferenceKey(7, 3, {999'999, 1}), "");
                     }); }},
      {"a reference of a version that is gone", FsckKind::kDanglingReference,
       [](Town& t) { t.Edit([&](T& txn) {
                       txn.Put(ReferenceKey(7, 900, {t.blobs, 5}), "");
                     }); }},
      {"a list's blob without a reference", FsckKind::kDanglingReference,
       [](Town& t) {
         auto list = Must(t.ns->GetObject("data", "listed")).committed->layout.list_id;
         t.Edit([&](T& txn) { txn.Delete(ReferenceKey(7, 104, ListOwner(list))); });
       }},
      {"inline content of nothing", FsckKind::kDanglingReference,
       [](Town& t) { t.Edit([&](T& txn) { txn.Put(keys::Inline(999'999, 1), "bytes"); }); }},
  };
  return damages;
}

}  // namespace

TEST_CASE("fsck finds nothing in a namespace that is whole") {
  Town t;
  auto result = FsckAll(*t.store, t.clock);
  for (const auto& f : result.findings) MESSAGE(f.what);
  CHECK(result.findings.empty());
  REQUIRE(result.bursts.size() == 2);  // committed, and being written
  for (const auto& b : result.bursts) {
    CHECK(b.node == 9);
    CHECK(b.burst == 77);
    CHECK(b.id == t.burst);
  }
}

TEST_CASE("fsck finds each kind of damage, changes nothing by itself, and mends it when told") {
  for (const Damage& damage : Damages()) {
    CAPTURE(damage.name);
    Town t;
    damage.seed(t);
    CHECK(FsckAll(*t.store, t.clock).Has(damage.kind));
    CHECK(FsckAll(*t.store, t.clock).Has(damage.kind));
    t.RepairAll();
    CHECK(FsckAll(*t.store, t.clock).findings.empty());
    // What was whole before still is; the fixture's end checks all rows.
    CHECK(Must(t.Get("data", "s3/a/object")) == "");
    CHECK(Must(t.ns->GetObject("data", "copy")).committed->layout.extents[0].first_seq == 1);
    CHECK(Must(t.ns->ReadInline(t.file, 1)) == "inline bytes");
    CHECK(Must(t.ns->GetAttr({.id = t.file})).record.id == t.file);
  }
}

TEST_CASE("a directory that lost its entry comes back under its id, with all that is in it") {
  Town t;
  t.Edit([&](kv::Transaction& txn) {
    txn.Delete(keys::Entry(t.dir, "inner/"));
    txn.Delete(keys::Index(t.inner));
  });
  t.RepairAll();
  auto found = Must(t.Path("lost-found-" + HexEncode64(t.inner) + "/file"));
  CHECK(found.record.id == t.file);
  CHECK(t.Names(t.inner) == std::vector<std::string>{"file", "other"});
}

TEST_CASE("a reference that is dropped frees its blob") {
  Town t;
  t.Edit([&](kv::Transaction& txn) { txn.Put(ReferenceKey(7, 900, {999'999, 1}), ""); });
  t.RepairAll();
  bool garbage = false;
  Must(t.store
           ->Run([&](kv::Transaction& txn) -> Status {
             PERIGEE_ASSIGN(auto rows, txn.Scan(GarbageUntil(INT64_MAX), 1000,
                                                kv::Direction::kForward, kv::ReadMode::kSnapshot));
             for (const auto& [key, value] : rows) {
               auto g = Must(DecodeGarbageKey(key));
               garbage = garbage || (g.volume == 7 && g.first == 900 && g.owner.id == 0);
             }
             return Status::Ok();
           })
           .status());
  CHECK(garbage);
}

TEST_CASE("content that is gone is reported, and not by a repair made worse") {
  Town t;
  t.Edit([&](kv::Transaction& txn) { txn.Delete(keys::Inline(t.file, 1)); });
  for (bool repair : {false, true}) {
    auto found = FsckAll(*t.store, t.clock, repair).findings;
    REQUIRE(found.size() == 1);
    CHECK(found[0].kind == FsckKind::kDanglingReference);
    CHECK(found[0].remedy == "");
    CHECK(!found[0].mended);
    CHECK(found[0].what.find("data/dir/inner/file") != std::string::npos);
  }
  t.Edit([&](kv::Transaction& txn) { txn.Put(keys::Inline(t.file, 1), "inline bytes"); });
}

TEST_CASE("a cursor that is none is refused") {
  Town t;
  wire::FsckRequest q;
  q.check = wire::FsckCheck::kEntries;
  q.cursor = "A";
  CHECK(CheckNamespace(*t.store, t.clock, q).code() == Code::kInvalidArgument);
  q.check = static_cast<wire::FsckCheck>(99);
  CHECK(CheckNamespace(*t.store, t.clock, q).code() == Code::kInvalidArgument);
}

}  // namespace perigee::objectd::test
