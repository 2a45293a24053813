#pragma once
// How CondVar (base/event.h) waits under a ManualScheduler (base/scheduler.h). For event.cc and
// manual_scheduler.cc only.
//
// A thread is governed by a manual scheduler while it runs one of its tasks, or from creating it to
// destroying it. Everything here is guarded by one process-wide mutex, which is taken last: under
// it no other lock is taken.

#include <atomic>
#include <limits>
#include <memory>
#include <mutex>
#include <vector>

#include "base/clock.h"

namespace perigee::internal {

inline constexpr Nanos kForever = std::numeric_limits<Nanos>::max();
inline Nanos SaturatingAdd(Nanos now, Nanos by) {
  Nanos sum;
  return __builtin_add_overflow(now, by, &sum) ? (by > 0 ? kForever : 0) : sum;
}

struct Waiter;

// The governed threads that wait on one CondVar; made at the first such wait.
struct Turn {
  std::vector<Waiter*> waiters;
};

// How many governed threads wait now, on any CondVar: lets a notify on ordinary threads skip the
// rest.
extern std::atomic<int> governed_waits;

// Null when this thread is not governed.
const Clock* GoverningClock();

// The two sides of a wait, for governed threads. WaitGoverned returns false when `timeout` passed
// first.
bool WaitGoverned(std::unique_ptr<Turn>& turn, std::unique_lock<std::mutex>& lock, Nanos timeout);
void NotifyGoverned(std::unique_ptr<Turn>& turn, bool all);
// The CondVar goes while tasks wait on it: they stay blocked until their scheduler unwinds them.
void OrphanWaiters(Turn& turn);

}  // namespace perigee::internal
