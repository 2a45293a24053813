#pragma once
// Scheduler: where work runs and when. Everything in Perigee that is not called by someone runs as
// a task of one.
//
//   ThreadPool        real threads, a bounded queue, the real clock: daemons.
//   ManualScheduler   one task at a time, in an order drawn from a seed, on a manual clock: tests,
//   simulations.
//                     Tasks may block on Event and CondVar; the turn then goes to another task, and
//                     when no task can run, time jumps to the next timer or timeout.
//
// Tasks are ordinary blocking functions. A task must not wait for work that can only run on the
// same bounded pool; daemons therefore own one pool per layer of calls (see docs/architecture.md,
// "Threads"). Thread rule: thread-safe. Stop() refuses new work, cancels timers, and returns when
// the tasks accepted before ended (a Post that returned ok always runs). Not to be called from a
// task of the same pool.

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/clock.h"
#include "base/status.h"

namespace perigee {

using Task = std::function<void()>;

class Scheduler {
 public:
  using TimerId = uint64_t;  // 0 is never a timer

  virtual ~Scheduler() = default;
  // kBusy when the queue is full, kCancelled after Stop; the task then never runs.
  virtual Status Post(Task task) = 0;
  // Runs `task` on the pool no earlier than `delay` from now. 0 after Stop.
  virtual TimerId PostAfter(Nanos delay, Task task) = 0;
  // True when the timer will not fire any more; false when it has, or is firing now.
  virtual bool Cancel(TimerId id) = 0;
  virtual Clock& clock() = 0;
  virtual void Stop() = 0;
};

struct ThreadPoolOptions {
  std::string name;  // of the threads, at most 15 bytes, for ps and logs
  uint32_t threads = 4;
  uint32_t queue_max = 4096;  // tasks waiting; beyond: kBusy
};

std::unique_ptr<Scheduler> CreateThreadPool(ThreadPoolOptions options);

// Created and driven by one test thread, outside any task. When that thread itself waits on an
// Event or CondVar, the wait runs turns too, in manual time. Stop (and destruction) runs what is
// ready; tasks that then still wait are unwound by an exception thrown from their wait, so what
// they hold is released.
class ManualScheduler : public Scheduler {
 public:
  static std::unique_ptr<ManualScheduler> Create(uint64_t seed);
  // Runs tasks, advancing the clock over timers, until nothing is left or `until()` holds (checked
  // between turns). Returns false when tasks are left that wait for something that cannot happen
  // any more.
  virtual bool RunUntil(std::function<bool()> until) = 0;
  // The same for `by` of manual time; then the clock stands exactly `by` later.
  virtual void RunFor(Nanos by) = 0;
  virtual ManualClock& manual_clock() = 0;
};

}  // namespace perigee
