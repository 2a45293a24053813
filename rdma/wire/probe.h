#pragma once
// Measuring the way between two daemons (rdma/net_probe.h). Nodes of the cluster only.

#include <cstdint>
#include <string>
#include <vector>

#include "rdma/wire/codec.h"

namespace perigee::wire {

// Takes its bulk and answers with that many bytes of bulk, at most kPieceBytesMax. -> Empty
struct NetEchoRequest {
  uint64_t reply_bytes = 0;
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.reply_bytes);
    v.Rest(s.unknown);
  }
};

// The daemon that is asked measures the way from itself to `address`.
struct NetProbeRequest {  // -> NetProbeReply
  std::string address;    // empty: bufferd's own objectd
  uint64_t bytes_max = 64 << 20;
  uint32_t milliseconds = 200;  // each figure of each size is taken for
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.address);
    v(2, s.bytes_max);
    v(3, s.milliseconds);
    v.Rest(s.unknown);
  }
};
struct NetProbeRow {
  uint64_t bytes = 0;                       // of one transfer
  uint64_t transfers = 0;                   // of which the two times are
  uint64_t median_ns = 0, p99_ns = 0;       // there, and the empty answer back; one at a time
  uint64_t sent_per_s = 0, read_per_s = 0;  // bytes, several calls in flight
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.bytes);
    v(2, s.transfers);
    v(3, s.median_ns);
    v(4, s.p99_ns);
    v(5, s.sent_per_s);
    v(6, s.read_per_s);
    v.Rest(s.unknown);
  }
};
struct NetProbeReply {
  std::string path;  // provider, address, and what the provider says of the way
  std::vector<NetProbeRow> rows;
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.path);
    v(2, s.rows);
    v.Rest(s.unknown);
  }
};

}  // namespace perigee::wire
