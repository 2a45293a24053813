// ThreadPool: the Scheduler of daemons. The pool's own threads serve its timers: one idle thread at
// a time (the watcher) sleeps until the next deadline, the others until there is a task. When all
// are busy, a due timer waits for a thread like any task would, but is never refused by the bound
// of the queue.
//
// Waking is what light work costs most, so one thread is woken at a time, the one that went idle
// last; when it arrives and finds more than one task it wakes the next. Threads that come back from
// a task meanwhile take the rest without having slept.

#include <pthread.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/scheduler.h"
#include "base/turn.h"

namespace perigee {
namespace {

class ThreadPool final : public Scheduler {
 public:
  explicit ThreadPool(ThreadPoolOptions options) : options_(std::move(options)) {
    options_.threads = std::max<uint32_t>(options_.threads, 1);
    threads_.reserve(options_.threads);
    idle_.reserve(options_.threads);
    for (uint32_t i = 0; i < options_.threads; ++i) {
      Worker* worker = &workers_.emplace_back();
      threads_.emplace_back([this, worker] { RunThread(worker); });
    }
  }
  ~ThreadPool() override { Stop(); }

  Status Post(Task task) override {
    Worker* next;
    {
      std::lock_guard lock(mu_);
      if (stopping_) return Status(Code::kCancelled, options_.name + " is stopping");
      if (queue_.size() >= options_.queue_max) {
        return Status(Code::kBusy,
                      options_.name + " has " + std::to_string(queue_.size()) + " tasks waiting");
      }
      queue_.push_back(std::move(task));
      next = ToWake();
    }
    if (next != nullptr) next->Wake();
    return Status::Ok();
  }

  TimerId PostAfter(Nanos delay, Task task) override {
    std::lock_guard lock(mu_);
    if (stopping_) return 0;
    TimerId id = next_timer_++;
    Nanos deadline = internal::SaturatingAdd(clock().Monotonic(), std::max<Nanos>(delay, 0));
    auto it = timers_.emplace(std::pair(deadline, id), std::move(task)).first;
    deadlines_.emplace(id, deadline);
    if (it == timers_.begin()) {
      if (watched_) {
        watcher_.notify_one();
      } else if (Worker* next = ToWake()) {
        next->Wake();
      }
    }
    return id;
  }

  bool Cancel(TimerId id) override {
    Task dropped;  // destroyed after the lock: what it holds may call back
    std::lock_guard lock(mu_);
    auto it = deadlines_.find(id);
    if (it == deadlines_.end()) return false;
    auto timer = timers_.find({it->second, id});
    dropped = std::move(timer->second);
    timers_.erase(timer);
    deadlines_.erase(it);
    return true;
  }

  Clock& clock() override { return RealClock::Get(); }

  void Stop() override {
    std::call_once(stopped_, [this] {
      std::map<std::pair<Nanos, TimerId>, Task> dropped;
      {
        std::lock_guard lock(mu_);
        stopping_ = true;
        dropped.swap(timers_);
        deadlines_.clear();
        for (Worker* worker : std::exchange(idle_, {})) worker->Wake();
        watcher_.notify_all();
      }
      for (std::thread& t : threads_) {
        PERIGEE_CHECK(t.get_id() != std::this_thread::get_id());
        t.join();
      }
    });
  }

 private:
  // Where one thread waits while it is idle.
  class Worker {
   public:
    void Wake() {
      {
        std::lock_guard lock(mu_);
        woken_ = true;
      }
      cv_.notify_one();
    }
    void Wait() {
      std::unique_lock lock(mu_);
      cv_.wait(lock, [this] { return woken_; });
      woken_ = false;
    }

   private:
    std::mutex mu_;  // guards woken_; taken after the pool's
    std::condition_variable cv_;
    bool woken_ = false;
  };

  void RunThread(Worker* self) {
    pthread_setname_np(pthread_self(), options_.name.substr(0, 15).c_str());
    for (;;) {
      Task task = NextTask(self);
      if (!task) return;
      task();
    }
  }

  // Empty when the pool stops and nothing is left to run.
  Task NextTask(Worker* self) {
    std::unique_lock lock(mu_);
    for (;;) {
      QueueDueTimers();
      if (!queue_.empty()) break;
      if (stopping_) return nullptr;
      if (!timers_.empty() && !watched_) {
        constexpr Nanos kLongest = 3600 * kSecond;  // bounds what is added to the clock
        Nanos left = timers_.begin()->first.first - clock().Monotonic();
        watched_ = true;
        watcher_.wait_for(lock, std::chrono::nanoseconds(std::clamp<Nanos>(left, 0, kLongest)));
        watched_ = false;
      } else {
        idle_.push_back(self);
        lock.unlock();
        self->Wait();
        lock.lock();
        arriving_ = false;
      }
    }
    Task task = std::move(queue_.front());
    queue_.pop_front();
    // This thread may have been the watcher, and several timers may have come due at once.
    Worker* next = nullptr;
    if (!queue_.empty() || (!timers_.empty() && !watched_)) next = ToWake();
    lock.unlock();
    if (next != nullptr) next->Wake();
    return task;
  }

  void QueueDueTimers() {
    if (timers_.empty()) return;
    Nanos now = clock().Monotonic();
    while (!timers_.empty() && timers_.begin()->first.first <= now) {
      auto it = timers_.begin();
      deadlines_.erase(it->first.second);
      queue_.push_back(std::move(it->second));
      timers_.erase(it);
    }
  }

  // Whom the caller has to wake so that somebody looks at the queue and the timers; null: somebody
  // will.
  Worker* ToWake() {
    if (arriving_) return nullptr;
    if (idle_.empty()) {
      if (watched_) watcher_.notify_one();
      return nullptr;
    }
    Worker* worker = idle_.back();
    idle_.pop_back();
    arriving_ = true;
    return worker;
  }

  ThreadPoolOptions options_;
  std::deque<Worker> workers_;
  std::mutex mu_;              // guards all below but threads_
  std::vector<Worker*> idle_;  // in the order in which they went idle
  std::condition_variable watcher_;
  bool arriving_ = false;  // one was woken and has not looked yet
  bool watched_ = false;
  bool stopping_ = false;
  std::deque<Task> queue_;
  std::map<std::pair<Nanos, TimerId>, Task> timers_;
  std::unordered_map<TimerId, Nanos> deadlines_;
  TimerId next_timer_ = 1;
  std::once_flag stopped_;
  std::vector<std::thread> threads_;
};

}  // namespace

std::unique_ptr<Scheduler> CreateThreadPool(ThreadPoolOptions options) {
  return std::make_unique<ThreadPool>(std::move(options));
}

}  // namespace perigee
