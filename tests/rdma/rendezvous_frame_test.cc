#include <doctest/doctest.h>

#include <string>

#include "rdma/rendezvous/frame.h"
#include "rdma/transport.h"

using namespace perigee;
using namespace perigee::rdma;
using namespace perigee::rdma::rendezvous;

static FrameHeader Sample() {
  FrameHeader frame;
  frame.kind = FrameKind::kRequest;
  frame.data = DataKind::kBodyInHead;
  frame.method = 0x1234;
  frame.id = 0x1122334455667788;
  frame.timeout_us = 30'000'000;
  frame.body_len = 4;
  frame.bulk_len = 0x10000;
  frame.data_crc = 0xcafebabe;
  frame.traffic = TrafficClass::kFlush;
  return frame;
}
static const FrameLimits kLimits{kHeaderBytesMax, kPieceBytesMax};
static Result<FrameHeader> Decode(const std::string& head, size_t data_bytes,
                                  FrameLimits limits = kLimits) {
  std::string_view body;
  return DecodeFrame(AsBytes(head), data_bytes, limits, &body);
}

TEST_CASE("rendezvous frame: golden bytes") {
  std::string head = EncodeFrame(Sample(), "body");
  CHECK(HexEncode(head) ==
        "5047555801053412887766554433221180c3c9010400000000000100bebafeca010400007146b38d626f6479");
  std::string_view body;
  auto decoded = DecodeFrame(AsBytes(head), 0x10000, kLimits, &body);
  REQUIRE(decoded.ok());
  CHECK(body == "body");
  CHECK(decoded->kind == FrameKind::kRequest);
  CHECK(decoded->data == DataKind::kBodyInHead);
  CHECK(decoded->id == Sample().id);
  CHECK(decoded->method == 0x1234);
  CHECK(decoded->timeout_us == 30'000'000);
  CHECK(decoded->bulk_len == 0x10000);
  CHECK(decoded->traffic == TrafficClass::kFlush);
  CHECK(decoded->data_crc == 0xcafebabe);
}

TEST_CASE("rendezvous frame: every flipped bit is noticed") {
  std::string head = EncodeFrame(Sample(), "body");
  for (size_t bit = 0; bit < head.size() * 8; ++bit) {
    head[bit / 8] = static_cast<char>(head[bit / 8] ^ (1 << (bit % 8)));
    CHECK(Decode(head, 0x10000).code() == Code::kCorrupt);
    head[bit / 8] = static_cast<char>(head[bit / 8] ^ (1 << (bit % 8)));
  }
  CHECK(Decode(head, 0x10000).ok());
}

TEST_CASE(
    "rendezvous frame: what is beyond the limits, or of another length than announced, is "
    "refused") {
  auto code = [&](auto change, size_t data_bytes = 0x10000, FrameLimits limits = kLimits) {
    FrameHeader frame = Sample();
    change(frame);
    return Decode(EncodeFrame(frame, "body"), data_bytes, limits).code();
  };
  CHECK(code([](FrameHeader&) {}) == Code::kOk);
  CHECK(code([](FrameHeader&) {}, 0x10001) == Code::kCorrupt);
  CHECK(code([](FrameHeader&) {}, 0) == Code::kCorrupt);
  CHECK(code([](FrameHeader&) {}, 0x10000, {3, kPieceBytesMax}) == Code::kCorrupt);
  CHECK(code([](FrameHeader&) {}, 0x10000, {4, 0xffff}) == Code::kCorrupt);
  CHECK(code([](FrameHeader& f) { f.body_len = 5; }) == Code::kCorrupt);
  CHECK(code([](FrameHeader& f) { f.bulk_len = 0; }, 0) == Code::kCorrupt);
  CHECK(code([](FrameHeader& f) { f.data = DataKind::kBodyApart; }) == Code::kOk);
  CHECK(code([](FrameHeader& f) { f.data = static_cast<DataKind>(3); }) == Code::kCorrupt);
  CHECK(code([](FrameHeader& f) { f.traffic = static_cast<TrafficClass>(6); }) == Code::kCorrupt);
  CHECK(code([](FrameHeader& f) { f.kind = static_cast<FrameKind>(0); }) == Code::kCorrupt);
  CHECK(code([](FrameHeader& f) { f.kind = static_cast<FrameKind>(10); }) == Code::kCorrupt);
  auto packed = [](uint32_t body, uint32_t bulk) {
    return [body, bulk](FrameHeader& f) {
      f.data = DataKind::kPacked;
      f.body_len = body;
      f.bulk_len = bulk;
    };
  };
  CHECK(code(packed(100, 0), 100) == Code::kOk);
  CHECK(code(packed(100, 200), 300) == Code::kOk);
  CHECK(code(packed(kHeaderBytesMax, 0), kHeaderBytesMax) == Code::kOk);
  CHECK(code(packed(kEagerBytesMax, 1), kEagerBytesMax + 1) == Code::kCorrupt);
  CHECK(Decode("", 0).code() == Code::kCorrupt);
}
