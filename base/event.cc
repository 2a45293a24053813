#include "base/event.h"

#include <algorithm>
#include <chrono>

#include "base/turn.h"

namespace perigee {

CondVar::CondVar() = default;

CondVar::~CondVar() {
  if (turn_) internal::OrphanWaiters(*turn_);
}

void CondVar::Wait(std::unique_lock<std::mutex>& lock) {
  if (internal::GoverningClock() != nullptr) {
    internal::WaitGoverned(turn_, lock, internal::kForever);
  } else {
    cv_.wait(lock);
  }
}

bool CondVar::WaitFor(std::unique_lock<std::mutex>& lock, Nanos timeout) {
  if (internal::GoverningClock() != nullptr) return internal::WaitGoverned(turn_, lock, timeout);
  // wait_for adds the timeout to the steady clock's now, which must not overflow.
  constexpr Nanos kLongest = 365 * 24 * 3600 * kSecond;
  auto span = std::chrono::nanoseconds(std::clamp<Nanos>(timeout, 0, kLongest));
  return cv_.wait_for(lock, span) == std::cv_status::no_timeout;
}

void CondVar::NotifyOne() {
  cv_.notify_one();
  if (internal::governed_waits.load() > 0) internal::NotifyGoverned(turn_, false);
}

void CondVar::NotifyAll() {
  cv_.notify_all();
  if (internal::governed_waits.load() > 0) internal::NotifyGoverned(turn_, true);
}

Nanos CondVar::Now() {
  const Clock* clock = internal::GoverningClock();
  return clock != nullptr ? clock->Monotonic() : RealClock::Get().Monotonic();
}

Nanos CondVar::DeadlineAfter(Nanos timeout) {
  return internal::SaturatingAdd(Now(), std::max<Nanos>(timeout, 0));
}

// Set notifies under the lock, so that a waiter that returns may destroy the event at once.
void Event::Set() {
  std::lock_guard lock(mu_);
  set_ = true;
  cv_.NotifyAll();
}

void Event::Reset() {
  std::lock_guard lock(mu_);
  set_ = false;
}

bool Event::IsSet() const {
  std::lock_guard lock(mu_);
  return set_;
}

void Event::Wait() {
  std::unique_lock lock(mu_);
  cv_.Wait(lock, [this] { return set_; });
}

bool Event::WaitFor(Nanos timeout) {
  std::unique_lock lock(mu_);
  return cv_.WaitFor(lock, timeout, [this] { return set_; });
}

}  // namespace perigee
