#pragma once
// Budget: how much of the file system burst files may take, and how much must stay free.
//
// The daemon does not see passthrough writes, so usage is polled: allocated bytes of files being
// written, and statfs. Below the reserve, or over the budget, writers are told low_space and go
// through the daemon, where Admit makes them wait for room, then gives kNoSpace. Thread-safe.

#include <atomic>
#include <functional>
#include <mutex>

#include "bufferd/core.h"

namespace perigee::bufferd {

struct BudgetOptions {
  uint64_t budget_bytes = 0;   // 0: 80 % of the file system
  uint64_t reserve_bytes = 0;  // 0: 1 GiB, or 5 % of the file system when that is less
};

class Budget {
 public:
  // make_room: asks for eviction and flushing; returns at once.
  static Result<std::unique_ptr<Budget>> Create(Core& core, BudgetOptions options,
                                                std::function<void()> make_room);

  // Looks again; asks for room when it is short. Called by a timer and whenever a file grew.
  Status Poll();
  bool Low() const { return low_.load(); }
  // Room for `bytes` more. Waits until `deadline` (monotonic) for eviction; kNoSpace when none
  // came.
  Status Admit(uint64_t bytes, Nanos deadline);

  uint64_t budget_bytes() const { return options_.budget_bytes; }
  uint64_t reserve_bytes() const { return options_.reserve_bytes; }
  uint64_t used_bytes() const { return core_.table->allocated_bytes(); }
  // Bytes missing to the reserve on the file system, or to the budget for those who wait in Admit.
  uint64_t ShortBytes() const;

 private:
  Budget(Core& core, BudgetOptions options, std::function<void()> make_room)
      : core_(core), options_(options), make_room_(std::move(make_room)) {}
  bool Fits(uint64_t bytes) const;
  Status WaitForRoom(uint64_t bytes, Nanos deadline);

  Core& core_;
  const BudgetOptions options_;
  const std::function<void()> make_room_;
  std::atomic<uint64_t> free_{0};
  std::atomic<uint64_t> short_{0};    // of the reserve
  std::atomic<uint64_t> waiting_{0};  // asked for by those who wait in Admit
  std::atomic<bool> low_{false};
};

}  // namespace perigee::bufferd
