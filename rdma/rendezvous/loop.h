#pragma once
// Loop: one thread with its Worker; the provider's thread. Besides the network it serves timers and
// functions that others post. It sleeps on the worker's event descriptor when there is nothing to
// do, or, when asked to poll, never.
//
// Thread rule: thread-safe, but for worker() and pulls(), which are the loop's own; Stop and the
// destructor not from the loop's thread. Functions run on the loop's thread with no lock held.

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "base/clock.h"
#include "rdma/rendezvous/puller.h"
#include "rdma/rendezvous/worker.h"

namespace perigee::rdma::rendezvous {

class Loop : public std::enable_shared_from_this<Loop> {
 public:
  using TimerId = uint64_t;  // 0 is never one
  struct Options {
    std::string name;
    std::string provider;
    bool poll = false;
    std::shared_ptr<SlabPool> pool;  // of the pulls
    uint64_t pull_bytes_max = 0;
  };

  // On the loop's thread; called from there.
  using MakeWorker = std::function<Result<std::unique_ptr<Worker>>()>;

  static Result<std::shared_ptr<Loop>> Start(MakeWorker make_worker, Options options);
  ~Loop();

  // False after Stop: `fn` will not run.
  bool Post(std::function<void()> fn);
  // Posts, or runs it now when this is the loop's thread.
  bool Run(std::function<void()> fn);
  // Runs `fn` at `when` (RealClock, monotonic). 0 after Stop.
  TimerId At(Nanos when, std::function<void()> fn);
  void Cancel(TimerId id);
  bool OnLoopThread() const { return std::this_thread::get_id() == thread_id_.load(); }
  // Runs what was posted so far, drops timers, closes the worker, joins the thread.
  void Stop();

  Worker& worker() { return *worker_; }
  Puller& pulls() { return *pulls_; }

 private:
  explicit Loop(Options options) : options_(std::move(options)) {}
  void Main(const MakeWorker& make_worker, std::function<void(Status)> started);
  bool RunDue(Nanos* next_timer);
  void Sleep(Nanos next_timer);
  void Wake();
  bool HasNews(Nanos next_timer);

  const Options options_;
  std::thread thread_;
  std::atomic<std::thread::id> thread_id_;
  std::atomic<bool> woken_{false};
  // The loop's thread only. The raw pointer is for Wake, and stands from Start to Stop.
  std::unique_ptr<Worker> worker_;
  std::unique_ptr<Puller> pulls_;
  std::mutex mu_;  // guards what follows
  bool stopping_ = false;
  Worker* signalled_ = nullptr;
  std::vector<std::function<void()>> posted_;
  std::multimap<Nanos, std::pair<TimerId, std::function<void()>>> timers_;
  std::unordered_map<TimerId, decltype(timers_)::iterator> timer_ids_;
  TimerId next_timer_ = 1;
};

}  // namespace perigee::rdma::rendezvous
