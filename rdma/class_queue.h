#pragma once
// ClassQueue: what waits, by traffic class. The highest class goes first; within a class, first in,
// first out. A class that has waited for `age`, since something began to wait in it or since it was
// last served, counts as one higher until it is served: so each gets on, and yet a long queue of
// old flush calls does not stand before a new checkpoint call. Of two that count the same, the one
// that has waited longer goes first.
//
// ClassOrder is that rule by itself, for what keeps its items in another way. Whoever owns a queue
// bounds it. Thread rule: none of their own; `now` is the same monotonic clock everywhere.

#include <algorithm>
#include <array>
#include <deque>
#include <iterator>
#include <optional>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "rdma/traffic_class.h"

namespace perigee::rdma {

inline constexpr Nanos kClassAge = 100 * kMillisecond;

class ClassOrder {
 public:
  explicit ClassOrder(Nanos age = kClassAge) : age_(std::max<Nanos>(age, 1)) {}

  // Something waits in a class where nothing did, or one of several was served.
  void WaitsSince(TrafficClass traffic, Nanos now) { since_[IndexOf(traffic)] = now; }

  // The class to serve, of those for which `may` is true; nothing when there is none.
  template <class May>
  std::optional<TrafficClass> Next(Nanos now, May may) const {
    std::optional<TrafficClass> best;
    for (size_t i = 0; i < kTrafficClasses; ++i) {
      TrafficClass traffic = TrafficClassAt(i);
      if (may(traffic) && (!best || GoesBefore(traffic, *best, now))) best = traffic;
    }
    return best;
  }

 private:
  bool GoesBefore(TrafficClass a, TrafficClass b, Nanos now) const {
    auto rank = [&](TrafficClass traffic) {
      return std::max<Nanos>(
          static_cast<Nanos>(IndexOf(traffic)) - (now - since_[IndexOf(traffic)]) / age_, 0);
    };
    if (rank(a) != rank(b)) return rank(a) < rank(b);
    return since_[IndexOf(a)] < since_[IndexOf(b)];
  }

  Nanos age_;
  std::array<Nanos, kTrafficClasses> since_{};
};

template <class T>
class ClassQueue {
 public:
  explicit ClassQueue(Nanos age = kClassAge) : order_(age) {}

  void Push(TrafficClass traffic, T item, Nanos now) {
    auto& queue = Of(traffic);
    if (queue.empty()) order_.WaitsSince(traffic, now);
    queue.push_back(std::move(item));
    ++size_;
  }

  // The class whose first item is next, of those for which `may` is true.
  template <class May>
  std::optional<TrafficClass> Next(Nanos now, May may) const {
    if (empty()) return std::nullopt;
    return order_.Next(now, [&](TrafficClass traffic) {
      return !queues_[IndexOf(traffic)].empty() && may(traffic);
    });
  }
  std::optional<TrafficClass> Next(Nanos now) const {
    return Next(now, [](TrafficClass) { return true; });
  }
  const T& Front(TrafficClass traffic) const { return queues_[IndexOf(traffic)].front(); }
  T Pop(TrafficClass traffic, Nanos now) {
    T item = std::move(Of(traffic).front());
    Of(traffic).pop_front();
    --size_;
    order_.WaitsSince(traffic, now);
    return item;
  }

  // False when it does not wait.
  bool Erase(TrafficClass traffic, const T& item) {
    size_t erased = std::erase(Of(traffic), item);
    size_ -= erased;
    return erased > 0;
  }
  // By class, then in the order they came.
  std::vector<T> TakeAll() {
    std::vector<T> all;
    all.reserve(size_);
    for (auto& queue : queues_) {
      std::move(queue.begin(), queue.end(), std::back_inserter(all));
    }
    Clear();
    return all;
  }
  void Clear() {
    for (auto& queue : queues_) queue.clear();
    size_ = 0;
  }
  bool empty() const { return size_ == 0; }
  size_t size() const { return size_; }

 private:
  std::deque<T>& Of(TrafficClass traffic) { return queues_[IndexOf(traffic)]; }

  std::array<std::deque<T>, kTrafficClasses> queues_;
  size_t size_ = 0;
  ClassOrder order_;
};

}  // namespace perigee::rdma
