#pragma once
// LoopTasks: what a loop's thread runs besides its input and output: functions that others post,
// and timers. The loop takes what is due, runs it with no lock held, and sleeps no longer than
// until the next timer.
//
// Thread rule: thread-safe, but for TakeDue, which is the loop's own.

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/clock.h"

namespace perigee::rdma {

class LoopTasks {
 public:
  using TimerId = uint64_t;  // 0 is never one

  // `wake` ends the loop's sleep. It runs on any thread, at most once until the next TakeDue.
  explicit LoopTasks(std::function<void()> wake) : wake_(std::move(wake)) {}

  // False after Stop: `fn` will not run.
  bool Post(std::function<void()> fn);
  // Runs `fn` at `when` (RealClock, monotonic). 0 after Stop.
  TimerId At(Nanos when, std::function<void()> fn);
  void Cancel(TimerId id);
  // Takes nothing more, and ends the loop's sleep. What was posted is still due, timers are not.
  void Stop();
  bool stopping() const;
  // After the loop's end.
  void DropTimers();

  // ---- for the loop's thread ----
  void EnterLoopThread() { thread_.store(std::this_thread::get_id()); }
  bool OnLoopThread() const { return std::this_thread::get_id() == thread_.load(); }
  struct Due {
    std::vector<std::function<void()>> functions;
    Nanos next_timer = 0;  // 0: none
    bool last = false;     // stopped, and there is nothing left to run
  };
  // What comes from here on wakes.
  Due TakeDue();
  // Whether there is something that TakeDue, with this next timer, did not know of.
  bool HasNews(Nanos next_timer) const;

 private:
  void Wake();

  const std::function<void()> wake_;
  std::atomic<std::thread::id> thread_;
  std::atomic<bool> woken_{false};
  mutable std::mutex mu_;  // guards what follows
  bool stopping_ = false;
  std::vector<std::function<void()>> posted_;
  std::multimap<Nanos, std::pair<TimerId, std::function<void()>>> timers_;
  std::unordered_map<TimerId, decltype(timers_)::iterator> timer_ids_;
  TimerId next_timer_ = 1;
};

}  // namespace perigee::rdma
