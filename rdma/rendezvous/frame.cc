#include "rdma/rendezvous/frame.h"

#include <utility>

#include "base/checksum.h"

namespace perigee::rdma::rendezvous {

// Frame header, little-endian, 40 bytes:
//    0  u32  magic "PGUX"          20  u32  body_len
//    4  u8   version = 1           24  u32  bulk_len
//    5  u8   kind                  28  u32  crc32c of the data
//    6  u16  method or code        32  u8   data kind
//    8  u64  id                    33  u8   traffic class of a request or response, else zero
//                                  34  u16  zero
//   16  u32  timeout in us         36  u32  crc32c of bytes 0-35 and of what is behind the header
// then, when the data kind says so, body_len bytes of body.

namespace {
constexpr uint32_t kMagic = 0x58554750;  // "PGUX"
constexpr uint8_t kVersion = 1;

Status Bad(std::string what) {
  return Status(Code::kCorrupt, "rendezvous frame: " + std::move(what));
}
}  // namespace

std::string EncodeFrame(const FrameHeader& f, std::string_view body) {
  uint8_t out[kFrameBytes] = {};
  PutLe<uint32_t>(out, kMagic);
  out[4] = kVersion;
  out[5] = static_cast<uint8_t>(f.kind);
  PutLe<uint16_t>(out + 6, f.method);
  PutLe<uint64_t>(out + 8, f.id);
  PutLe<uint32_t>(out + 16, f.timeout_us);
  PutLe<uint32_t>(out + 20, f.body_len);
  PutLe<uint32_t>(out + 24, f.bulk_len);
  PutLe<uint32_t>(out + 28, f.data_crc);
  out[32] = static_cast<uint8_t>(f.data);
  if (f.Carries()) out[33] = static_cast<uint8_t>(f.traffic);
  uint32_t crc = Crc32c(ConstBytes(out, 36));
  if (f.data != DataKind::kBodyInHead) body = {};
  PutLe<uint32_t>(out + 36, Crc32cExtend(crc, AsBytes(body)));
  std::string head;
  head.reserve(kFrameBytes + body.size());
  head.append(AsView(ConstBytes(out, sizeof out)));
  head.append(body);
  return head;
}

Result<FrameHeader> DecodeFrame(ConstBytes head, size_t data_bytes, const FrameLimits& limits,
                                std::string_view* body) {
  if (head.size() < kFrameBytes) return Bad("shorter than its header");
  const uint8_t* in = head.data();
  if (GetLe<uint32_t>(in) != kMagic) return Bad("wrong magic");
  if (in[4] != kVersion) return Bad("version " + std::to_string(in[4]) + " is not known");
  *body = AsView(head.subspan(kFrameBytes));
  if (GetLe<uint32_t>(in + 36) != Crc32cExtend(Crc32c(head.first(36)), AsBytes(*body))) {
    return Bad("checksum mismatch");
  }
  if (in[5] < static_cast<uint8_t>(FrameKind::kHelloStart) ||
      in[5] > static_cast<uint8_t>(FrameKind::kGoAway)) {
    return Bad("kind " + std::to_string(in[5]) + " is not known");
  }
  if (in[32] > static_cast<uint8_t>(DataKind::kBodyApart)) return Bad("unknown kind of data");
  FrameHeader f;
  f.kind = static_cast<FrameKind>(in[5]);
  f.method = GetLe<uint16_t>(in + 6);
  f.id = GetLe<uint64_t>(in + 8);
  f.timeout_us = GetLe<uint32_t>(in + 16);
  f.body_len = GetLe<uint32_t>(in + 20);
  f.bulk_len = GetLe<uint32_t>(in + 24);
  f.data_crc = GetLe<uint32_t>(in + 28);
  f.data = static_cast<DataKind>(in[32]);
  auto traffic = TrafficClassOf(in[33]);
  if (!traffic) return Bad("an unknown traffic class");
  f.traffic = *traffic;
  if (f.body_len > limits.body_max) {
    return Bad("a message of " + std::to_string(f.body_len) + " bytes");
  }
  if (f.bulk_len > limits.bulk_max) {
    return Bad("a bulk payload of " + std::to_string(f.bulk_len) + " bytes");
  }
  if (f.data == DataKind::kPacked) {
    if (f.bulk_len > 0 && f.DataBytes() > kEagerBytesMax) return Bad("bulk behind a large body");
  } else if (f.bulk_len == 0) {
    return Bad("a body apart from no bulk");
  }
  if (body->size() != (f.data == DataKind::kBodyInHead ? f.body_len : 0)) {
    return Bad("body length and header length disagree");
  }
  if (f.DataBytes() != data_bytes) {
    return Bad(std::to_string(data_bytes) + " bytes of data where " +
               std::to_string(f.DataBytes()) + " are announced");
  }
  return f;
}

}  // namespace perigee::rdma::rendezvous
