#pragma once
// Watermark: a position that only grows, and who waits for it to reach theirs. Each waits for an
// event of its own and is woken once, when it has what it waits for: nobody wakes for others'
// commits, and whoever wakes takes no lock that its waker may still hold.
// Thread rule: guarded by its owner's mutex, but for Wake and for the waits themselves.

#include <map>
#include <vector>

#include "base/event.h"
#include "objectd/kv/store.h"

namespace perigee::objectd::kv {

class Watermark {
 public:
  // On its thread's stack. Woken without having been reached, it looks for itself what happened.
  struct Waiter {
    bool reached = false;
    Event woken;
  };
  using Woken = std::vector<Waiter*>;

  explicit Watermark(Position at) : at_(at) {}
  Position at() const { return at_; }
  size_t waiting() const { return waiters_.size(); }

  // Then `waiter->woken.Wait()`, without the mutex.
  void Add(Position wanted, Waiter* waiter) { waiters_.emplace(wanted, waiter); }

  // Those to wake, which no longer wait here.
  [[nodiscard]] Woken MoveTo(Position position) {
    Woken out;
    at_ = position;
    auto end = waiters_.upper_bound(position);
    for (auto it = waiters_.begin(); it != end; ++it) {
      it->second->reached = true;
      out.push_back(it->second);
    }
    waiters_.erase(waiters_.begin(), end);
    return out;
  }
  // The one that is reached next.
  [[nodiscard]] Woken TakeFirst() {
    if (waiters_.empty()) return {};
    Woken out = {waiters_.begin()->second};
    waiters_.erase(waiters_.begin());
    return out;
  }
  [[nodiscard]] Woken TakeAll() {
    Woken out;
    for (const auto& [wanted, waiter] : waiters_) out.push_back(waiter);
    waiters_.clear();
    return out;
  }
  // With the mutex or, better, without it.
  static void Wake(const Woken& woken) {
    for (Waiter* waiter : woken) waiter->woken.Set();
  }

 private:
  Position at_;
  std::multimap<Position, Waiter*> waiters_;
};

}  // namespace perigee::objectd::kv
