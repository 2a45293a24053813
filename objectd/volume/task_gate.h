#pragma once
// TaskGate: lets an owner of background tasks go away safely (Seastar's gate). Tasks and timers
// enter before they touch the owner; Close lets no more in and waits for those inside. Thread-safe.

#include <memory>
#include <mutex>

#include "base/event.h"
#include "base/scheduler.h"

namespace perigee::objectd {

class TaskGate {
 public:
  bool Enter() {
    std::lock_guard lock(mu_);
    if (closed_) return false;
    inside_++;
    return true;
  }
  void Leave() {
    std::lock_guard lock(mu_);
    if (--inside_ == 0) empty_.NotifyAll();
  }
  bool closed() const {
    std::lock_guard lock(mu_);
    return closed_;
  }
  void Close() {
    std::unique_lock lock(mu_);
    closed_ = true;
    while (inside_ > 0) empty_.Wait(lock);
  }

 private:
  mutable std::mutex mu_;  // guards what follows
  CondVar empty_;
  bool closed_ = false;
  uint32_t inside_ = 0;
};

// Runs `task` inside the gate. False: closed, or the pool takes nothing now; it will not run.
inline bool PostInside(const std::shared_ptr<TaskGate>& gate, Scheduler& pool, Task task) {
  if (!gate->Enter()) return false;
  Status posted = pool.Post([gate, task = std::move(task)] {
    task();
    gate->Leave();
  });
  if (!posted.ok()) gate->Leave();
  return posted.ok();
}

}  // namespace perigee::objectd
