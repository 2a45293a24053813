#include "rdma/event_loop.h"

#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <utility>

namespace perigee::rdma {

Result<std::shared_ptr<EventLoop>> EventLoop::Start(const std::string& name) {
  OwnedFd epoll(epoll_create1(EPOLL_CLOEXEC));
  if (epoll.get() < 0) return Status::FromErrno(errno, "epoll_create1");
  OwnedFd wake(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (wake.get() < 0) return Status::FromErrno(errno, "eventfd");
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = 0;
  if (epoll_ctl(epoll.get(), EPOLL_CTL_ADD, wake.get(), &event) != 0) {
    return Status::FromErrno(errno, "epoll_ctl");
  }
  std::shared_ptr<EventLoop> loop(new EventLoop(std::move(epoll), std::move(wake)));
  // Signals belong to the program's own threads (Python's main thread, a daemon's WaitForStop).
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  loop->thread_ = std::thread([raw = loop.get()] { raw->Run(); });
  pthread_setname_np(loop->thread_.native_handle(), name.substr(0, 15).c_str());
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return loop;
}

EventLoop::~EventLoop() { Stop(); }

void EventLoop::Wake() {
  if (woken_.exchange(true)) return;
  uint64_t one = 1;
  // Fails only when the counter is full, and then the loop is awake.
  (void)!write(wake_.get(), &one, sizeof one);
}

bool EventLoop::Post(std::function<void()> fn) {
  {
    std::lock_guard lock(mu_);
    if (stopping_) return false;
    posted_.push_back(std::move(fn));
  }
  if (!OnLoopThread()) Wake();
  return true;
}

EventLoop::TimerId EventLoop::At(Nanos when, std::function<void()> fn) {
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

void EventLoop::Cancel(TimerId id) {
  std::function<void()> dropped;  // destroyed without the lock
  std::lock_guard lock(mu_);
  auto it = timer_ids_.find(id);
  if (it == timer_ids_.end()) return;
  dropped = std::move(it->second->second.second);
  timers_.erase(it->second);
  timer_ids_.erase(it);
}

std::vector<std::function<void()>> EventLoop::TakeDue(Nanos now, int* wait_ms, bool* stop) {
  std::lock_guard lock(mu_);
  std::vector<std::function<void()>> due = std::exchange(posted_, {});
  *stop = stopping_ && due.empty();
  while (!stopping_ && !timers_.empty() && timers_.begin()->first <= now) {
    due.push_back(std::move(timers_.begin()->second.second));
    timer_ids_.erase(timers_.begin()->second.first);
    timers_.erase(timers_.begin());
  }
  if (!due.empty()) {
    *wait_ms = 0;
  } else if (timers_.empty()) {
    *wait_ms = -1;
  } else {
    Nanos left = timers_.begin()->first - now;
    *wait_ms =
        static_cast<int>(std::min<Nanos>((left + kMillisecond - 1) / kMillisecond, 3600 * 1000));
  }
  return due;
}

void EventLoop::Run() {
  thread_id_.store(std::this_thread::get_id());
  epoll_event events[64];
  while (true) {
    // Before the queues are looked at: what is posted from here on wakes the wait below.
    woken_.store(false);
    int wait_ms = -1;
    bool stop = false;
    auto due = TakeDue(RealClock::Get().Monotonic(), &wait_ms, &stop);
    if (stop) return;
    for (auto& fn : due) {
      fn();
      fn = nullptr;
    }
    int n = epoll_wait(epoll_.get(), events, 64, wait_ms);
    for (int i = 0; i < n; ++i) {
      uint64_t token = events[i].data.u64;
      if (token == 0) {
        uint64_t count;
        (void)!read(wake_.get(), &count, sizeof count);
        continue;
      }
      std::shared_ptr<Watcher> watcher;
      {
        std::lock_guard lock(mu_);
        auto it = watchers_.find(token);
        if (it != watchers_.end()) watcher = it->second;
      }
      if (watcher) watcher->OnReady(events[i].events);
    }
  }
}

void EventLoop::Stop() {
  decltype(timers_) timers;  // destroyed without the lock, as are the watchers
  decltype(watchers_) watchers;
  {
    std::lock_guard lock(mu_);
    stopping_ = true;
  }
  Wake();
  if (thread_.joinable()) thread_.join();
  std::lock_guard lock(mu_);
  timers.swap(timers_);
  timer_ids_.clear();
  watchers.swap(watchers_);
}

Status Watch::Begin(std::shared_ptr<EventLoop> loop, int fd, uint32_t events,
                    std::shared_ptr<Watcher> watcher) {
  std::lock_guard lock(mu_);
  uint64_t token;
  {
    std::lock_guard loop_lock(loop->mu_);
    if (loop->stopping_) return Status(Code::kCancelled, "the transport has stopped");
    token = loop->next_token_++;
    loop->watchers_.emplace(token, std::move(watcher));
  }
  epoll_event event{};
  event.events = events;
  event.data.u64 = token;
  if (epoll_ctl(loop->epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
    Status st = Status::FromErrno(errno, "epoll_ctl");
    std::shared_ptr<Watcher> dropped;
    std::lock_guard loop_lock(loop->mu_);
    auto it = loop->watchers_.find(token);
    if (it != loop->watchers_.end()) {
      dropped = std::move(it->second);
      loop->watchers_.erase(it);
    }
    return st;
  }
  loop_ = std::move(loop);
  fd_ = fd;
  token_ = token;
  events_ = events;
  return Status::Ok();
}

void Watch::Change(uint32_t add, uint32_t drop) {
  std::lock_guard lock(mu_);
  uint32_t wanted = (events_ | add) & ~drop;
  if (!loop_ || wanted == events_) return;
  epoll_event event{};
  event.events = wanted;
  event.data.u64 = token_;
  // A registered descriptor can always be modified; were it not, the connection's deadlines would
  // end its calls.
  if (epoll_ctl(loop_->epoll_.get(), EPOLL_CTL_MOD, fd_, &event) == 0) events_ = wanted;
}

void Watch::End() {
  std::shared_ptr<EventLoop> loop;
  std::shared_ptr<Watcher> watcher;  // destroyed without the locks
  {
    std::lock_guard lock(mu_);
    if (!loop_) return;
    loop = std::move(loop_);
    (void)epoll_ctl(loop->epoll_.get(), EPOLL_CTL_DEL, fd_, nullptr);
    std::lock_guard loop_lock(loop->mu_);
    auto it = loop->watchers_.find(token_);
    if (it != loop->watchers_.end()) {
      watcher = std::move(it->second);
      loop->watchers_.erase(it);
    }
  }
}

}  // namespace perigee::rdma
