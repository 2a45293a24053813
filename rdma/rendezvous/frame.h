#pragma once
// What one message of `ucx` and `ofi` says: a fixed header, for many messages the encoded wire
// message behind it, and apart from both the message's data, which is sent along (small) or
// announced for the receiver to pull. The byte grammar is in frame.cc and
// docs/formats/rendezvous-frame.md. Thread rule: values.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/status.h"
#include "rdma/traffic_class.h"

namespace perigee::rdma::rendezvous {

inline constexpr size_t kFrameBytes = 40;
inline constexpr size_t kBodyInHeadMax = 1024;   // beside bulk; UCX carries about 8 KiB of header
inline constexpr size_t kEagerBytesMax = 16384;  // data sent along; larger data is announced

enum class FrameKind : uint8_t {
  kHelloStart = 1,      // client, first
  kHelloChallenge = 2,  // server
  kHelloAnswer = 3,     // client
  kHelloVerdict = 4,    // server
  kRequest = 5,         // client
  kResponse = 6,        // server
  kBody = 7,            // either: the body of message `id`, which says kBodyApart
  kPing = 8,            // either: I am alive
  kGoAway = 9,          // either: this connection ends on purpose
};

enum class DataKind : uint8_t {
  kPacked = 0,      // the data is the body, then the bulk
  kBodyInHead = 1,  // the body is behind the header, the data is the bulk
  kBodyApart = 2,   // the body is the data of a kBody message, the data is the bulk
};

struct FrameHeader {
  FrameKind kind = FrameKind::kRequest;
  DataKind data = DataKind::kPacked;
  uint16_t method = 0;      // kRequest: wire::Method; kResponse: Code
  uint64_t id = 0;          // of the call
  uint32_t timeout_us = 0;  // kRequest: time left
  uint32_t body_len = 0;
  uint32_t bulk_len = 0;
  uint32_t data_crc = 0;
  TrafficClass traffic = TrafficClass::kForeground;  // kRequest, kResponse

  bool Carries() const { return kind == FrameKind::kRequest || kind == FrameKind::kResponse; }
  size_t DataBytes() const { return bulk_len + (data == DataKind::kPacked ? body_len : 0); }
};

struct FrameLimits {
  size_t body_max = 0;
  size_t bulk_max = 0;
};

// The message's head: the frame and, with kBodyInHead, `body`.
std::string EncodeFrame(const FrameHeader& frame, std::string_view body);
// `body` gets what is behind the frame. kCorrupt: not a frame of this version, beyond `limits`, or
// with another length of data than the library has announced.
Result<FrameHeader> DecodeFrame(ConstBytes head, size_t data_bytes, const FrameLimits& limits,
                                std::string_view* body);

}  // namespace perigee::rdma::rendezvous
