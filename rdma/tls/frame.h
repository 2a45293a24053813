#pragma once
// The frames of the `tls` provider: a fixed header, then the encoded message, then a small inline
// bulk payload or a piece of a large one. The byte grammar is in frame.cc and
// docs/formats/tls-frame.md. Payloads have no checksum of their own: TLS authenticates each byte.
// Thread rule: values.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/status.h"
#include "rdma/traffic_class.h"

namespace perigee::rdma::tls {

inline constexpr size_t kFrameBytes = 40;
// Larger bulk is announced, and comes in pieces once the receiver has granted it.
inline constexpr size_t kInlineBulkMax = 16 << 10;
inline constexpr size_t kPieceMax = 256 << 10;

enum class FrameKind : uint8_t {
  kHelloStart = 1,      // client, first
  kHelloChallenge = 2,  // server
  kHelloAnswer = 3,     // client
  kHelloVerdict = 4,    // server
  kRequest = 5,         // client
  kResponse = 6,        // server
  kGrant = 7,           // receiver of an announced payload: send it
  kDecline = 8,         // receiver: it is not wanted, or not any more
  kData = 9,            // sender of a granted payload: its next piece
  kWithdraw = 10,       // sender: the rest of it will not come
  kBeat = 11,           // either: nothing to say for a second, but alive
};

struct FrameHeader {
  FrameKind kind = FrameKind::kRequest;
  uint16_t method = 0;  // kRequest: wire::Method; kResponse: Code
  uint32_t header_len = 0;
  uint32_t bulk_len = 0;    // kRequest, kResponse: of the whole payload; kData: of this piece
  uint64_t id = 0;          // of the call; grows on a connection
  uint32_t timeout_us = 0;  // kRequest: time left
  uint32_t offset = 0;      // kData: of this piece in its payload
  TrafficClass traffic = TrafficClass::kForeground;  // kRequest, kResponse

  bool Carries() const { return kind == FrameKind::kRequest || kind == FrameKind::kResponse; }
  size_t InlineBytes() const { return Carries() && bulk_len <= kInlineBulkMax ? bulk_len : 0; }
  bool Announces() const { return Carries() && bulk_len > kInlineBulkMax; }
  // Of what is parsed at once: a piece of kData goes elsewhere.
  size_t BodyBytes() const { return header_len + InlineBytes(); }
};

// What a receiver accepts from its peer at this moment.
struct FrameLimits {
  size_t header_max = 0;
  size_t bulk_max = 0;
};

void EncodeFrame(const FrameHeader& frame, uint8_t out[kFrameBytes]);
// Header, message and inline bulk in one piece.
std::string FrameText(FrameHeader frame, std::string_view message, ConstBytes inline_bulk);
// kCorrupt: not a frame of this version, or beyond `limits`.
Result<FrameHeader> DecodeFrame(const uint8_t in[kFrameBytes], const FrameLimits& limits);

}  // namespace perigee::rdma::tls
