#include "rdma/tls/frame.h"

#include <utility>

#include "base/checksum.h"
#include "rdma/slab_pool.h"

namespace perigee::rdma::tls {

// Frame header, little-endian, 40 bytes:
//    0  u32  magic "PGTF"          16  u64  id
//    4  u8   version = 2           24  u32  timeout in us
//    5  u8   kind                  28  u32  offset in kData, traffic class in a request or response
//    6  u16  method or code        32  u32  0
//    8  u32  header_len            36  u32  crc32c of bytes 0-35
//   12  u32  bulk_len
// then header_len bytes of message; then bulk_len bytes of bulk in a request or response of at most
// 16 KiB, or of a piece in kData.

namespace {
constexpr uint32_t kMagic = 0x46544750;  // "PGTF"
constexpr uint8_t kVersion = 2;

Status Bad(std::string what) { return Status(Code::kCorrupt, "tls frame: " + std::move(what)); }
}  // namespace

void EncodeFrame(const FrameHeader& f, uint8_t out[kFrameBytes]) {
  PutLe<uint32_t>(out, kMagic);
  out[4] = kVersion;
  out[5] = static_cast<uint8_t>(f.kind);
  PutLe<uint16_t>(out + 6, f.method);
  PutLe<uint32_t>(out + 8, f.header_len);
  PutLe<uint32_t>(out + 12, f.bulk_len);
  PutLe<uint64_t>(out + 16, f.id);
  PutLe<uint32_t>(out + 24, f.timeout_us);
  PutLe<uint32_t>(out + 28, f.Carries() ? static_cast<uint32_t>(f.traffic) : f.offset);
  PutLe<uint32_t>(out + 32, 0);
  PutLe<uint32_t>(out + 36, Crc32c(ConstBytes(out, 36)));
}

std::string FrameText(FrameHeader frame, std::string_view message, ConstBytes inline_bulk) {
  frame.header_len = static_cast<uint32_t>(message.size());
  uint8_t head[kFrameBytes];
  EncodeFrame(frame, head);
  std::string text;
  text.reserve(sizeof head + message.size() + inline_bulk.size());
  text.append(AsView(ConstBytes(head, sizeof head)));
  text.append(message);
  text.append(AsView(inline_bulk));
  return text;
}

Result<FrameHeader> DecodeFrame(const uint8_t in[kFrameBytes], const FrameLimits& limits) {
  if (GetLe<uint32_t>(in) != kMagic) return Bad("wrong magic");
  if (in[4] != kVersion) return Bad("version " + std::to_string(in[4]) + " is not known");
  if (GetLe<uint32_t>(in + 36) != Crc32c(ConstBytes(in, 36))) return Bad("checksum mismatch");
  if (in[5] < static_cast<uint8_t>(FrameKind::kHelloStart) ||
      in[5] > static_cast<uint8_t>(FrameKind::kBeat)) {
    return Bad("kind " + std::to_string(in[5]) + " is not known");
  }
  FrameHeader f;
  f.kind = static_cast<FrameKind>(in[5]);
  f.method = GetLe<uint16_t>(in + 6);
  f.header_len = GetLe<uint32_t>(in + 8);
  f.bulk_len = GetLe<uint32_t>(in + 12);
  f.id = GetLe<uint64_t>(in + 16);
  f.timeout_us = GetLe<uint32_t>(in + 24);
  if (f.Carries()) {
    auto traffic = TrafficClassOf(GetLe<uint32_t>(in + 28));
    if (!traffic) return Bad("an unknown traffic class");
    f.traffic = *traffic;
  } else {
    f.offset = GetLe<uint32_t>(in + 28);
  }
  if (GetLe<uint32_t>(in + 32) != 0) return Bad("what is reserved is not zero");
  if (f.header_len > limits.header_max) {
    return Bad("a message of " + std::to_string(f.header_len) + " bytes");
  }
  size_t bulk_max = f.Carries() ? limits.bulk_max : f.kind == FrameKind::kData ? kPieceMax : 0;
  if (f.bulk_len > bulk_max) {
    return Bad("a payload of " + std::to_string(f.bulk_len) + " bytes");
  }
  if (f.kind == FrameKind::kData && (f.bulk_len == 0 || f.header_len != 0)) {
    return Bad("a piece without bytes, or with a message");
  }
  return f;
}

}  // namespace perigee::rdma::tls
