#pragma once
// ShardBatchCall: several small operations as one call (rdma/wire/shard_batch.h), and its answer as
// their outcomes. It has copied what it sends: the operations' memory may go once it is made.
// Immutable.

#include <string>
#include <vector>

#include "client/blob/shard_operation.h"

namespace perigee::client {

class ShardBatchCall {
 public:
  // At least one, within the limits of a batch; either all read, or none does.
  explicit ShardBatchCall(const std::vector<ShardOperation>& operations);

  const std::string& header() const { return header_; }
  ConstBytes bulk() const { return AsBytes(bulk_); }

  // One for each operation, in the order they were given. A read's bytes are a part of the reply's
  // memory, which goes when the last of them does. A failed call is each one's failure; an answer
  // that makes no sense is kCorrupt for all.
  std::vector<Result<ShardData>> Outcomes(Result<rdma::Payload> answer) const;

 private:
  Result<std::vector<Result<ShardData>>> Decode(rdma::Payload payload) const;

  std::string header_;
  std::string bulk_;
  std::vector<size_t> places_;        // of each operation among the outcomes
  std::vector<uint64_t> read_bytes_;  // of each read
};

}  // namespace perigee::client
