#pragma once
// ShardOperation: one shard to write, read or delete at a node. Thread rule: a value; what it
// points at is the caller's.

#include <variant>

#include "client/blob/shard_io.h"
#include "rdma/transport.h"
#include "rdma/wire/node.h"

namespace perigee::client {

// Of a small operation's bulk, either way.
inline constexpr uint64_t kSmallShardBytes = 64 << 10;

struct ShardOperation {
  std::variant<const wire::ShardWriteRequest*, const wire::ShardName*,
               const wire::ShardReadRequest*>
      request;
  ConstBytes bytes = {};  // of a write

  template <class Request>
  const Request* As() const {
    auto* found = std::get_if<const Request*>(&request);
    return found != nullptr ? *found : nullptr;
  }
  bool Reads() const { return As<wire::ShardReadRequest>() != nullptr; }
  uint64_t BulkBytes() const;
  // May go with others: little bulk, and a short message.
  bool IsSmall() const;
};

// As a call of its own; a read's reply may be lent. What only writes or deletes has no data.
// Blocks.
Result<ShardData> CallShard(rdma::Channel& channel, const ShardOperation& operation,
                            rdma::CallOptions options);

}  // namespace perigee::client
