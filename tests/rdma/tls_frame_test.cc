#include <doctest/doctest.h>

#include "base/checksum.h"
#include "rdma/tls/frame.h"
#include "rdma/transport.h"

using namespace perigee;
using namespace perigee::rdma;
using namespace perigee::rdma::tls;

static FrameHeader Sample() {
  FrameHeader frame;
  frame.kind = FrameKind::kRequest;
  frame.method = 0x1234;
  frame.header_len = 100;
  frame.bulk_len = 0x10000;
  frame.id = 0x1122334455667788;
  frame.timeout_us = 30'000'000;
  frame.traffic = TrafficClass::kFlush;
  return frame;
}
static const FrameLimits kLimits{kHeaderBytesMax, kPieceBytesMax};

TEST_CASE("tls frame: golden bytes") {
  uint8_t bytes[kFrameBytes];
  EncodeFrame(Sample(), bytes);
  CHECK(HexEncode(AsView(bytes)) ==
        "50475446020534126400000000000100"
        "887766554433221180c3c90104000000"
        "00000000de3f5122");
  auto decoded = DecodeFrame(bytes, kLimits);
  REQUIRE(decoded.ok());
  CHECK(decoded->id == Sample().id);
  CHECK(decoded->method == 0x1234);
  CHECK(decoded->timeout_us == 30'000'000);
  CHECK(decoded->traffic == TrafficClass::kFlush);
  CHECK(decoded->Announces());
  CHECK(decoded->BodyBytes() == 100);
}

TEST_CASE("tls frame: every flipped bit is noticed") {
  uint8_t bytes[kFrameBytes];
  EncodeFrame(Sample(), bytes);
  for (size_t bit = 0; bit < kFrameBytes * 8; ++bit) {
    bytes[bit / 8] ^= static_cast<uint8_t>(1 << (bit % 8));
    CHECK(DecodeFrame(bytes, kLimits).code() == Code::kCorrupt);
    bytes[bit / 8] ^= static_cast<uint8_t>(1 << (bit % 8));
  }
  CHECK(DecodeFrame(bytes, kLimits).ok());
}

TEST_CASE("tls frame: what is reserved is zero") {
  uint8_t bytes[kFrameBytes];
  EncodeFrame(Sample(), bytes);
  bytes[32] = 1;
  PutLe<uint32_t>(bytes + 36, Crc32c(ConstBytes(bytes, 36)));
  CHECK(DecodeFrame(bytes, kLimits).code() == Code::kCorrupt);
}

TEST_CASE("tls frame: what is beyond the limits is refused") {
  auto code = [](FrameHeader frame, FrameLimits limits) {
    uint8_t bytes[kFrameBytes];
    EncodeFrame(frame, bytes);
    return DecodeFrame(bytes, limits).code();
  };
  FrameHeader frame = Sample();
  CHECK(code(frame, {99, kPieceBytesMax}) == Code::kCorrupt);
  CHECK(code(frame, {100, 0xffff}) == Code::kCorrupt);
  frame.bulk_len = 0;
  CHECK(code(frame, {100, 0}) == Code::kOk);
  frame.traffic = static_cast<TrafficClass>(6);
  CHECK(code(frame, {100, 0}) == Code::kCorrupt);
  frame.traffic = TrafficClass::kForeground;
  frame.kind = FrameKind::kGrant;
  frame.bulk_len = 1;
  CHECK(code(frame, kLimits) == Code::kCorrupt);
  frame.kind = FrameKind::kData;
  CHECK(code(frame, kLimits) == Code::kCorrupt);  // with a message
  frame.header_len = 0;
  CHECK(code(frame, kLimits) == Code::kOk);
  frame.bulk_len = kPieceMax + 1;
  CHECK(code(frame, kLimits) == Code::kCorrupt);
  frame.bulk_len = 0;
  CHECK(code(frame, kLimits) == Code::kCorrupt);
}
