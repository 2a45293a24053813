#pragma once
// MemStore: the Store in memory, for tests and simulations. The same semantics, conflicts and
// limits as RocksStore.

#include <cstdint>
#include <memory>

#include "objectd/kv/store.h"

namespace perigee::objectd::kv {

struct MemStoreOptions {
  Clock* clock = nullptr;  // for the limit on running time; none: no such limit
  uint64_t feed_events_kept = 1'000'000;
};

class MemStore : public Store {
 public:
  static std::unique_ptr<MemStore> Create(MemStoreOptions options = {});
  // Fault knobs. Crash drops every commit that is not durable, as a power cut does.
  virtual void Crash() = 0;
  virtual void FailConflicts(uint32_t one_in, uint64_t seed) = 0;  // spurious conflicts, 0: off
  virtual void HoldDurability(bool hold) = 0;  // WaitDurable waits until released
};

}  // namespace perigee::objectd::kv
