#include "objectd/volume/reference.h"

#include "objectd/kv/key_space.h"
#include "objectd/volume/reference_keys.h"
#include "tests/objectd/meta/fixture.h"

using namespace perigee;
using namespace perigee::objectd;
using namespace perigee::objectd::test;

namespace {

struct References {
  std::unique_ptr<kv::MemStore> store = kv::MemStore::Create();
  Code Run(const std::function<Status(kv::Transaction&)>& closure) {
    return store->Run(closure).code();
  }
  Strings Keys(kv::KeySpace space) {
    Strings keys;
    Must(store
             ->Run([&](kv::Transaction& txn) -> Status {
               keys.clear();
               PERIGEE_ASSIGN(auto rows,
                              txn.Scan(kv::PrefixRange(std::string(1, static_cast<char>(space))),
                                       10000, kv::Direction::kForward, kv::ReadMode::kSnapshot));
               for (const auto& [key, value] : rows) keys.push_back(key);
               return Status::Ok();
             })
             .status());
    return keys;
  }
  static std::vector<wire::Extent> Extents(uint64_t seq, uint32_t count, uint64_t offset = 0) {
    return {{.offset = offset,
             .length = count * 10ull,
             .volume = 3,
             .first_seq = seq,
             .count = count,
             .blob_bytes = 10}};
  }
  ListHead Head(uint64_t list) {
    ListHead head;
    Must(store
             ->Run([&](kv::Transaction& txn) -> Status {
               PERIGEE_ASSIGN(auto value, txn.Get(ListHeadKey(list), kv::ReadMode::kSnapshot));
               PERIGEE_ASSIGN(head, DecodeListHead(value.value_or("")));
               return Status::Ok();
             })
             .status());
    return head;
  }
};

}  // namespace

TEST_CASE_FIXTURE(References,
                  "acquiring writes one reference for each blob, releasing one piece of garbage "
                  "for each extent") {
  CHECK(Run([&](auto& txn) {
          return AcquireContent(txn, {8, 1}, Extents(100, 3), 0, {});
        }) == Code::kOk);
  CHECK(Keys(kv::KeySpace::kReference) == Strings{ReferenceKey(3, 100, {8, 1}),
                                                  ReferenceKey(3, 101, {8, 1}),
                                                  ReferenceKey(3, 102, {8, 1})});
  CHECK(Run([&](auto& txn) {
          return ReleaseContent(txn, {8, 1}, Extents(100, 3), 0, 77);
        }) == Code::kOk);
  auto garbage = Keys(kv::KeySpace::kGarbage);
  REQUIRE(garbage.size() == 1);
  auto key = Must(DecodeGarbageKey(garbage[0]));
  CHECK(key.time == 77);
  CHECK(key.first == 100);
  CHECK(key.owner.id == 8);
}

TEST_CASE_FIXTURE(References, "content that names blobs twice is garbage as a whole") {
  auto twice = Extents(100, 2);
  twice.push_back(Extents(100, 5, 20)[0]);
  CHECK(Run([&](auto& txn) { return ReleaseContent(txn, {8, 1}, twice, 0, 77); }) == Code::kOk);
  Must(store
           ->Run([&](kv::Transaction& txn) -> Status {
             PERIGEE_ASSIGN(auto value,
                            txn.Get(Keys(kv::KeySpace::kGarbage)[0], kv::ReadMode::kSnapshot));
             PERIGEE_ASSIGN(GarbageRow row, DecodeGarbageValue(*value));
             CHECK(row.count == 5);
             return Status::Ok();
           })
           .status());
}

TEST_CASE_FIXTURE(References,
                  "an expired lease makes the commit stale, also when it expires meanwhile") {
  CHECK(Run([&](auto& txn) {
          return AcquireContent(txn, {8, 1}, Extents(100, 3), 0, {4});
        }) == Code::kStale);
  CHECK(Run([](auto& txn) {
          txn.Put(IntentKey(4), IntentValue({.count = 3}));
          return Status::Ok();
        }) == Code::kOk);
  int runs = 0;
  CHECK(Run([&](kv::Transaction& txn) -> Status {
          PERIGEE_TRY(AcquireContent(txn, {8, 1}, Extents(100, 3), 0, {4}));
          if (++runs == 1)
            Must(store
                     ->Run([](auto& t) {
                       t.Delete(IntentKey(4));
                       return Status::Ok();
                     })
                     .status());
          return Status::Ok();
        }) == Code::kStale);
  CHECK(runs == 1);
  CHECK(Keys(kv::KeySpace::kReference).empty());
}

