#include "rdma/rendezvous/loop.h"

#include <poll.h>
#include <pthread.h>

#include <algorithm>
#include <csignal>
#include <optional>
#include <utility>

#include "base/event.h"

namespace perigee::rdma::rendezvous {

Result<std::shared_ptr<Loop>> Loop::Start(MakeWorker make_worker, Options options) {
  std::shared_ptr<Loop> loop(new Loop(std::move(options)));
  struct Started {
    Event told;
    std::optional<Status> status;
  };
  auto started = std::make_shared<Started>();
  // Signals belong to the program's own threads.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  loop->thread_ = std::thread([raw = loop.get(), make_worker = std::move(make_worker), started] {
    raw->Main(make_worker, [started](Status status) {
      started->status = std::move(status);
      started->told.Set();
    });
  });
  pthread_setname_np(loop->thread_.native_handle(), loop->options_.name.substr(0, 15).c_str());
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  started->told.Wait();
  if (!started->status->ok()) return *started->status;
  return loop;
}

Loop::~Loop() { Stop(); }

void Loop::Wake() {
  if (woken_.exchange(true)) return;
  std::lock_guard lock(mu_);
  if (signalled_ != nullptr) signalled_->Signal();
}

bool Loop::Post(std::function<void()> fn) {
  {
    std::lock_guard lock(mu_);
    if (stopping_) return false;
    posted_.push_back(std::move(fn));
  }
  if (!OnLoopThread()) Wake();
  return true;
}

bool Loop::Run(std::function<void()> fn) {
  if (!OnLoopThread()) return Post(std::move(fn));
  fn();
  return true;
}

Loop::TimerId Loop::At(Nanos when, std::function<void()> fn) {
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

void Loop::Cancel(TimerId id) {
  std::function<void()> dropped;  // destroyed without the lock
  std::lock_guard lock(mu_);
  auto it = timer_ids_.find(id);
  if (it == timer_ids_.end()) return;
  dropped = std::move(it->second->second.second);
  timers_.erase(it->second);
  timer_ids_.erase(it);
}

// True when something ran. What was posted from here on is seen by the next round, or wakes Sleep.
bool Loop::RunDue(Nanos* next_timer) {
  woken_.store(false);
  std::vector<std::function<void()>> due;
  {
    std::lock_guard lock(mu_);
    due.swap(posted_);
    if (!timers_.empty()) {
      Nanos now = RealClock::Get().Monotonic();
      while (!stopping_ && !timers_.empty() && timers_.begin()->first <= now) {
        due.push_back(std::move(timers_.begin()->second.second));
        timer_ids_.erase(timers_.begin()->second.first);
        timers_.erase(timers_.begin());
      }
    }
    *next_timer = timers_.empty() ? 0 : timers_.begin()->first;
  }
  for (auto& fn : due) {
    fn();
    fn = nullptr;
  }
  return !due.empty();
}

bool Loop::HasNews(Nanos next_timer) {
  std::lock_guard lock(mu_);
  bool earlier = !timers_.empty() && (next_timer == 0 || timers_.begin()->first < next_timer);
  return !posted_.empty() || stopping_ || earlier;
}

void Loop::Sleep(Nanos next_timer) {
  if (!worker_->Arm()) return;
  // Arming swallows a Signal that came before it.
  if (HasNews(next_timer)) return;
  timespec wait{};
  if (next_timer != 0) {
    Nanos left = std::max<Nanos>(next_timer - RealClock::Get().Monotonic(), 0);
    wait = {static_cast<time_t>(left / kSecond), static_cast<long>(left % kSecond)};
  }
  pollfd fd{worker_->event_fd(), POLLIN, 0};
  (void)ppoll(&fd, 1, next_timer != 0 ? &wait : nullptr, nullptr);
}

void Loop::Main(const MakeWorker& make_worker, std::function<void(Status)> started) {
  thread_id_.store(std::this_thread::get_id());
  auto worker = make_worker();
  if (!worker.ok()) return started(worker.status());
  worker_ = std::move(*worker);
  pulls_ =
      std::make_unique<Puller>(this, options_.provider, options_.pool, options_.pull_bytes_max);
  {
    std::lock_guard lock(mu_);
    signalled_ = worker_.get();
  }
  started(Status::Ok());
  while (true) {
    Nanos next_timer = 0;
    bool busy = RunDue(&next_timer);
    // Not until it has nothing to do any more: what is posted waits meanwhile.
    for (int round = 0; round < 64 && worker_->Progress(); ++round) busy = true;
    if (busy) continue;
    {
      std::lock_guard lock(mu_);
      if (stopping_ && posted_.empty()) break;
    }
    if (!options_.poll) Sleep(next_timer);
  }
  {
    std::lock_guard lock(mu_);
    signalled_ = nullptr;
  }
  pulls_->DropAll();
  worker_.reset();  // ends what is being pulled
  pulls_.reset();
}

void Loop::Stop() {
  decltype(timers_) timers;  // destroyed without the lock
  {
    std::lock_guard lock(mu_);
    stopping_ = true;
  }
  woken_.store(false);
  Wake();
  if (thread_.joinable()) thread_.join();
  std::lock_guard lock(mu_);
  timers.swap(timers_);
  timer_ids_.clear();
}

}  // namespace perigee::rdma::rendezvous
