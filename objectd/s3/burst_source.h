#pragma once
// BurstPeers: content that still lies in some node's burst buffer, as the S3 door reads it.
// objectd/burst_peers.h does it over the transport. Thread-safe; blocks.

#include <cstdint>

#include "base/status.h"
#include "rdma/slab_pool.h"
#include "rdma/wire/record.h"

namespace perigee::objectd {

class BurstPeers {
 public:
  virtual ~BurstPeers() = default;
  // Exactly [offset, offset + length) of that generation; length at most rdma::kPieceBytesMax.
  // kStale: the burst file is no longer of that generation, or is being rewritten. kUnavailable,
  // kDeadlineExceeded: the node cannot be reached.
  virtual Result<rdma::Piece> Read(wire::NodeId node, wire::BurstId burst, wire::FileId id,
                                   uint64_t generation, uint64_t offset, uint32_t length) = 0;
};

}  // namespace perigee::objectd
