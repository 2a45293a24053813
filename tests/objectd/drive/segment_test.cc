#include "objectd/drive/segment.h"

#include "base/checksum.h"
#include "objectd/drive/shard_index.h"
#include "objectd/drive/superblock.h"
#include "tests/objectd/drive/drive_fixture.h"

namespace perigee::objectd {
namespace {

RecordHeader SampleRecord() {
  RecordHeader record;
  record.generation = 0x0000000300000abc;
  record.segment = 42;
  record.offset = 8192;
  record.record_seq = 77;
  record.payload_bytes = 5000;
  record.shard.blob = {9, 1234};
  record.shard.index = 2;
  record.shard.k = 4;
  record.shard.m = 2;
  record.shard.blob_bytes = 20'000;
  record.shard.chunk_bytes = 4096;
  record.shard.chunk_crcs = {1, 2};
  return record;
}

std::string Hex(ConstBytes b) { return HexEncode(AsView(b)); }

}  // namespace

TEST_CASE("segment pages have the bytes that the format page shows") {
  AlignedBuffer page(kPageBytes);
  EncodeSegmentHeader({0x1122334455667788, 42, 0x0000000300000abc}, page.span());
  CHECK(Hex(page.span().subspan(0, 8)) == "5053454701000000");
  CHECK(Hex(page.span().subspan(12, 28)) ==
        "00000000bc0a0000030000002a000000000000008877665544332211");

  EncodeSegmentFooter({0x1122334455667788, 42, 0x0000000300000abc}, 0x10000, page.span());
  CHECK(Hex(page.span().subspan(0, 8)) == "5053474501000000");
  CHECK(Hex(page.span().subspan(12, 28)) ==
        "00000000bc0a0000030000002a000000000000000000010000000000");

  REQUIRE(EncodeRecordHeader(SampleRecord(), page.span()).ok());
  CHECK(Hex(page.span().subspan(0, 8)) == "5053484401000000");
  CHECK(Hex(page.span().subspan(12, 44)) ==
        "18000000bc0a0000030000002a0000008813000000200000000000004d000000000000000000000000000000");
  CHECK(Hex(page.span().subspan(56, 24)) == "0a05080910d20910021804200228a09c013080203a020102");
}

TEST_CASE("a record header comes back as it was, and any flipped bit is noticed") {
  AlignedBuffer page(kPageBytes);
  REQUIRE(EncodeRecordHeader(SampleRecord(), page.span()).ok());
  auto decoded = DecodeRecordHeader(page.span());
  REQUIRE(decoded.ok());
  CHECK(decoded->shard.blob == wire::BlobId{9, 1234});
  CHECK(decoded->shard.chunk_crcs == std::vector<uint32_t>{1, 2});
  CHECK(decoded->record_bytes() == 3 * kPageBytes);
  for (size_t bit = 0; bit < kPageBytes * 8; bit += 37) {
    page.data()[bit / 8] ^= static_cast<uint8_t>(1 << bit % 8);
    CHECK_FALSE(DecodeRecordHeader(page.span()).ok());
    page.data()[bit / 8] ^= static_cast<uint8_t>(1 << bit % 8);
  }
}

TEST_CASE("a punched page is no record, rather than a corrupt one") {
  AlignedBuffer page(kPageBytes);
  std::fill_n(page.data(), kPageBytes, uint8_t{0});
  CHECK(DecodeRecordHeader(page.span()).code() == Code::kNotFound);
  page.data()[4000] = 1;
  CHECK(DecodeRecordHeader(page.span()).code() == Code::kCorrupt);
}

TEST_CASE("a shard with more chunks than a page can name is refused") {
  RecordHeader record = SampleRecord();
  record.shard.chunk_crcs.assign(2000, 0xffffffff);
  AlignedBuffer page(kPageBytes);
  CHECK(EncodeRecordHeader(record, page.span()).code() == Code::kInvalidArgument);
}

TEST_CASE(
    "payloads are checked by their chunks, or by a checksum of their own where chunks do not cover "
    "them") {
  TestShard shard = MakeShard(1, 1, 0, 40'000);
  RecordHeader record;
  record.shard = shard.header;
  record.payload_bytes = 40'000;
  CHECK(CheckPayload(record, shard.bytes.span()).ok());
  shard.bytes.data()[39'999] ^= 1;
  CHECK(CheckPayload(record, shard.bytes.span()).code() == Code::kCorrupt);
  CHECK(CheckPayload(record, shard.bytes.span().subspan(0, 39'000)).code() == Code::kCorrupt);
  record.shard.chunk_crcs.pop_back();
  CHECK_FALSE(ChunksCover(record.shard, 40'000));
  CHECK(CheckPayload(record, shard.bytes.span()).code() == Code::kCorrupt);
  record.has_payload_crc = true;
  record.payload_crc = Crc32c(shard.bytes.span());
  CHECK(CheckPayload(record, shard.bytes.span()).ok());
}

TEST_CASE("segment file names read back, and others are refused") {
  CHECK(SegmentFileName(42) == "0000002a.seg");
  auto number = ParseSegmentFileName("0000002a.seg");
  REQUIRE(number.ok());
  CHECK(*number == 42);
  for (const char* bad : {"", "2a.seg", "0000002g.seg", "0000002a.seg.tmp", "-000002a.seg"})
    CHECK_FALSE(ParseSegmentFileName(bad).ok());
}

TEST_CASE("a superblock has the bytes that the format page shows, and refuses what is not one") {
  Superblock s;
  s.cluster_id = 0x0102030405060708;
  s.drive_id = 0x11;
  s.slot = 3;
  s.k = 4;
  s.m = 2;
  s.drive_count = 6;
  s.mirror_epoch = 9;
  s.mirrors = {0x11, 0x12};
  s.drives = {0x11, 0x12, 0x13};
  std::string page = EncodeSuperblock(s);
  REQUIRE(page.size() == kPageBytes);
  CHECK(HexEncode(page.substr(0, 12)) == "504745455355505201000000");
  CHECK(HexEncode(page.substr(16, 48)) ==
        "08070605040302011100000000000000030000000400000002000000060000000900000000000000020000000"
        "3000000");
  CHECK(HexEncode(page.substr(64, 16)) == "11000000000000001200000000000000");
  auto back = DecodeSuperblock(page);
  REQUIRE(back.ok());
  CHECK(*back == s);
  CHECK(DecodeSuperblock(page.substr(1)).code() == Code::kCorrupt);
  for (size_t at = 0; at < kPageBytes; at += 61) {
    std::string flipped = page;
    flipped[at] = static_cast<char>(flipped[at] ^ 4);
    CHECK(DecodeSuperblock(flipped).code() == Code::kCorrupt);
  }
  std::string newer = page;
  PutLe<uint32_t>(reinterpret_cast<uint8_t*>(newer.data()) + 8, 2);
  PutLe<uint32_t>(reinterpret_cast<uint8_t*>(newer.data()) + 12, 0);
  PutLe<uint32_t>(reinterpret_cast<uint8_t*>(newer.data()) + 12, Crc32c(AsBytes(newer)));
  CHECK(DecodeSuperblock(newer).code() == Code::kUnimplemented);
}

TEST_CASE("index keys sort as shards do") {
  CHECK(EncodeShardKey({1, 2, 3}) < EncodeShardKey({1, 2, 4}));
  CHECK(EncodeShardKey({1, 255, 0}) < EncodeShardKey({1, 256, 0}));
  CHECK(EncodeShardKey({1, ~uint64_t{0}, 9}) < EncodeShardKey({2, 0, 0}));
  CHECK(HexEncode(EncodeShardPlace({1, 2, 3, 4, 5})) ==
        "0100000005000000020000000000000003000000000000000400000000000000");
}

}  // namespace perigee::objectd
