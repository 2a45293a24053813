#include "objectd/volume/shard_batch.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

namespace perigee::objectd {

namespace {

constexpr Nanos kMemoryWait = 10 * kSecond;

Status Malformed(const std::string& what) {
  return Status(Code::kInvalidArgument, "a batch of shard calls: " + what);
}

// kTooLarge as soon as they are more than a batch may carry: the sum cannot wrap.
Result<uint64_t> SumOf(const std::vector<uint64_t>& lengths) {
  uint64_t sum = 0;
  for (uint64_t bytes : lengths) {
    if (bytes > wire::kBatchBulkBytesMax || sum + bytes > wire::kBatchBulkBytesMax)
      return Status(Code::kTooLarge, "a batch of shard calls with too many bytes");
    sum += bytes;
  }
  return sum;
}

std::vector<uint64_t> LengthsOf(const std::vector<wire::ShardReadRequest>& reads) {
  std::vector<uint64_t> lengths;
  for (const wire::ShardReadRequest& read : reads) lengths.push_back(read.length);
  return lengths;
}

wire::ShardOutcome OutcomeOf(const Status& status) {
  wire::ShardOutcome outcome{.code = status.code()};
  if (!status.ok()) outcome.message = status.message().substr(0, wire::kBatchMessageBytesMax);
  return outcome;
}

}  // namespace

Status ShardBatch::Check(const wire::ShardBatchRequest& request, size_t bulk_bytes) {
  const size_t changes = request.writes.size() + request.deletes.size();
  const size_t operations = changes + request.reads.size();
  if (operations == 0) return Malformed("empty");
  if (operations > wire::kBatchOperationsMax)
    return Status(Code::kTooLarge, "a batch of " + std::to_string(operations) + " shard calls");
  if (changes > 0 && !request.reads.empty()) return Malformed("it changes and reads");
  if (request.write_bytes.size() != request.writes.size())
    return Malformed("not one length for each write");
  PERIGEE_ASSIGN(uint64_t write_bytes, SumOf(request.write_bytes));
  if (write_bytes != bulk_bytes)
    return Malformed("its writes have " + std::to_string(write_bytes) + " bytes, its bulk " +
                     std::to_string(bulk_bytes));
  return SumOf(LengthsOf(request.reads)).status();
}

void ShardBatch::Serve(std::shared_ptr<rdma::ServerCall> call,
                       std::shared_ptr<const ShardCalls> calls,
                       std::shared_ptr<rdma::ClassPool> pool,
                       const std::shared_ptr<rdma::SlabPool>& slabs) {
  std::shared_ptr<ShardBatch> batch(new ShardBatch(call, std::move(calls), std::move(pool)));
  Status prepared = batch->Prepare(*slabs);
  if (!prepared.ok()) {
    call->Fail(prepared);
    return;
  }
  batch->RunAll();
}

Status ShardBatch::Prepare(rdma::SlabPool& slabs) {
  PERIGEE_ASSIGN(request_, wire::Decode<wire::ShardBatchRequest>(call_->header()));
  PERIGEE_TRY(Check(request_, call_->bulk().size()));
  const bool reading = !request_.reads.empty();
  uint64_t end = 0;
  for (uint64_t bytes : reading ? LengthsOf(request_.reads) : request_.write_bytes) {
    offsets_.push_back(end);
    end += bytes;
  }
  if (reading && end > 0) {
    Nanos left = call_->deadline() - pool_->clock().Monotonic();
    PERIGEE_ASSIGN(reply_bulk_, slabs.Allocate(end, std::min(left, kMemoryWait)));
  }
  reads_.resize(request_.reads.size());
  outcomes_.resize(request_.writes.size() + request_.deletes.size() + request_.reads.size());
  pending_ = outcomes_.size();
  return Status::Ok();
}

// The last one runs here, and so does each that a full pool does not take.
void ShardBatch::RunAll() {
  const size_t last = outcomes_.size() - 1;
  for (size_t i = 0; i <= last; ++i) {
    auto run = [self = shared_from_this(), i] { self->Run(i); };
    if (i == last || !pool_->Post(call_->traffic(), run).ok()) run();
  }
}

void ShardBatch::Run(size_t index) {
  outcomes_[index] = OutcomeOf(Do(index));
  if (pending_.fetch_sub(1) == 1) Answer();
}

Status ShardBatch::Do(size_t index) {
  if (pool_->clock().Monotonic() >= call_->deadline())
    return Status(Code::kDeadlineExceeded, "the call waited past its deadline");
  if (!request_.reads.empty()) return Read(index);
  if (index < request_.writes.size()) {
    const std::shared_ptr<const rdma::Piece> bulk(shared_from_this(), &call_->bulk());
    return calls_->write(request_.writes[index],
                         bulk->span().subspan(offsets_[index], request_.write_bytes[index]), bulk,
                         call_->traffic());
  }
  if (!calls_->remove) return Status(Code::kUnimplemented, "shards are not deleted by call here");
  return calls_->remove(request_.deletes[index - request_.writes.size()]);
}

Status ShardBatch::Read(size_t index) {
  const wire::ShardReadRequest& request = request_.reads[index];
  PERIGEE_ASSIGN(
      reads_[index].shard,
      calls_->read_into(request, reply_bulk_.span().subspan(offsets_[index], request.length),
                        call_->traffic()));
  if (wire::Encode(reads_[index]).size() > wire::kBatchShardHeaderBytesMax)
    return Status(Code::kTooLarge, "the shard's header is too long for a batch");
  return Status::Ok();
}

// What is not ok leaves no gap in the reply, and nothing of what its memory held before.
void ShardBatch::Answer() {
  wire::ShardBatchReply reply;
  uint64_t end = 0;
  for (size_t i = 0; i < reads_.size(); ++i) {
    if (outcomes_[i].code != Code::kOk) continue;
    const uint64_t bytes = request_.reads[i].length;
    if (bytes > 0) std::memmove(reply_bulk_.data() + end, reply_bulk_.data() + offsets_[i], bytes);
    end += bytes;
    reply.reads.push_back(std::move(reads_[i]));
  }
  reply.outcomes = std::move(outcomes_);
  if (end > 0)
    reply_bulk_.Trim(end);
  else
    reply_bulk_.Release();
  call_->Reply({wire::Encode(reply), std::move(reply_bulk_), {}});
}

}  // namespace perigee::objectd
