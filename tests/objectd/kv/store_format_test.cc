#include "objectd/kv/store_format.h"

#include <doctest/doctest.h>

#include "base/bytes.h"

namespace perigee::objectd::kv {
namespace {

TEST_CASE("the store's records have these bytes") {
  FormatRecord format{1, "0123456789abcdef"};
  CHECK(HexEncode(EncodeFormat(format)) == "504b56530100000030313233343536373839616263646566" +
                                               HexEncode(EncodeFormat(format).substr(24)));
  CHECK(HexEncode(EncodeFormat(format).substr(24)) == "2b74a6d5");
  CHECK(HexEncode(EncodeHead({0x0102, 0x0101, 3})) ==
        "0201000000000000"
        "0101000000000000"
        "0300000000000000");
  CHECK(HexEncode(FormatKey()) == "410066");
  CHECK(HexEncode(HeadKey()) == "410068");
  CHECK(HexEncode(LowWaterKey()) == "41006c");
  CHECK(HexEncode(MarkKey(0x0102)) == "41006d0000000000000102");
  CHECK(HexEncode(GapKey(0x0102)) == "4100670000000000000102");
  CHECK(HexEncode(EventKey(0x0102, 3)) == "46000000000000010200000003");
  CHECK(HexEncode(EncodeU64(0x0102)) == "0201000000000000");
}

TEST_CASE("a commit's batch has these bytes") {
  CommitContent content;
  content.head = {2, 1, 1};
  content.writes = {{"Ea", "v"}, {"Eb", std::nullopt}, {"Xi", "w"}};
  content.events = {"e"};
  CHECK(HexEncode(EncodeBatch(content)) ==
        "000000000000000005000000010341006818020000000000000001000000000000000100000000000000010245"
        "6101760002456205010258690177010d460000000000000002000000000165");
}

TEST_CASE("records survive the way there and back") {
  Result<FormatRecord> format = DecodeFormat(EncodeFormat({1, "0123456789abcdef"}));
  REQUIRE(format.ok());
  CHECK(format->store_id == "0123456789abcdef");
  Result<Head> head = DecodeHead(EncodeHead({7, 5, 3}));
  REQUIRE(head.ok());
  CHECK(head->position == 7);
  CHECK(head->previous == 5);
  CHECK(head->events_total == 3);
  Result<Position> position = PositionOfKey(EventKey(99, 1));
  REQUIRE(position.ok());
  CHECK(*position == 99);
  REQUIRE(PositionOfKey(MarkKey(98)).ok());
}

TEST_CASE("any flipped bit of the format record is noticed, a newer version is named") {
  std::string good = EncodeFormat({1, "0123456789abcdef"});
  for (size_t bit = 0; bit < good.size() * 8; ++bit) {
    std::string bad = good;
    bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << bit % 8));
    CHECK_FALSE(DecodeFormat(bad).ok());
  }
  Result<FormatRecord> newer = DecodeFormat(EncodeFormat({2, "0123456789abcdef"}));
  CHECK(newer.status().Is(Code::kUnimplemented));
  CHECK(newer.status().message().find("format 2") != std::string::npos);
  for (size_t n = 0; n < good.size(); ++n) CHECK_FALSE(DecodeFormat(good.substr(0, n)).ok());
  CHECK(DecodeHead("short").status().Is(Code::kCorrupt));
  CHECK(DecodeU64("short").status().Is(Code::kCorrupt));
  CHECK(PositionOfKey("F").status().Is(Code::kCorrupt));
}

TEST_CASE("the head of a batch is found, whatever else is in it") {
  CommitContent content;
  content.head = {10, 9, 4};
  content.feed.low_water = 3;
  content.feed.added = FeedIndex::Mark{10, 4};
  content.feed.marks_gone = {1, 2, 3};
  content.gap = FeedIndex::Gap{9, 10};
  content.writes = {{"Xa", "1"}, {"b", std::nullopt}};
  Result<Head> head = HeadOfBatch(EncodeBatch(content));
  REQUIRE(head.ok());
  CHECK(head->position == 10);
  CHECK(head->previous == 9);
  CHECK_FALSE(HeadOfBatch("not a batch").ok());
}

}  // namespace
}  // namespace perigee::objectd::kv
