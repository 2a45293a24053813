#include "rdma/loop_tasks.h"

namespace perigee::rdma {

void LoopTasks::Wake() {
  if (!woken_.exchange(true)) wake_();
}

bool LoopTasks::Post(std::function<void()> fn) {
  {
    std::lock_guard lock(mu_);
    if (stopping_) return false;
    posted_.push_back(std::move(fn));
  }
  if (!OnLoopThread()) Wake();
  return true;
}

LoopTasks::TimerId LoopTasks::At(Nanos when, std::function<void()> fn) {
  bool earliest;
  TimerId id;
  {
    std::lock_guard lock(mu_);
    if (stopping_) return 0;
    id = next_timer_++;
    auto it = timers_.emplace(when, std::make_pair(id, std::move(fn)));
    timer_ids_.emplace(id, it);
    earliest = it == timers_.begin();
  }
  if (earliest && !OnLoopThread()) Wake();
  return id;
}

void LoopTasks::Cancel(TimerId id) {
  std::function<void()> dropped;  // destroyed without the lock
  std::lock_guard lock(mu_);
  auto it = timer_ids_.find(id);
  if (it == timer_ids_.end()) return;
  dropped = std::move(it->second->second.second);
  timers_.erase(it->second);
  timer_ids_.erase(it);
}

void LoopTasks::Stop() {
  {
    std::lock_guard lock(mu_);
    stopping_ = true;
  }
  woken_.store(true);
  wake_();
}

bool LoopTasks::stopping() const {
  std::lock_guard lock(mu_);
  return stopping_;
}

void LoopTasks::DropTimers() {
  decltype(timers_) dropped;  // destroyed without the lock
  std::lock_guard lock(mu_);
  dropped.swap(timers_);
  timer_ids_.clear();
}

LoopTasks::Due LoopTasks::TakeDue() {
  woken_.store(false);
  Due due;
  std::lock_guard lock(mu_);
  due.functions.swap(posted_);
  due.last = stopping_ && due.functions.empty();
  if (timers_.empty()) return due;
  Nanos now = RealClock::Get().Monotonic();
  while (!stopping_ && !timers_.empty() && timers_.begin()->first <= now) {
    due.functions.push_back(std::move(timers_.begin()->second.second));
    timer_ids_.erase(timers_.begin()->second.first);
    timers_.erase(timers_.begin());
  }
  if (!timers_.empty()) due.next_timer = timers_.begin()->first;
  return due;
}

bool LoopTasks::HasNews(Nanos next_timer) const {
  std::lock_guard lock(mu_);
  bool earlier = !timers_.empty() && (next_timer == 0 || timers_.begin()->first < next_timer);
  return !posted_.empty() || stopping_ || earlier;
}

}  // namespace perigee::rdma
