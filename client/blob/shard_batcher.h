#pragma once
// ShardBatcher: shard operations at other nodes, in as few calls as there is time for.
//
// To one node at most `calls_max` calls of a class are in flight each way (what reads, what
// changes), and of these at most `small_calls_max` of small operations (shard_operation.h). A small
// operation that finds a call free goes out at once, alone. Those that come while none is free
// wait, and all that wait when one ends go in the next as a batch (rdma/wire/shard_batch.h), up to
// kBatchBytes. So nothing waits for others to come, and the busier a node is, the more one call
// carries. Large operations are always calls of their own.
//
// Each operation has its own deadline, waiting included, and its own outcome. A lost connection
// fails with kUnavailable what is in flight; what waits goes on by the next call. More than
// `waiting_max` waiting: kBusy. What a node does not take in a batch (kTooLarge, or one that knows
// no batches) goes to it alone. Thread-safe; blocks.

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <tuple>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/event.h"
#include "base/metrics.h"
#include "client/blob/shard_batch_call.h"

namespace perigee::client {

// Of one batch; calls that wait for memory at the other side must not hold much of it here.
inline constexpr uint64_t kBatchBytes = 1 << 20;

class ShardBatcher : public std::enable_shared_from_this<ShardBatcher> {
 public:
  // Of one node, class and direction.
  struct Options {
    uint32_t calls_max = 32;
    uint32_t small_calls_max = 4;
    size_t waiting_max = 4096;
  };
  // `metrics` may be null.
  static std::shared_ptr<ShardBatcher> Create(Clock& clock, metrics::Registry* metrics,
                                              Options options);
  static std::shared_ptr<ShardBatcher> Create(Clock& clock, metrics::Registry* metrics) {
    return Create(clock, metrics, Options());
  }

  // options.lent_reply is for a call of its own: what comes in a batch is never lent.
  Result<ShardData> Run(const std::shared_ptr<rdma::Channel>& channel,
                        const ShardOperation& operation, rdma::CallOptions options);

 private:
  enum class State : uint8_t {
    kWaiting,
    kMayCall,  // holds one of the flow's calls, for its own thread to make
    kTaken,    // into a batch, which copies it
    kSent,
    kDone,
  };
  struct Entry {
    explicit Entry(const ShardOperation& op) : operation(op), small(op.IsSmall()) {}
    ~Entry() { outcome.status().Ignore(); }  // of one that left at its deadline

    const ShardOperation operation;
    const bool small;
    Nanos deadline = 0;
    State state = State::kWaiting;
    bool waking = false;  // was given its call while it slept
    bool alone = false;   // not in a batch
    bool left = false;    // nobody waits for it, and its memory is gone
    Result<ShardData> outcome = ShardData{};
    CondVar changed;
  };
  using EntryPtr = std::shared_ptr<Entry>;
  // The operations that share calls: those of one channel and class that read, or that do not.
  using Key = std::tuple<rdma::Channel*, rdma::TrafficClass, bool>;
  struct Flow {
    std::shared_ptr<rdma::Channel> channel;
    uint32_t calls = 0, small_calls = 0;
    std::deque<EntryPtr> small, large;  // waiting
    bool waking = false;                // one of `small` was, and will take the others along
    bool MayCall(const Options& options, bool small) const;
  };
  class Stay;

  ShardBatcher(Clock& clock, metrics::Registry* metrics, Options options);
  Status Enter(const Key& key, const std::shared_ptr<rdma::Channel>& channel,
               const EntryPtr& entry);
  void CallTogether(const Key& key, const std::shared_ptr<rdma::Channel>& channel,
                    const std::vector<EntryPtr>& batch, rdma::CallOptions options);
  void Ended(const Key& key, const std::vector<EntryPtr>& batch,
             std::vector<Result<ShardData>> outcomes);
  void Count(size_t operations);

  // With mu_:
  void Leave(const Key& key, const EntryPtr& entry);
  void GiveCall(Flow& flow, const EntryPtr& entry);
  void WakeCallers(Flow& flow);
  void Awake(Flow& flow, Entry& entry);
  void CallEnded(const Key& key, bool small);
  std::vector<EntryPtr> TakeBatch(const Key& key, const EntryPtr& first);
  static std::vector<EntryPtr> TakeWaiting(Flow& flow, const EntryPtr& first);
  void Settle(const Key& key, const EntryPtr& entry, Result<ShardData> outcome);

  Clock& clock_;
  const Options options_;
  metrics::Histogram* const operations_;
  std::mutex mu_;              // guards what follows, and the entries' states
  std::map<Key, Flow> flows_;  // with something in flight or waiting
};

}  // namespace perigee::client
