#pragma once
// Store: the ordered transactional key-value store under the namespace. RocksDB mirrors first
// (rocks_store.h), memory for tests (mem_store.h); a PostgreSQL-protocol engine later. One
// conformance suite runs against each (tests/objectd/kv_conformance.h).
//
// A transaction is a closure without side effects; it may run several times. Reads see the state as
// of its start plus its own writes. A read is a *conflict* read (the commit fails, and the closure
// runs again, when the key or range was changed by a later commit) or a *snapshot* read (no such
// promise). Reading what AtomicMax/AtomicAdd changed counts as changed. Keys compare as bytes.
//
// Visibility and durability are apart: Run returns when the commit is visible to every later
// transaction; commits become durable in commit order. WaitDurable waits for that, and concurrent
// waiters share one sync. Limits, part of the interface: key 4 KiB, value 64 KiB, transaction 1 MiB
// and 1,000 written keys, 5 s of running. Inline values (KeySpace::kInline) may be as large as the
// value limit and are kept apart from what listings read.
//
// Errors: kConflict after `attempts_max` runs; kTooLarge for the limits; kUnavailable when the
// store lost its drives (nothing works from then on); whatever the closure returned (nothing is
// then committed). Thread rule: thread-safe. A Transaction belongs to the thread that runs the
// closure.

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/status.h"

namespace perigee::objectd::kv {

inline constexpr size_t kKeyBytesMax = 4 << 10;
inline constexpr size_t kValueBytesMax = 64 << 10;
inline constexpr size_t kTransactionBytesMax = 1 << 20;
inline constexpr size_t kTransactionKeysMax = 1000;

enum class ReadMode { kConflict, kSnapshot };
enum class Direction { kForward, kBackward };

struct Range {  // [begin, end); end "" is the end of the key space
  std::string begin, end;
};
// All keys that start with `prefix`.
Range PrefixRange(std::string_view prefix);

using KeyValue = std::pair<std::string, std::string>;
using Position = uint64_t;  // of a commit; grows; opaque otherwise

class Transaction {
 public:
  virtual ~Transaction() = default;
  virtual Result<std::optional<std::string>> Get(std::string_view key, ReadMode mode) = 0;
  virtual Result<std::vector<std::optional<std::string>>> GetMany(
      const std::vector<std::string>& keys, ReadMode mode) = 0;
  // At most `limit` pairs. A conflict scan covers only what it actually walked over (to the end
  // when it got fewer).
  virtual Result<std::vector<KeyValue>> Scan(const Range& range, size_t limit, Direction direction,
                                             ReadMode mode) = 0;
  // Adds a conflict read without reading.
  virtual void ConflictOn(std::string_view key) = 0;

  virtual void Put(std::string_view key, std::string_view value) = 0;
  virtual void Delete(std::string_view key) = 0;
  // Commutative, on 8-byte little-endian values (absent is 0): two commits that do only this to a
  // key never conflict.
  virtual void AtomicMax(std::string_view key, uint64_t operand) = 0;
  virtual void AtomicAdd(std::string_view key, int64_t operand) = 0;
  // An event of the change feed, in this commit.
  virtual void Emit(std::string_view event) = 0;
};

struct FeedEvent {
  Position position;
  std::string event;
};
struct FeedPage {
  std::vector<FeedEvent> events;
  Position next = 0;     // pass as `after` to go on
  Position visible = 0;  // watermarks: commits up to here
  Position durable = 0;
};

class Store {
 public:
  using Closure = std::function<Status(Transaction& txn)>;
  virtual ~Store() = default;

  // Commits what the closure wrote. A closure that wrote nothing commits nothing; the position is
  // then that of its snapshot, so that WaitDurable(position) means "what I read is durable".
  virtual Result<Position> Run(const Closure& closure) = 0;
  virtual Status WaitDurable(Position position) = 0;
  Status RunDurable(const Closure& closure) {
    PERIGEE_ASSIGN(Position at, Run(closure));
    return WaitDurable(at);
  }
  virtual Position VisiblePosition() = 0;
  virtual Position DurablePosition() = 0;

  // Events with position > after, in order. No event ever appears behind a position already read.
  // kResync when events after `after` are no longer kept. `after` kFeedEnd: no events, only the
  // watermarks, next = visible.
  virtual Result<FeedPage> ReadFeed(Position after, size_t limit) = 0;
  // Returns at once when visible or durable moved past what the caller saw, else after `timeout`.
  // False: waits have ended for good.
  virtual bool WaitFeed(Position seen_visible, Position seen_durable, Nanos timeout) = 0;
  // Before a stop: who waits in WaitFeed, now or later, returns at once.
  virtual void EndFeedWaits() = 0;
  static constexpr Position kFeedEnd = ~Position{0};
};

// Ids from a durably reserved range: never used twice, also across crashes. `counter` is a key.
// Thread-safe.
class IdAllocator {
 public:
  IdAllocator(Store& store, std::string counter_key, uint64_t batch);
  ~IdAllocator();
  Result<uint64_t> Next();
  // `count` consecutive ones.
  Result<uint64_t> NextRange(uint64_t count);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace perigee::objectd::kv
