#pragma once
// The frames of the `local` provider: a fixed header, then the encoded message, then a small inline
// bulk payload. The byte grammar is in frame.cc and docs/formats/local-frame.md. Thread rule:
// values.

#include <cstddef>
#include <cstdint>

#include "base/bytes.h"
#include "base/status.h"
#include "rdma/traffic_class.h"

namespace perigee::rdma::local {

inline constexpr size_t kFrameBytes = 64;
inline constexpr size_t kInlineBulkMax =
    16 << 10;  // larger bulk goes by reference wherever the peer may see slabs

enum class FrameKind : uint8_t {
  kHelloStart = 1,      // client, first
  kHelloChallenge = 2,  // server
  kHelloAnswer = 3,     // client
  kHelloVerdict = 4,    // server
  kRequest = 5,         // client
  kResponse = 6,        // server
  kSlab = 7,  // either: one descriptor, `slab` is its name on this connection, `offset` its bytes
  kForgetSlab = 8,  // either: `slab` will not be named again
  kPulled = 9,      // client: the bulk of response `id` was copied, or is not wanted
};

enum class BulkKind : uint8_t { kNone = 0, kInline = 1, kSlab = 2 };

// Where a payload lies in a slab that the peer was given, and the lease that says whether it still
// lies there.
struct BulkRef {
  uint32_t slab = 0;
  uint64_t offset = 0;
  uint32_t lease_slot = 0;
  uint64_t lease_value = 0;
};

struct FrameHeader {
  FrameKind kind = FrameKind::kRequest;
  BulkKind bulk = BulkKind::kNone;
  uint8_t fds = 0;
  uint16_t method = 0;  // kRequest: wire::Method; kResponse: Code
  uint32_t header_len = 0;
  uint32_t bulk_len = 0;
  uint64_t id = 0;                                   // of the call; grows on a connection
  uint32_t timeout_us = 0;                           // kRequest: time left
  TrafficClass traffic = TrafficClass::kForeground;  // kRequest
  BulkRef ref;

  size_t InlineBytes() const { return bulk == BulkKind::kInline ? bulk_len : 0; }
  size_t TotalBytes() const { return kFrameBytes + header_len + InlineBytes(); }
};

// What a receiver accepts from its peer at this moment.
struct FrameLimits {
  size_t header_max = 0;
  size_t inline_max = 0;
};

void EncodeFrame(const FrameHeader& frame, uint8_t out[kFrameBytes]);
// kCorrupt: not a frame of this version, or beyond `limits`.
Result<FrameHeader> DecodeFrame(const uint8_t in[kFrameBytes], const FrameLimits& limits);

}  // namespace perigee::rdma::local
