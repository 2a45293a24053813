// ManualScheduler: every task runs on a thread of its own (a lane), but only the one that has the
// turn runs. The driving thread gives the turn to a ready task drawn from the seed and gets it back
// when the task ends or waits. When nothing is ready, the clock jumps to the next timer or timed
// wait.

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <map>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/random.h"
#include "base/scheduler.h"
#include "base/turn.h"

namespace perigee {
namespace internal {

class Manual;
struct Lane;

// One wait of a governed thread; lives on its stack.
struct Waiter {
  Manual* owner;
  Lane* lane;            // null: the driving thread
  bool may_unwind;       // no exception or task's end is in progress, so the wait may throw
  Turn* turn = nullptr;  // null once woken or orphaned
  Nanos deadline = kForever;
  uint64_t number = 0;
  bool woken = false;
  bool timed_out = false;
  bool orphaned = false;
  bool unwind = false;
};

struct Lane {
  Manual* owner;
  std::thread thread;
  std::condition_variable cv;
  bool has_turn = false;
  bool quit = false;
  bool finishing = false;  // the task returned, what it holds is being destroyed
  Task task;
  Waiter* waiter = nullptr;
};

namespace {

// Not part of a scheduler, because a notify does not know which one its waiters belong to.
std::mutex g_mu;

// Thrown out of a wait to release a task that waits for ever.
struct TaskUnwound : std::exception {
  const char* what() const noexcept override {
    return "a task of a ManualScheduler still waited when the scheduler was stopped, in a place "
           "that cannot be unwound";
  }
};

[[noreturn]] void Die(const char* why) {
  std::fprintf(stderr, "perigee: ManualScheduler: %s\n", why);
  std::abort();
}

thread_local Lane* t_lane = nullptr;      // of a thread that runs tasks
thread_local Manual* t_driven = nullptr;  // what this thread created last; see Manual::outer_

}  // namespace

std::atomic<int> governed_waits{0};

class Manual final : public ManualScheduler {
 public:
  explicit Manual(uint64_t seed)
      : random_(seed), outer_(t_driven), creator_(std::this_thread::get_id()) {
    PERIGEE_CHECK(t_lane == nullptr);
    t_driven = this;
  }

  ~Manual() override {
    PERIGEE_CHECK(std::this_thread::get_id() == creator_);
    Stop();
    Manual** link = &t_driven;
    while (*link != this) link = &(*link)->outer_;
    *link = outer_;
  }

  Status Post(Task task) override {
    std::lock_guard g(g_mu);
    if (stopping_) return Status(Code::kCancelled, "the manual scheduler is stopping");
    MakeReady({std::move(task), nullptr});
    return Status::Ok();
  }

  TimerId PostAfter(Nanos delay, Task task) override {
    std::lock_guard g(g_mu);
    if (stopping_) return 0;
    TimerId id = next_number_++;
    Nanos deadline = SaturatingAdd(clock_.Monotonic(), std::max<Nanos>(delay, 0));
    timers_.emplace(std::pair(deadline, id), std::move(task));
    timer_deadlines_.emplace(id, deadline);
    return id;
  }

  bool Cancel(TimerId id) override {
    Task dropped;  // destroyed after the lock: what it holds may call back
    std::lock_guard g(g_mu);
    auto it = timer_deadlines_.find(id);
    if (it == timer_deadlines_.end()) return false;
    auto timer = timers_.find({it->second, id});
    dropped = std::move(timer->second);
    timers_.erase(timer);
    timer_deadlines_.erase(it);
    return true;
  }

  Clock& clock() override { return clock_; }
  ManualClock& manual_clock() override { return clock_; }

  bool RunUntil(std::function<bool()> until) override {
    PERIGEE_CHECK(t_lane == nullptr);
    for (;;) {
      if (until && until()) return true;
      std::unique_lock g(g_mu);
      if (!Step(g, kForever)) return live_ == 0;
    }
  }

  void RunFor(Nanos by) override {
    PERIGEE_CHECK(t_lane == nullptr);
    Nanos end = SaturatingAdd(clock_.Monotonic(), by);
    {
      std::unique_lock g(g_mu);
      while (Step(g, end)) {
      }
    }
    clock_.AdvanceTo(end);
  }

  void Stop() override {
    std::map<std::pair<Nanos, uint64_t>, Task> dropped;
    std::vector<std::unique_ptr<Lane>> lanes;
    {
      std::unique_lock g(g_mu);
      stopping_ = true;
      dropped.swap(timers_);
      timer_deadlines_.clear();
      // A task cannot wait for itself: the driving thread's Stop finishes what this began.
      if (t_lane != nullptr) return;
      while (Step(g, clock_.Monotonic())) {
      }
      UnwindWaiting();
      while (live_ > 0 || !ready_.empty()) {
        if (!Step(g, kForever))
          Die("stopped, but a task waits while it is unwound, for something that cannot happen");
      }
      for (auto& lane : lanes_) {
        lane->quit = true;
        lane->cv.notify_one();
      }
      lanes.swap(lanes_);
      idle_.clear();
    }
    for (auto& lane : lanes) lane->thread.join();
  }

