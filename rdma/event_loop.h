#pragma once
// EventLoop: one thread that waits for descriptors (epoll), timers and posted functions; the
// provider's thread of `local` and `tls`. It sleeps when there is nothing to do.
//
// Thread rule: thread-safe, but Stop and the destructor not from the loop's own thread. Functions
// and watchers run on the loop's thread, with none of its locks held.

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <utility>

#include "base/clock.h"
#include "base/status.h"
#include "rdma/loop_tasks.h"
#include "rdma/transport.h"

namespace perigee::rdma {

class Watcher {
 public:
  virtual ~Watcher() = default;
  virtual void OnReady(uint32_t events) = 0;  // EPOLL*; the loop's thread
};

class EventLoop : public std::enable_shared_from_this<EventLoop> {
 public:
  using TimerId = LoopTasks::TimerId;

  static Result<std::shared_ptr<EventLoop>> Start(const std::string& name);
  ~EventLoop();

  // False after Stop: `fn` will not run.
  bool Post(std::function<void()> fn) { return tasks_.Post(std::move(fn)); }
  // Runs `fn` at `when` (RealClock, monotonic), up to a millisecond late. 0 after Stop.
  TimerId At(Nanos when, std::function<void()> fn) { return tasks_.At(when, std::move(fn)); }
  void Cancel(TimerId id) { tasks_.Cancel(id); }
  bool OnLoopThread() const { return tasks_.OnLoopThread(); }
  // Runs what was posted so far, drops timers, joins the thread.
  void Stop();

 private:
  friend class Watch;
  EventLoop(OwnedFd epoll, OwnedFd wake);
  void Run();

  OwnedFd epoll_;
  OwnedFd wake_;
  LoopTasks tasks_;
  std::thread thread_;
  std::mutex mu_;  // guards what follows; taken before that of tasks_
  std::unordered_map<uint64_t, std::shared_ptr<Watcher>> watchers_;  // by epoll token
  uint64_t next_token_ = 1;                                          // 0 is wake_
};

// A descriptor's registration. The loop keeps the watcher alive until End; an OnReady that is
// running meanwhile ends afterwards. Thread-safe.
class Watch {
 public:
  Status Begin(std::shared_ptr<EventLoop> loop, int fd, uint32_t events,
               std::shared_ptr<Watcher> watcher);
  void Add(uint32_t events) { Change(events, 0); }
  void Drop(uint32_t events) { Change(0, events); }
  void End();
  ~Watch() { End(); }

 private:
  void Change(uint32_t add, uint32_t drop);
  std::mutex mu_;  // guards what follows; taken before the loop's
  std::shared_ptr<EventLoop> loop_;
  int fd_ = -1;
  uint64_t token_ = 0;
  uint32_t events_ = 0;
};

}  // namespace perigee::rdma
