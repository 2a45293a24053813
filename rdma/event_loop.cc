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

namespace {

// Up to a millisecond late; never more than an hour.
int WaitMs(const LoopTasks::Due& due) {
  if (!due.functions.empty()) return 0;
  if (due.next_timer == 0) return -1;
  Nanos left = std::max<Nanos>(due.next_timer - RealClock::Get().Monotonic(), 0);
  return static_cast<int>(std::min<Nanos>((left + kMillisecond - 1) / kMillisecond, 3600 * 1000));
}

}  // namespace

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

EventLoop::EventLoop(OwnedFd epoll, OwnedFd wake)
    : epoll_(std::move(epoll)), wake_(std::move(wake)), tasks_([this] {
        uint64_t one = 1;
        // Fails only when the counter is full, and then the loop is awake.
        (void)!write(wake_.get(), &one, sizeof one);
      }) {}

EventLoop::~EventLoop() { Stop(); }

void EventLoop::Run() {
  tasks_.EnterLoopThread();
  epoll_event events[64];
  while (true) {
    auto due = tasks_.TakeDue();
    if (due.last) return;
    int wait_ms = WaitMs(due);
    for (auto& fn : due.functions) {
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
  tasks_.Stop();
  if (thread_.joinable()) thread_.join();
  tasks_.DropTimers();
  decltype(watchers_) watchers;  // destroyed without the lock
  std::lock_guard lock(mu_);
  watchers.swap(watchers_);
}

Status Watch::Begin(std::shared_ptr<EventLoop> loop, int fd, uint32_t events,
                    std::shared_ptr<Watcher> watcher) {
  std::lock_guard lock(mu_);
  uint64_t token;
  {
    std::lock_guard loop_lock(loop->mu_);
    if (loop->tasks_.stopping()) return Status(Code::kCancelled, "the transport has stopped");
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
