#include "rdma/local/frame.h"

#include <string>

#include "base/checksum.h"
#include "rdma/slab_pool.h"
#include "rdma/transport.h"

namespace perigee::rdma::local {

// Frame header, little-endian, 64 bytes:
//    0  u32  magic "PGLF"          24  u32  bulk_len
//    4  u8   version = 1           28  u32  slab
//    5  u8   kind                  32  u64  offset
//    6  u8   bulk kind             40  u32  lease slot
//    7  u8   descriptors           44  u32  timeout in us
//    8  u16  method or code        48  u64  lease value
//   10  u8   traffic class, request 56  u32  zero
//   11  u8   zero                  60  u32  crc32c of bytes 0-59
//   12  u32  header_len
//   16  u64  id
// then header_len bytes of message, then bulk_len bytes of bulk when its kind is inline.

namespace {
constexpr uint32_t kMagic = 0x464c4750;  // "PGLF"
constexpr uint8_t kVersion = 1;

Status Bad(std::string what) { return Status(Code::kCorrupt, "local frame: " + std::move(what)); }
}  // namespace

void EncodeFrame(const FrameHeader& f, uint8_t out[kFrameBytes]) {
  PutLe<uint32_t>(out, kMagic);
  out[4] = kVersion;
  out[5] = static_cast<uint8_t>(f.kind);
  out[6] = static_cast<uint8_t>(f.bulk);
  out[7] = f.fds;
  PutLe<uint16_t>(out + 8, f.method);
  out[10] = f.kind == FrameKind::kRequest ? static_cast<uint8_t>(f.traffic) : 0;
  out[11] = 0;
  PutLe<uint32_t>(out + 12, f.header_len);
  PutLe<uint64_t>(out + 16, f.id);
  PutLe<uint32_t>(out + 24, f.bulk_len);
  PutLe<uint32_t>(out + 28, f.ref.slab);
  PutLe<uint64_t>(out + 32, f.ref.offset);
  PutLe<uint32_t>(out + 40, f.ref.lease_slot);
  PutLe<uint32_t>(out + 44, f.timeout_us);
  PutLe<uint64_t>(out + 48, f.ref.lease_value);
  PutLe<uint32_t>(out + 56, 0);
  PutLe<uint32_t>(out + 60, Crc32c(ConstBytes(out, 60)));
}

Result<FrameHeader> DecodeFrame(const uint8_t in[kFrameBytes], const FrameLimits& limits) {
  if (GetLe<uint32_t>(in) != kMagic) return Bad("wrong magic");
  if (in[4] != kVersion) return Bad("version " + std::to_string(in[4]) + " is not known");
  if (GetLe<uint32_t>(in + 60) != Crc32c(ConstBytes(in, 60))) return Bad("checksum mismatch");
  if (in[5] < static_cast<uint8_t>(FrameKind::kHelloStart) ||
      in[5] > static_cast<uint8_t>(FrameKind::kPulled)) {
    return Bad("kind " + std::to_string(in[5]) + " is not known");
  }
  if (in[6] > static_cast<uint8_t>(BulkKind::kSlab)) return Bad("unknown kind of bulk");
  FrameHeader f;
  f.kind = static_cast<FrameKind>(in[5]);
  f.bulk = static_cast<BulkKind>(in[6]);
  f.fds = in[7];
  f.method = GetLe<uint16_t>(in + 8);
  auto traffic = TrafficClassOf(in[10]);
  if (!traffic) return Bad("an unknown traffic class");
  f.traffic = *traffic;
  f.header_len = GetLe<uint32_t>(in + 12);
  f.id = GetLe<uint64_t>(in + 16);
  f.bulk_len = GetLe<uint32_t>(in + 24);
  f.ref.slab = GetLe<uint32_t>(in + 28);
  f.ref.offset = GetLe<uint64_t>(in + 32);
  f.ref.lease_slot = GetLe<uint32_t>(in + 40);
  f.timeout_us = GetLe<uint32_t>(in + 44);
  f.ref.lease_value = GetLe<uint64_t>(in + 48);
  if (f.fds > kFdsMax) return Bad("too many descriptors");
  if (f.header_len > limits.header_max) {
    return Bad("a message of " + std::to_string(f.header_len) + " bytes");
  }
  if (f.bulk_len > kPieceBytesMax || f.InlineBytes() > limits.inline_max) {
    return Bad("a bulk payload of " + std::to_string(f.bulk_len) + " bytes");
  }
  if ((f.bulk == BulkKind::kNone) != (f.bulk_len == 0)) return Bad("bulk length and kind disagree");
  return f;
}

}  // namespace perigee::rdma::local
