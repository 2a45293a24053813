#pragma once
// Loop: one thread with its Worker; the provider's thread. Besides the network it serves timers and
// functions that others post. It sleeps on the worker's event descriptor when there is nothing to
// do, or, when asked to poll, never.
//
// Thread rule: thread-safe, but for worker() and pulls(), which are the loop's own; Stop and the
// destructor not from the loop's thread. Functions run on the loop's thread with no lock held.

#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>

#include "base/clock.h"
#include "rdma/loop_tasks.h"
#include "rdma/rendezvous/puller.h"
#include "rdma/rendezvous/worker.h"

namespace perigee::rdma::rendezvous {

class Loop : public std::enable_shared_from_this<Loop> {
 public:
  using TimerId = LoopTasks::TimerId;
  struct Options {
    std::string name;
    std::string provider;
    bool poll = false;
    std::shared_ptr<SlabPool> pool;  // of the pulls
    uint64_t pull_bytes_max = 0;
    Nanos class_age = kClassAge;
  };

  // On the loop's thread; called from there.
  using MakeWorker = std::function<Result<std::unique_ptr<Worker>>()>;

  static Result<std::shared_ptr<Loop>> Start(MakeWorker make_worker, Options options);
  ~Loop();

  // False after Stop: `fn` will not run.
  bool Post(std::function<void()> fn) { return tasks_.Post(std::move(fn)); }
  // Posts, or runs it now when this is the loop's thread.
  bool Run(std::function<void()> fn);
  // Runs `fn` at `when` (RealClock, monotonic). 0 after Stop.
  TimerId At(Nanos when, std::function<void()> fn) { return tasks_.At(when, std::move(fn)); }
  void Cancel(TimerId id) { tasks_.Cancel(id); }
  bool OnLoopThread() const { return tasks_.OnLoopThread(); }
  // Runs what was posted so far, drops timers, closes the worker, joins the thread.
  void Stop();

  Worker& worker() { return *worker_; }
  Puller& pulls() { return *pulls_; }

 private:
  explicit Loop(Options options) : options_(std::move(options)), tasks_([this] { Wake(); }) {}
  void Main(const MakeWorker& make_worker, std::function<void(Status)> started);
  void Signalled(Worker* worker);
  void Sleep(Nanos next_timer);
  void Wake();

  const Options options_;
  LoopTasks tasks_;
  std::thread thread_;
  std::unique_ptr<Worker> worker_;  // the loop's thread only, as is what follows
  std::unique_ptr<Puller> pulls_;
  std::mutex mu_;                // guards what follows
  Worker* signalled_ = nullptr;  // worker_, from Start to Stop
};

}  // namespace perigee::rdma::rendezvous
