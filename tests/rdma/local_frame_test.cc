#include <doctest/doctest.h>

#include <cstring>

#include "base/checksum.h"
#include "rdma/local/frame.h"
#include "rdma/transport.h"

using namespace perigee;
using namespace perigee::rdma;
using namespace perigee::rdma::local;

static FrameHeader Sample() {
  FrameHeader frame;
  frame.kind = FrameKind::kRequest;
  frame.bulk = BulkKind::kSlab;
  frame.fds = 0;
  frame.method = 0x1234;
  frame.header_len = 100;
  frame.bulk_len = 0x10000;
  frame.id = 0x1122334455667788;
  frame.timeout_us = 30'000'000;
  frame.traffic = TrafficClass::kFlush;
  frame.ref = {3, 0xa0000, 17, 0x99aabbccddeeff00};
  return frame;
}
static const FrameLimits kLimits{kHeaderBytesMax, kInlineBulkMax};

TEST_CASE("local frame: golden bytes") {
  uint8_t bytes[kFrameBytes];
  EncodeFrame(Sample(), bytes);
  CHECK(HexEncode(AsView(bytes)) ==
        "50474c46010502003412040064000000"
        "88776655443322110000010003000000"
        "00000a00000000001100000080c3c901"
        "00ffeeddccbbaa9900000000a09182fb");
  auto decoded = DecodeFrame(bytes, kLimits);
  REQUIRE(decoded.ok());
  CHECK(decoded->id == Sample().id);
  CHECK(decoded->method == 0x1234);
  CHECK(decoded->traffic == TrafficClass::kFlush);
  CHECK(decoded->ref.slab == 3);
  CHECK(decoded->ref.offset == 0xa0000);
  CHECK(decoded->ref.lease_slot == 17);
  CHECK(decoded->ref.lease_value == Sample().ref.lease_value);
  CHECK(decoded->timeout_us == 30'000'000);
  CHECK(decoded->TotalBytes() == kFrameBytes + 100);
}

TEST_CASE("local frame: every flipped bit is noticed") {
  uint8_t bytes[kFrameBytes];
  EncodeFrame(Sample(), bytes);
  for (size_t bit = 0; bit < kFrameBytes * 8; ++bit) {
    bytes[bit / 8] ^= static_cast<uint8_t>(1 << (bit % 8));
    CHECK(DecodeFrame(bytes, kLimits).code() == Code::kCorrupt);
    bytes[bit / 8] ^= static_cast<uint8_t>(1 << (bit % 8));
  }
  CHECK(DecodeFrame(bytes, kLimits).ok());
}

TEST_CASE("local frame: what is beyond the limits is refused") {
  uint8_t bytes[kFrameBytes];
  auto code = [&](auto change, FrameLimits limits = kLimits) {
    FrameHeader frame = Sample();
    change(frame);
    EncodeFrame(frame, bytes);
    return DecodeFrame(bytes, limits).code();
  };
  CHECK(code([](FrameHeader&) {}) == Code::kOk);
  CHECK(code([](FrameHeader& f) { f.header_len = kHeaderBytesMax; }) == Code::kOk);
  CHECK(code([](FrameHeader& f) { f.header_len = kHeaderBytesMax + 1; }) == Code::kCorrupt);
  CHECK(code([](FrameHeader& f) { f.header_len = UINT32_MAX; }) == Code::kCorrupt);
  CHECK(code([](FrameHeader& f) { f.bulk_len = kPieceBytesMax + 1; }) == Code::kCorrupt);
  CHECK(code([](FrameHeader& f) { f.bulk_len = 0; }) == Code::kCorrupt);
  CHECK(code([](FrameHeader& f) { f.bulk = BulkKind::kNone; }) == Code::kCorrupt);
  CHECK(code([](FrameHeader& f) { f.bulk = BulkKind::kInline; }) == Code::kCorrupt);
  CHECK(code([](FrameHeader& f) { f.bulk = static_cast<BulkKind>(3); }) == Code::kCorrupt);
  CHECK(code([](FrameHeader& f) { f.kind = static_cast<FrameKind>(0); }) == Code::kCorrupt);
  CHECK(code([](FrameHeader& f) { f.kind = static_cast<FrameKind>(10); }) == Code::kCorrupt);
  CHECK(code([](FrameHeader& f) { f.traffic = static_cast<TrafficClass>(6); }) == Code::kCorrupt);
  CHECK(code([](FrameHeader& f) { f.fds = kFdsMax + 1; }) == Code::kCorrupt);
  CHECK(code([](FrameHeader&) {}, FrameLimits{99, 0}) == Code::kCorrupt);
}