  bool WaitInTask(Lane& lane, std::unique_ptr<Turn>& turn, std::unique_lock<std::mutex>& lock,
                  Nanos timeout) {
    Waiter waiter{this, &lane, !lane.finishing && std::uncaught_exceptions() == 0};
    std::unique_lock g(g_mu);
    if (unwinding_ && waiter.may_unwind) throw TaskUnwound();
    Enlist(waiter, turn, timeout);
    lane.waiter = &waiter;
    lock.unlock();
    lane.has_turn = false;
    ReturnTurn();
    lane.cv.wait(g, [&] { return lane.has_turn; });
    lane.waiter = nullptr;
    g.unlock();
    // The mutex went with the CondVar it belongs to.
    if (!waiter.orphaned) lock.lock();
    if (waiter.unwind) throw TaskUnwound();
    return !waiter.timed_out;
  }

  bool WaitOnDriver(std::unique_ptr<Turn>& turn, std::unique_lock<std::mutex>& lock,
                    Nanos timeout) {
    Waiter waiter{this, nullptr, false};
    {
      std::unique_lock g(g_mu);
      Enlist(waiter, turn, timeout);
      lock.unlock();
      auto changed = [&] { return waiter.woken || !ready_.empty() || !timers_.empty(); };
      while (!waiter.woken) {
        bool idle = live_ == 0 && ready_.empty() && timers_.empty();
        if (idle && waiter.deadline == kForever) {
          driver_.wait(
              g, changed);  // as on an ordinary thread: someone outside the scheduler will notify
        } else if (idle) {
          Nanos left = std::clamp<Nanos>(waiter.deadline - clock_.Monotonic(), 0, kOutsideMax);
          if (!driver_.wait_for(g, std::chrono::nanoseconds(left), changed)) Step(g, kForever);
        } else if (!Step(g, kForever)) {
          if (!driver_.wait_for(g, std::chrono::nanoseconds(kOutsideMax), changed)) {
            Die("deadlock: the driving thread and every task wait, and no timer is left");
          }
        }
      }
    }
    lock.lock();
    return !waiter.timed_out;
  }

  // Ends the wait of `waiter`. g_mu is held, here and below.
  void Wake(Waiter& waiter, bool timed_out) {
    if (waiter.turn != nullptr) std::erase(waiter.turn->waiters, &waiter);
    waiter.turn = nullptr;
    if (waiter.deadline != kForever) timed_waits_.erase({waiter.deadline, waiter.number});
    governed_waits.fetch_sub(1);
    waiter.woken = true;
    waiter.timed_out = timed_out;
    if (waiter.lane != nullptr) {
      MakeReady({nullptr, waiter.lane});
    } else {
      driver_.notify_all();
    }
  }

  void Orphan(Waiter& waiter) {
    waiter.turn = nullptr;
    waiter.orphaned = true;
    if (waiter.deadline != kForever) timed_waits_.erase({waiter.deadline, waiter.number});
    waiter.deadline = kForever;
  }

  size_t Draw(size_t bound) { return random_.Below(bound); }

 private:
  static constexpr Nanos kOutsideMax =
      10 * kSecond;  // real time, for notifies from outside the scheduler

  struct Ready {
    Task task;   // to start, or
    Lane* lane;  // to resume
  };

  void MakeReady(Ready ready) {
    ready_.push_back(std::move(ready));
    driver_.notify_all();
  }

  void Enlist(Waiter& waiter, std::unique_ptr<Turn>& turn, Nanos timeout) {
    if (!turn) turn = std::make_unique<Turn>();
    waiter.turn = turn.get();
    waiter.number = next_number_++;
    if (timeout != kForever) {
      waiter.deadline = SaturatingAdd(clock_.Monotonic(), std::max<Nanos>(timeout, 0));
      if (waiter.deadline != kForever)
        timed_waits_.emplace(std::pair(waiter.deadline, waiter.number), &waiter);
    }
    turn->waiters.push_back(&waiter);
    governed_waits.fetch_add(1);
  }

