#pragma once
// Event and CondVar: the only ways a thread of Perigee waits for another.
//
// On an ordinary thread they are a mutex and a condition variable. On a task of a ManualScheduler
// (base/scheduler.h) waiting hands the turn to another task and timeouts are in manual time, so
// that the same synchronous code runs deterministically in a simulation. Rule that makes this safe:
// hold no mutex across a wait (CondVar releases its own), and wait on nothing but these.

#include <condition_variable>
#include <memory>
#include <mutex>

#include "base/clock.h"

namespace perigee {

namespace internal {
struct Turn;  // a ManualScheduler's waiting side; see turn.h
}

// Mutex is std::mutex everywhere; this waits with one held, releasing it meanwhile.
// Spurious wake-ups happen: loop on the predicate, or use the overloads that do.
class CondVar {
 public:
  CondVar();
  ~CondVar();
  CondVar(const CondVar&) = delete;
  CondVar& operator=(const CondVar&) = delete;

  void Wait(std::unique_lock<std::mutex>& lock);
  // False when `timeout` passed first (by the real clock, or by the manual scheduler's).
  bool WaitFor(std::unique_lock<std::mutex>& lock, Nanos timeout);
  template <class Pred>
  void Wait(std::unique_lock<std::mutex>& lock, Pred pred) {
    while (!pred()) Wait(lock);
  }
  // Returns pred() at the end. The timeout is for the whole wait.
  template <class Pred>
  bool WaitFor(std::unique_lock<std::mutex>& lock, Nanos timeout, Pred pred) {
    Nanos deadline = DeadlineAfter(timeout);
    while (!pred()) {
      Nanos left = deadline - Now();
      if (left <= 0 || !WaitFor(lock, left)) return pred();
    }
    return true;
  }
  void NotifyOne();
  void NotifyAll();

 private:
  static Nanos Now();                         // monotonic, of the clock that governs this thread
  static Nanos DeadlineAfter(Nanos timeout);  // saturates: any timeout may be passed
  std::condition_variable cv_;
  std::unique_ptr<internal::Turn> turn_;
};

// A flag that can be waited for. Set is sticky until Reset. Thread-safe; may be destroyed as soon
// as a wait returned.
class Event {
 public:
  void Set();
  void Reset();
  bool IsSet() const;
  void Wait();
  bool WaitFor(Nanos timeout);  // false when the time passed first

 private:
  mutable std::mutex mu_;
  CondVar cv_;
  bool set_ = false;  // guarded by mu_
};

}  // namespace perigee
