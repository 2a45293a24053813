#include "rdma/ofi/envelope.h"

#include <algorithm>
#include <utility>

#include "base/checksum.h"
#include "rdma/rendezvous/frame.h"
#include "rdma/slab_pool.h"

namespace perigee::rdma::ofi {

// Envelope, little-endian, 44 bytes:
//    0  u32  magic "PGOF"          16  u64  token
//    4  u8   version = 1           24  u64  addr
//    5  u8   kind                  32  u64  key
//    6  u16  zero                  40  u32  crc32c of bytes 0-39
//    8  u32  head_bytes
//   12  u32  data_bytes
// then head_bytes of head and, in a message, data_bytes of data.

namespace {
constexpr uint32_t kMagic = 0x464f4750;  // "PGOF"
constexpr uint8_t kVersion = 1;

Status Bad(std::string what) { return Status(Code::kCorrupt, "ofi envelope: " + std::move(what)); }

bool HasHead(EnvelopeKind kind) {
  return kind == EnvelopeKind::kMessage || kind == EnvelopeKind::kAnnounce;
}
}  // namespace

void EncodeEnvelope(const Envelope& e, uint8_t* out) {
  std::fill_n(out, kEnvelopeBytes, uint8_t{0});
  PutLe<uint32_t>(out, kMagic);
  out[4] = kVersion;
  out[5] = static_cast<uint8_t>(e.kind);
  PutLe<uint32_t>(out + 8, e.head_bytes);
  PutLe<uint32_t>(out + 12, e.data_bytes);
  PutLe<uint64_t>(out + 16, e.token);
  PutLe<uint64_t>(out + 24, e.addr);
  PutLe<uint64_t>(out + 32, e.key);
  PutLe<uint32_t>(out + 40, Crc32c(ConstBytes(out, 40)));
}

Result<Envelope> DecodeEnvelope(ConstBytes message) {
  if (message.size() < kEnvelopeBytes) return Bad("shorter than its header");
  const uint8_t* in = message.data();
  if (GetLe<uint32_t>(in) != kMagic) return Bad("wrong magic");
  if (in[4] != kVersion) return Bad("version " + std::to_string(in[4]) + " is not known");
  if (GetLe<uint32_t>(in + 40) != Crc32c(message.first(40))) return Bad("checksum mismatch");
  if (in[5] < static_cast<uint8_t>(EnvelopeKind::kMessage) ||
      in[5] > static_cast<uint8_t>(EnvelopeKind::kRelease)) {
    return Bad("kind " + std::to_string(in[5]) + " is not known");
  }
  Envelope e;
  e.kind = static_cast<EnvelopeKind>(in[5]);
  e.head_bytes = GetLe<uint32_t>(in + 8);
  e.data_bytes = GetLe<uint32_t>(in + 12);
  e.token = GetLe<uint64_t>(in + 16);
  e.addr = GetLe<uint64_t>(in + 24);
  e.key = GetLe<uint64_t>(in + 32);
  bool along = e.kind == EnvelopeKind::kMessage;
  bool places = e.kind == EnvelopeKind::kAnnounce || e.kind == EnvelopeKind::kGrant;
  if (GetLe<uint16_t>(in + 6) != 0 || (e.token == 0) != along ||
      (!places && (e.addr != 0 || e.key != 0)) || (!HasHead(e.kind) && e.head_bytes != 0) ||
      (!along && !places && e.data_bytes != 0)) {
    return Bad("fields that its kind does not have");
  }
  if (along && e.data_bytes > rendezvous::kEagerBytesMax) {
    return Bad("large data that was not announced");
  }
  if (places && (e.data_bytes <= rendezvous::kEagerBytesMax || e.data_bytes > kPieceBytesMax)) {
    return Bad(std::to_string(e.data_bytes) + " bytes announced");
  }
  size_t expected = kEnvelopeBytes + size_t{e.head_bytes} + (along ? e.data_bytes : 0);
  if (message.size() != expected) {
    return Bad(std::to_string(message.size()) + " bytes where " + std::to_string(expected) +
               " are expected");
  }
  return e;
}

}  // namespace perigee::rdma::ofi