  // Runs one turn, jumping to the next instant up to `latest` when nothing is ready. False when
  // there is nothing to do.
  bool Step(std::unique_lock<std::mutex>& g, Nanos latest) {
    MakeDueReady();
    if (ready_.empty()) {
      Nanos next = kForever;
      if (!timers_.empty()) next = timers_.begin()->first.first;
      if (!timed_waits_.empty()) next = std::min(next, timed_waits_.begin()->first.first);
      if (next == kForever || next > latest) return false;
      clock_.AdvanceTo(next);
      MakeDueReady();
      if (ready_.empty()) return true;  // only the driving thread's own wait came due
    }
    size_t pick = random_.Below(ready_.size());
    Ready ready = std::move(ready_[pick]);
    ready_.erase(ready_.begin() + static_cast<std::ptrdiff_t>(pick));
    Lane* lane = ready.lane;
    if (lane == nullptr) {
      lane = TakeLane();
      lane->task = std::move(ready.task);
      ++live_;
    }
    lane->has_turn = true;
    running_ = true;
    lane->cv.notify_one();
    driver_.wait(g, [this] { return !running_; });
    return true;
  }

  void MakeDueReady() {
    Nanos now = clock_.Monotonic();
    while (!timers_.empty() && timers_.begin()->first.first <= now) {
      auto it = timers_.begin();
      timer_deadlines_.erase(it->first.second);
      MakeReady({std::move(it->second), nullptr});
      timers_.erase(it);
    }
    while (!timed_waits_.empty() && timed_waits_.begin()->first.first <= now)
      Wake(*timed_waits_.begin()->second, true);
  }

  void UnwindWaiting() {
    unwinding_ = true;
    for (auto& lane : lanes_) {
      Waiter* waiter = lane->waiter;
      if (waiter == nullptr || !waiter->may_unwind) continue;
      waiter->unwind = true;
      Wake(*waiter, false);
    }
  }

  void ReturnTurn() {
    running_ = false;
    driver_.notify_all();
  }

  Lane* TakeLane() {
    if (idle_.empty()) {
      lanes_.push_back(std::make_unique<Lane>());
      Lane* lane = lanes_.back().get();
      lane->owner = this;
      lane->thread = std::thread([this, lane] { RunLane(*lane); });
      return lane;
    }
    Lane* lane = idle_.back();
    idle_.pop_back();
    return lane;
  }

  void RunLane(Lane& lane) {
    t_lane = &lane;
    std::unique_lock g(g_mu);
    for (;;) {
      lane.cv.wait(g, [&] { return lane.has_turn || lane.quit; });
      if (lane.quit) return;
      Task task = std::move(lane.task);
      lane.task = nullptr;
      lane.finishing = false;
      g.unlock();
      try {
        task();
      } catch (const TaskUnwound&) {
      }
      lane.finishing = true;
      task = nullptr;
      g.lock();
      lane.has_turn = false;
      --live_;
      idle_.push_back(&lane);
      ReturnTurn();
    }
  }

  ManualClock clock_;
  Random random_;
  Manual* outer_;  // what the creating thread drove before
  const std::thread::id creator_;
  std::condition_variable driver_;
  std::vector<Ready> ready_;
  std::map<std::pair<Nanos, uint64_t>, Task> timers_;
  std::unordered_map<TimerId, Nanos> timer_deadlines_;
  std::map<std::pair<Nanos, uint64_t>, Waiter*> timed_waits_;
  std::vector<std::unique_ptr<Lane>> lanes_;
  std::vector<Lane*> idle_;
  uint64_t next_number_ = 1;
  size_t live_ = 0;  // tasks started and not ended
  bool running_ = false;
  bool stopping_ = false;
  bool unwinding_ = false;
};

const Clock* GoverningClock() {
  Manual* manual = t_lane != nullptr ? t_lane->owner : t_driven;
  return manual != nullptr ? &manual->manual_clock() : nullptr;
}

bool WaitGoverned(std::unique_ptr<Turn>& turn, std::unique_lock<std::mutex>& lock, Nanos timeout) {
  if (t_lane != nullptr) return t_lane->owner->WaitInTask(*t_lane, turn, lock, timeout);
  return t_driven->WaitOnDriver(turn, lock, timeout);
}

void NotifyGoverned(std::unique_ptr<Turn>& turn, bool all) {
  std::lock_guard g(g_mu);
  if (!turn) return;
  auto& waiters = turn->waiters;
  while (!waiters.empty()) {
    Manual* owner = waiters.front()->owner;
    Waiter* waiter = all ? waiters.front() : waiters[owner->Draw(waiters.size())];
    waiter->owner->Wake(*waiter, false);
    if (!all) return;
  }
}

void OrphanWaiters(Turn& turn) {
  std::lock_guard g(g_mu);
  for (Waiter* waiter : turn.waiters) waiter->owner->Orphan(*waiter);
  turn.waiters.clear();
}

}  // namespace internal

std::unique_ptr<ManualScheduler> ManualScheduler::Create(uint64_t seed) {
  return std::make_unique<internal::Manual>(seed);
}

}  // namespace perigee
