#include "client/blob/shard_operation.h"

#include <utility>

#include "rdma/rpc.h"

namespace perigee::client {

namespace {
constexpr size_t kSmallCrcsMax = 64;
}  // namespace

uint64_t ShardOperation::BulkBytes() const {
  if (auto* read = As<wire::ShardReadRequest>()) return read->length;
  return bytes.size();
}

bool ShardOperation::IsSmall() const {
  auto* write = As<wire::ShardWriteRequest>();
  return BulkBytes() <= kSmallShardBytes &&
         (write == nullptr || write->shard.chunk_crcs.size() <= kSmallCrcsMax);
}

Result<ShardData> CallShard(rdma::Channel& channel, const ShardOperation& operation,
                            rdma::CallOptions options) {
  using wire::Method;
  if (auto* read = operation.As<wire::ShardReadRequest>()) {
    PERIGEE_ASSIGN(auto reply, rdma::CallFull<wire::ShardReadReply>(channel, Method::kShardRead,
                                                                    *read, {}, options));
    return ShardData{std::move(reply.message.shard), std::move(reply.bulk)};
  }
  auto* write = operation.As<wire::ShardWriteRequest>();
  auto done =
      write != nullptr
          ? rdma::Call<wire::Empty>(channel, Method::kShardWrite, *write, operation.bytes, options)
          : rdma::Call<wire::Empty>(channel, Method::kDriveDelete, *operation.As<wire::ShardName>(),
                                    {}, options);
  if (!done.ok()) return std::move(done).TakeStatus();
  return ShardData{};
}

}  // namespace perigee::client
