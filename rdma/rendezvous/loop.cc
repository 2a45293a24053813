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
  std::lock_guard lock(mu_);
  if (signalled_ != nullptr) signalled_->Signal();
}

void Loop::Signalled(Worker* worker) {
  std::lock_guard lock(mu_);
  signalled_ = worker;
}

bool Loop::Run(std::function<void()> fn) {
  if (!OnLoopThread()) return Post(std::move(fn));
  fn();
  return true;
}

void Loop::Sleep(Nanos next_timer) {
  if (!worker_->Arm()) return;
  // Arming swallows a Signal that came before it.
  if (tasks_.HasNews(next_timer)) return;
  timespec wait{};
  if (next_timer != 0) {
    Nanos left = std::max<Nanos>(next_timer - RealClock::Get().Monotonic(), 0);
    wait = {static_cast<time_t>(left / kSecond), static_cast<long>(left % kSecond)};
  }
  pollfd fd{worker_->event_fd(), POLLIN, 0};
  (void)ppoll(&fd, 1, next_timer != 0 ? &wait : nullptr, nullptr);
}

void Loop::Main(const MakeWorker& make_worker, std::function<void(Status)> started) {
  tasks_.EnterLoopThread();
  auto worker = make_worker();
  if (!worker.ok()) return started(worker.status());
  worker_ = std::move(*worker);
  pulls_ = std::make_unique<Puller>(this, options_.provider, options_.pool, options_.pull_bytes_max,
                                    options_.class_age);
  Signalled(worker_.get());
  started(Status::Ok());
  while (true) {
    auto due = tasks_.TakeDue();
    bool busy = !due.functions.empty();
    for (auto& fn : due.functions) {
      fn();
      fn = nullptr;
    }
    // Not until it has nothing to do any more: what is posted waits meanwhile.
    for (int round = 0; round < 64 && worker_->Progress(); ++round) busy = true;
    if (busy) continue;
    if (due.last) break;
    if (!options_.poll) Sleep(due.next_timer);
  }
  Signalled(nullptr);
  pulls_->DropAll();
  worker_.reset();  // ends what is being pulled
  pulls_.reset();
}

void Loop::Stop() {
  tasks_.Stop();
  if (thread_.joinable()) thread_.join();
  tasks_.DropTimers();
}

}  // namespace perigee::rdma::rendezvous
