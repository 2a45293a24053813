#pragma once
// How objectd's --memory-limit is divided among what takes memory by the load: bounds that each of
// them keeps. The rest (code, stacks, connections, small objects) has a share of its own, so that
// the sum stays within the limit. Pure.

#include <cstddef>
#include <cstdint>

namespace perigee::objectd {

inline constexpr uint64_t kMemoryLeast = 128 << 20;

struct MemoryPlan {
  uint64_t store = 0;            // of the namespace: RocksDB, all mirrors, and its cache of rows
  uint64_t index_per_drive = 0;  // RocksDB of one drive's shards
  uint64_t s3_bodies = 0;        // on their way through the S3 endpoint
  uint64_t s3_documents = 0;     // XML being read, lists being made
  uint64_t transfers = 0;        // pieces of shards and of calls
};
// `limit` is at least kMemoryLeast, drives at least 1.
MemoryPlan PlanMemory(uint64_t limit, size_t drives);

}  // namespace perigee::objectd
