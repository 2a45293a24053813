#include "client/blob/shard_batch_call.h"

#include <memory>
#include <utility>

#include "rdma/wire/shard_batch.h"

namespace perigee::client {

namespace {

// A reply's memory, shared by the reads whose bytes lie in it.
class SharedReply final : public rdma::PieceOwner,
                          public std::enable_shared_from_this<SharedReply> {
 public:
  explicit SharedReply(rdma::Piece whole) : whole_(std::move(whole)) {}
  rdma::Piece Cut(uint64_t offset, uint64_t bytes) {
    rdma::Piece part;
    if (bytes > 0) Fill(&part, shared_from_this(), whole_.data() + offset, bytes, 0, 0);
    return part;
  }

 private:
  void Free(rdma::Piece*) override {}
  bool Stands() const override { return whole_.Stands(); }

  rdma::Piece whole_;
};

Status StatusOf(const wire::ShardOutcome& outcome) {
  if (outcome.code == Code::kOk) return Status::Ok();
  return Status(outcome.code <= Code::kInternal ? outcome.code : Code::kInternal, outcome.message);
}

Status Nonsense() { return Status(Code::kCorrupt, "an answer to a batch that makes no sense"); }

}  // namespace

ShardBatchCall::ShardBatchCall(const std::vector<ShardOperation>& operations) {
  wire::ShardBatchRequest request;
  size_t writes = 0;
  for (const ShardOperation& op : operations) writes += op.As<wire::ShardWriteRequest>() ? 1 : 0;
  for (const ShardOperation& op : operations) {
    if (auto* write = op.As<wire::ShardWriteRequest>()) {
      places_.push_back(request.writes.size());
      request.writes.push_back(*write);
      request.write_bytes.push_back(op.bytes.size());
      bulk_.append(AsView(op.bytes));
    } else if (auto* name = op.As<wire::ShardName>()) {
      places_.push_back(writes + request.deletes.size());
      request.deletes.push_back(*name);
    } else {
      places_.push_back(request.reads.size());
      request.reads.push_back(*op.As<wire::ShardReadRequest>());
      read_bytes_.push_back(op.BulkBytes());
    }
  }
  header_ = wire::Encode(request);
}

std::vector<Result<ShardData>> ShardBatchCall::Outcomes(Result<rdma::Payload> answer) const {
  auto decoded = answer.ok() ? Decode(std::move(*answer))
                             : Result<std::vector<Result<ShardData>>>(answer.status());
  if (decoded.ok()) return std::move(*decoded);
  std::vector<Result<ShardData>> failed;
  for (size_t i = 0; i < places_.size(); ++i) failed.emplace_back(decoded.status());
  return failed;
}

Result<std::vector<Result<ShardData>>> ShardBatchCall::Decode(rdma::Payload payload) const {
  PERIGEE_ASSIGN(wire::ShardBatchReply reply, wire::Decode<wire::ShardBatchReply>(payload.header));
  if (reply.outcomes.size() != places_.size()) return Nonsense();
  size_t reads = 0;
  uint64_t bytes = 0;
  for (size_t i = 0; i < read_bytes_.size(); ++i) {
    if (reply.outcomes[i].code != Code::kOk) continue;
    ++reads;
    bytes += read_bytes_[i];
  }
  if (reads != reply.reads.size() || bytes != payload.bulk.size()) return Nonsense();

  auto bulk = std::make_shared<SharedReply>(std::move(payload.bulk));
  std::vector<Result<ShardData>> outcomes;
  auto next_read = reply.reads.begin();
  uint64_t offset = 0;
  for (size_t place : places_) {
    Status status = StatusOf(reply.outcomes[place]);
    if (!status.ok()) {
      outcomes.emplace_back(std::move(status));
      continue;
    }
    ShardData data;
    if (!read_bytes_.empty()) {
      data.header = std::move(next_read++->shard);
      data.bytes = bulk->Cut(offset, read_bytes_[place]);
      offset += read_bytes_[place];
    }
    outcomes.emplace_back(std::move(data));
  }
  return outcomes;
}

}  // namespace perigee::client
