#include <algorithm>
#include <limits>
#include <mutex>

#include "base/bytes.h"
#include "base/event.h"
#include "base/failpoint.h"
#include "objectd/kv/store.h"

namespace perigee::objectd::kv {

// The counter's value, 8 bytes little-endian, is the last id reserved; absent is 0, so ids start at
// 1.
struct IdAllocator::State {
  Store& store;
  const std::string counter_key;
  const uint64_t batch;

  std::mutex mu;  // guards what follows; not held while reserving
  CondVar reserved;
  bool reserving = false;
  uint64_t next = 1, last = 0;  // free: [next, last]

  struct Ids {
    uint64_t first, last;
  };
  Result<Ids> Reserve(uint64_t count);
};

Result<IdAllocator::State::Ids> IdAllocator::State::Reserve(uint64_t count) {
  Ids ids{};
  PERIGEE_FAILPOINT_STATUS(kv_ids_before_commit);
  PERIGEE_TRY(store.RunDurable([&](Transaction& txn) -> Status {
    PERIGEE_ASSIGN(std::optional<std::string> stored, txn.Get(counter_key, ReadMode::kConflict));
    uint64_t used = 0;
    if (stored) {
      if (stored->size() != sizeof used)
        return Status(Code::kCorrupt, "an id counter is not 8 bytes");
      used = GetLe<uint64_t>(AsBytes(*stored).data());
    }
    if (count > std::numeric_limits<uint64_t>::max() - used)
      return Status(Code::kNoSpace, "out of ids");
    ids = {used + 1, used + count};
    std::string value(sizeof used, '\0');
    PutLe(reinterpret_cast<uint8_t*>(value.data()), ids.last);
    txn.Put(counter_key, value);
    return Status::Ok();
  }));
  PERIGEE_FAILPOINT_STATUS(kv_ids_after_commit);
  return ids;
}

IdAllocator::IdAllocator(Store& store, std::string counter_key, uint64_t batch)
    : state_(new State{store, std::move(counter_key), std::max<uint64_t>(1, batch)}) {}

IdAllocator::~IdAllocator() = default;

Result<uint64_t> IdAllocator::Next() { return NextRange(1); }

Result<uint64_t> IdAllocator::NextRange(uint64_t count) {
  if (count == 0) return Status(Code::kInvalidArgument, "a range of no ids");
  State& s = *state_;
  std::unique_lock lock(s.mu);
  for (;;) {
    if (s.last + 1 - s.next >= count) {
      uint64_t first = s.next;
      s.next += count;
      return first;
    }
    if (s.reserving) {
      s.reserved.Wait(lock);
      continue;
    }
    s.reserving = true;
    lock.unlock();
    Result<State::Ids> ids = s.Reserve(std::max(s.batch, count));
    lock.lock();
    s.reserving = false;
    s.reserved.NotifyAll();
    PERIGEE_TRY(ids.status());
    // Ids left over that do not join on to the new ones are given up, never used twice.
    if (ids->first != s.last + 1) s.next = ids->first;
    s.last = ids->last;
  }
}

}  // namespace perigee::objectd::kv