TEST_CASE_FIXTURE(References,
                  "a list is garbage until acquired, and again when its last user goes") {
  CHECK(Run([&](auto& txn) { return AddListExtents(txn, 9, Extents(100, 2), {}, 500); }) ==
        Code::kOk);
  CHECK(Run([&](auto& txn) { return AddListExtents(txn, 9, Extents(200, 2, 20), {}, 500); }) ==
        Code::kOk);
  CHECK(Head(9).references == 0);
  auto garbage = Keys(kv::KeySpace::kGarbage);
  REQUIRE(garbage.size() == 1);
  CHECK(Must(DecodeGarbageKey(garbage[0])).time == 500);
  CHECK(Run([](auto& txn) { return AcquireContent(txn, {8, 1}, {}, 9, {}); }) == Code::kOk);
  CHECK(Run([](auto& txn) { return AcquireContent(txn, {8, 2}, {}, 9, {}); }) == Code::kOk);
  CHECK(Head(9).references == 2);
  CHECK(Run([](auto& txn) { return ReleaseContent(txn, {8, 1}, {}, 9, 600); }) == Code::kOk);
  CHECK(Keys(kv::KeySpace::kGarbage).size() == 1);
  CHECK(Run([](auto& txn) { return ReleaseContent(txn, {8, 2}, {}, 9, 600); }) == Code::kOk);
  CHECK(Keys(kv::KeySpace::kGarbage).size() == 2);
  CHECK(Run([](auto& txn) { return ReleaseContent(txn, {8, 2}, {}, 9, 600); }) == Code::kCorrupt);
  CHECK(Run([](auto& txn) { return AcquireContent(txn, {8, 3}, {}, 10, {}); }) == Code::kStale);
  CHECK(Run([](auto& txn) {
          txn.Put(ListHeadKey(9), ListHeadValue({.dead = true}));
          return Status::Ok();
        }) == Code::kOk);
  CHECK(Run([](auto& txn) { return AcquireContent(txn, {8, 3}, {}, 9, {}); }) == Code::kStale);
  CHECK(Run([&](auto& txn) { return AddListExtents(txn, 9, Extents(300, 2, 40), {}, 500); }) ==
        Code::kStale);
}

TEST_CASE_FIXTURE(References,
                  "a list is read from any offset on, the extent that covers it first") {
  for (uint64_t i = 0; i < 5; ++i) {
    CHECK(Run([&](auto& txn) {
            return AddListExtents(txn, 9, Extents(100 * i, 2, 20 * i), {}, 500);
          }) == Code::kOk);
  }
  auto read = [&](uint64_t offset, size_t limit) {
    std::vector<uint64_t> offsets;
    Must(store
             ->Run([&](kv::Transaction& txn) -> Status {
               offsets.clear();
               PERIGEE_ASSIGN(auto extents, ReadListExtents(txn, 9, offset, limit));
               for (const auto& e : extents) offsets.push_back(e.offset);
               return Status::Ok();
             })
             .status());
    return offsets;
  };
  using Offsets = std::vector<uint64_t>;
  CHECK(read(0, 2) == Offsets{0, 20});
  CHECK(read(40, 10) == Offsets{40, 60, 80});
  CHECK(read(45, 2) == Offsets{40, 60});
  CHECK(read(99, 10) == Offsets{80});
  CHECK(read(100, 10) == Offsets{});
  CHECK(read(0, 0) == Offsets{});
}

TEST_CASE_FIXTURE(References,
                  "too many blobs for one commit, and extents without blobs, are refused") {
  CHECK(Run([&](auto& txn) {
          return AcquireContent(txn, {8, 1}, Extents(1, 513), 0, {});
        }) == Code::kTooLarge);
  CHECK(Run([&](auto& txn) {
          return AcquireContent(txn, {8, 1}, Extents(1, 512), 0, {});
        }) == Code::kOk);
  CHECK(Run([&](auto& txn) {
          return AcquireContent(txn, {8, 1}, Extents(1, 0), 0, {});
        }) == Code::kInvalidArgument);
  CHECK(Run([&](auto& txn) { return AddListExtents(txn, 1, Extents(~uint64_t{0}, 2), {}, 0); }) ==
        Code::kInvalidArgument);
}

TEST_CASE("extents are split into what one commit takes, between blobs, and nothing is lost") {
  std::vector<wire::Extent> extents;
  uint64_t at = 0, blobs = 0;
  for (uint32_t i = 0; i < 600; ++i) {
    const uint32_t count = i == 5 ? 1300 : i == 6 ? 512 : 1 + i % 3;
    extents.push_back({.offset = at,
                       .length = count * 10ull - 3,
                       .volume = i,
                       .first_seq = 50,
                       .count = count,
                       .blob_bytes = 10});
    at += extents.back().length;
    blobs += count;
  }
  uint64_t offset = 0, seen = 0;
  for (const auto& portion : SplitForCommits(extents)) {
    uint64_t here = 0;
    for (const auto& e : portion) {
      CHECK(e.offset == offset);
      CHECK((e.length - 1) / 10 + 1 == e.count);
      offset += e.length;
      here += e.count;
    }
    CHECK(here <= kBlobsPerCommitMax);
    CHECK(portion.size() <= 256);
    CHECK(here > 0);
    seen += here;
  }
  CHECK(offset == at);
  CHECK(seen == blobs);
  CHECK(SplitForCommits({}).empty());
}
