#include "client/blob/shard_batcher.h"

#include <algorithm>

#include "rdma/wire/shard_batch.h"

namespace perigee::client {

namespace {

metrics::Histogram* OperationsOf(metrics::Registry* registry) {
  if (registry == nullptr) return nullptr;
  return registry->GetHistogram("perigee_shard_operations_per_call",
                                "shards written, read or deleted at other nodes by one call",
                                {1, 2, 4, 8, 16, 32, 64, 128, 256});
}

// What another call may do better: the node knows no batches, or has no room for it in this one.
bool NotInABatch(const Result<ShardData>& outcome) {
  return outcome.code() == Code::kUnimplemented || outcome.code() == Code::kTooLarge;
}

}  // namespace

// An operation in its flow, until its thread is done with it, or unwound.
class ShardBatcher::Stay {
 public:
  Stay(ShardBatcher* batcher, const Key& key, EntryPtr entry)
      : batcher_(batcher), key_(key), entry_(std::move(entry)) {}
  ~Stay() {
    std::lock_guard lock(batcher_->mu_);
    batcher_->Leave(key_, entry_);
  }
  Stay(const Stay&) = delete;

 private:
  ShardBatcher* const batcher_;
  const Key key_;
  const EntryPtr entry_;
};

std::shared_ptr<ShardBatcher> ShardBatcher::Create(Clock& clock, metrics::Registry* metrics,
                                                   Options options) {
  return std::shared_ptr<ShardBatcher>(new ShardBatcher(clock, metrics, options));
}

ShardBatcher::ShardBatcher(Clock& clock, metrics::Registry* metrics, Options options)
    : clock_(clock), options_(options), operations_(OperationsOf(metrics)) {}

Result<ShardData> ShardBatcher::Run(const std::shared_ptr<rdma::Channel>& channel,
                                    const ShardOperation& operation, rdma::CallOptions options) {
  auto entry = std::make_shared<Entry>(operation);
  entry->deadline = clock_.Monotonic() + options.timeout;
  const Key key(channel.get(), options.traffic, operation.Reads());
  PERIGEE_TRY(Enter(key, channel, entry));
  Stay stay(this, key, entry);
  std::unique_lock lock(mu_);
  while (entry->state != State::kDone) {
    const Nanos left = entry->deadline - clock_.Monotonic();
    if (left <= 0 && entry->state != State::kTaken)
      return Status(Code::kDeadlineExceeded, channel->Describe() + ": no answer in time");
    if (entry->state == State::kTaken) {
      entry->changed.Wait(lock);  // for a copy
    } else if (entry->state != State::kMayCall) {
      entry->changed.WaitFor(lock, left);
    } else {
      options.timeout = left;
      std::vector<EntryPtr> batch = TakeBatch(key, entry);
      lock.unlock();
      if (batch.empty()) {
        Count(1);
        return CallShard(*channel, operation, options);
      }
      CallTogether(key, channel, batch, options);
      lock.lock();
    }
  }
  return std::move(entry->outcome);
}

void ShardBatcher::CallTogether(const Key& key, const std::shared_ptr<rdma::Channel>& channel,
                                const std::vector<EntryPtr>& batch, rdma::CallOptions options) {
  std::vector<ShardOperation> operations;
  Nanos last = 0;
  for (const EntryPtr& entry : batch) {
    operations.push_back(entry->operation);
    last = std::max(last, entry->deadline);
  }
  auto call = std::make_shared<const ShardBatchCall>(operations);
  {
    std::lock_guard lock(mu_);
    for (const EntryPtr& entry : batch) {
      entry->state = State::kSent;
      entry->changed.NotifyAll();
    }
  }
  Count(batch.size());
  // Who has less time than others leaves before the call ends.
  options.timeout = last - clock_.Monotonic();
  options.lent_reply = false;
  channel->Call(wire::Method::kShardBatch, call->header(), call->bulk(), options,
                [self = shared_from_this(), key, batch, call](Result<rdma::Payload> answer) {
                  self->Ended(key, batch, call->Outcomes(std::move(answer)));
                });
}

void ShardBatcher::Ended(const Key& key, const std::vector<EntryPtr>& batch,
                         std::vector<Result<ShardData>> outcomes) {
  std::lock_guard lock(mu_);
  for (size_t i = 0; i < batch.size(); ++i) Settle(key, batch[i], std::move(outcomes[i]));
  CallEnded(key, true);
}

void ShardBatcher::Count(size_t operations) {
  if (operations_ != nullptr) operations_->Observe(static_cast<double>(operations));
}

bool ShardBatcher::Flow::MayCall(const Options& options, bool small) const {
  return calls < options.calls_max && (!small || small_calls < options.small_calls_max);
}

Status ShardBatcher::Enter(const Key& key, const std::shared_ptr<rdma::Channel>& channel,
                           const EntryPtr& entry) {
  std::lock_guard lock(mu_);
  Flow& flow = flows_[key];
  flow.channel = channel;
  if (flow.small.size() + flow.large.size() >= options_.waiting_max)
    return Status(Code::kBusy, channel->Describe() + ": too many shard calls wait");
  if (flow.MayCall(options_, entry->small))
    GiveCall(flow, entry);
  else
    (entry->small ? flow.small : flow.large).push_back(entry);
  return Status::Ok();
}

void ShardBatcher::Leave(const Key& key, const EntryPtr& entry) {
  entry->left = true;
  if (entry->state == State::kWaiting) {
    Flow& flow = flows_.at(key);
    std::erase(entry->small ? flow.small : flow.large, entry);
  } else if (entry->state == State::kMayCall) {
    Awake(flows_.at(key), *entry);
    CallEnded(key, entry->small);
  }
}

void ShardBatcher::GiveCall(Flow& flow, const EntryPtr& entry) {
  flow.calls++;
  flow.small_calls += entry->small ? 1 : 0;
  entry->state = State::kMayCall;
}

// Of the small ones one: by the time it runs, it takes along what waits then. They go first; large
// ones have most of the calls.
void ShardBatcher::WakeCallers(Flow& flow) {
  while (true) {
    const bool small = !flow.small.empty() && !flow.waking && flow.MayCall(options_, true);
    std::deque<EntryPtr>& queue = small ? flow.small : flow.large;
    if (queue.empty() || !flow.MayCall(options_, small)) return;
    EntryPtr entry = std::move(queue.front());
    queue.pop_front();
    GiveCall(flow, entry);
    flow.waking = flow.waking || small;
    entry->waking = small;
    entry->changed.NotifyAll();
  }
}

void ShardBatcher::Awake(Flow& flow, Entry& entry) {
  if (std::exchange(entry.waking, false)) flow.waking = false;
}

void ShardBatcher::CallEnded(const Key& key, bool small) {
  auto found = flows_.find(key);
  Flow& flow = found->second;
  flow.calls--;
  flow.small_calls -= small ? 1 : 0;
  WakeCallers(flow);
  if (flow.calls == 0) flows_.erase(found);  // then nothing waits either
}

// With `first`, who may call, all that wait and fit. Empty: it goes alone.
std::vector<ShardBatcher::EntryPtr> ShardBatcher::TakeBatch(const Key& key, const EntryPtr& first) {
  Flow& flow = flows_.at(key);
  Awake(flow, *first);
  std::vector<EntryPtr> batch =
      first->small && !first->alone ? TakeWaiting(flow, first) : std::vector<EntryPtr>();
  for (const EntryPtr& entry : batch) entry->state = State::kTaken;
  WakeCallers(flow);  // what did not fit
  return batch;
}

std::vector<ShardBatcher::EntryPtr> ShardBatcher::TakeWaiting(Flow& flow, const EntryPtr& first) {
  std::vector<EntryPtr> batch;
  batch.push_back(first);
  uint64_t bytes = first->operation.BulkBytes();
  std::erase_if(flow.small, [&](const EntryPtr& entry) {
    if (entry->alone || batch.size() == wire::kBatchOperationsMax ||
        bytes + entry->operation.BulkBytes() > kBatchBytes)
      return false;
    bytes += entry->operation.BulkBytes();
    batch.push_back(entry);
    return true;
  });
  if (batch.size() == 1) batch.clear();
  return batch;
}

void ShardBatcher::Settle(const Key& key, const EntryPtr& entry, Result<ShardData> outcome) {
  if (NotInABatch(outcome) && !entry->left) {
    entry->alone = true;
    entry->state = State::kWaiting;
    flows_.at(key).small.push_back(entry);
    return;
  }
  entry->outcome = std::move(outcome);
  entry->state = State::kDone;
  entry->changed.NotifyAll();
}

}  // namespace perigee::client
