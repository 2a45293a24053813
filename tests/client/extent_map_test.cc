#include "client/blob/extent_map.h"

#include <doctest/doctest.h>

#include "blob_fixture.h"
#include "client/blob/geometry.h"

using namespace perigee;
using namespace perigee::client;

namespace {

constexpr uint64_t kFull = 16 << 20;

PlacedBlob Blob(uint64_t offset, uint64_t length, uint32_t volume, uint64_t seq, uint64_t intent) {
  return {offset, length, volume, seq, kFull, intent};
}

wire::Extent ExtentOf(uint64_t offset, uint64_t length, uint64_t first_seq, uint32_t count) {
  wire::Extent e;
  e.offset = offset;
  e.length = length;
  e.volume = 1;
  e.first_seq = first_seq;
  e.count = count;
  e.blob_bytes = kFull;
  return e;
}

}  // namespace

TEST_CASE("consecutive full blobs of one volume become one extent, in any order of completion") {
  auto merged = MergeBlobs(
      {Blob(2 * kFull, 5, 1, 12, 9), Blob(0, kFull, 1, 10, 8), Blob(kFull, kFull, 1, 11, 8)});
  REQUIRE(merged.size() == 1);
  CHECK(merged[0].extent == ExtentOf(0, 2 * kFull + 5, 10, 3));
  CHECK(merged[0].intents == std::vector<uint64_t>{8, 9});
}

TEST_CASE("a gap in sequences, another volume or a short blob starts a new extent") {
  auto merged = MergeBlobs({Blob(0, kFull, 1, 10, 1), Blob(kFull, kFull, 1, 12, 1),
                            Blob(2 * kFull, kFull, 2, 13, 2), Blob(3 * kFull, 100, 2, 14, 2),
                            Blob(3 * kFull + 100, kFull, 2, 15, 2)});
  CHECK(merged.size() == 4);
  CHECK(merged[2].extent.count == 2);
  CHECK(merged[2].extent.length == kFull + 100);
}

TEST_CASE("a range is cut into parts of the blobs it touches") {
  std::vector<wire::Extent> extents{ExtentOf(0, kFull + 10, 4, 2),
                                    ExtentOf(kFull + 10, kFull, 90, 1)};
  auto parts = PartsOfRange(extents, kFull - 3, 20);
  REQUIRE(parts.ok());
  REQUIRE(parts->size() == 3);
  CHECK((*parts)[0].blob.seq == 4);
  CHECK((*parts)[0].offset == kFull - 3);
  CHECK((*parts)[0].length == 3);
  CHECK((*parts)[1].blob.seq == 5);
  CHECK((*parts)[1].blob_bytes == 10);
  CHECK((*parts)[1].length == 10);
  CHECK((*parts)[1].at == 3);
  CHECK((*parts)[2].blob.seq == 90);
  CHECK((*parts)[2].length == 7);
  CHECK((*parts)[2].at == 13);
}

TEST_CASE("extents that make no sense or leave a hole are corrupt") {
  std::vector<wire::Extent> hole{ExtentOf(0, 10, 4, 1), ExtentOf(11, 10, 5, 1)};
  CHECK(PartsOfRange(hole, 0, 10).ok());
  CHECK(PartsOfRange(hole, 0, 12).code() == Code::kCorrupt);
  CHECK(PartsOfRange(hole, 15, 10).code() == Code::kCorrupt);
  CHECK(PartsOfRange({}, 0, 1).code() == Code::kCorrupt);
  for (auto [length, count, blob_bytes] : {std::tuple<uint64_t, uint32_t, uint64_t>{10, 2, kFull},
                                           {kFull + 1, 1, kFull},
                                           {10, 1, 0},
                                           {10, 0, kFull},
                                           {10, 1, kBlobBytesMax + 1},
                                           {0, 1, kFull},
                                           {100'000, 100'000, 1},
                                           {2 * kFullBlobBytesMin - 2, 2, kFullBlobBytesMin - 1},
                                           {~0ull, 1, kFull}}) {
    wire::Extent e = ExtentOf(0, length, 1, count);
    e.blob_bytes = blob_bytes;
    CHECK(PartsOfRange({e}, 0, 1).code() == Code::kCorrupt);
  }
}

TEST_CASE("an extent of tiny blobs is refused by its offset, one blob may be of any size") {
  wire::Extent e = ExtentOf(0, 10, 1, 10);
  e.blob_bytes = 1;
  auto parts = PartsOfRange({e}, 0, 10);
  CHECK(parts.status().message().find("extent at 0: full blobs of 1 bytes") != std::string::npos);
  e.length = e.count = 1;
  CHECK(PartsOfRange({e}, 0, 1).ok());
}

TEST_CASE("a long list is paged from where the range begins") {
  BlobFixture f;
  std::vector<wire::Extent>& list = f.cluster->lists[5];
  for (uint64_t i = 0; i < 40; ++i) list.push_back(ExtentOf(i * 100, 100, i + 1, 1));
  wire::Layout layout;
  layout.kind = wire::LayoutKind::kBlobs;
  layout.list_id = 5;
  for (bool begins_only : {false, true}) {
    f.cluster->ForgetLists(begins_only);
    for (auto [offset, length] :
         {std::pair<uint64_t, uint64_t>{0, 4000}, {150, 2000}, {3999, 1}, {0, 1}, {700, 700}}) {
      auto extents = ExtentsOfRange(*f.cluster, layout, offset, length);
      REQUIRE(extents.ok());
      CHECK(extents->front().offset == offset / 100 * 100);
      CHECK(extents->size() == (offset + length - 1) / 100 - offset / 100 + 1);
      CHECK(PartsOfRange(*extents, offset, length).ok());
    }
  }
  layout.list_id = 6;
  auto none = ExtentsOfRange(*f.cluster, layout, 10, 10);
  REQUIRE(none.ok());
  CHECK(none->empty());
}
