#pragma once
// FlushQueue: which sealed burst file is copied to the object tier next, and when. Pure: it does no
// I/O and takes the time as an argument.
//
// A file is eligible `linger` after it was sealed (at once when forced), the one sealed first goes
// first, at most `in_flight_max` run at a time. A failed one comes back after a doubling delay.
// While held, nothing starts, not even what is forced. Thread rule: not thread-safe; the owner
// locks.

#include <cstdint>
#include <map>
#include <optional>
#include <unordered_map>

#include "base/clock.h"

namespace perigee::tiers {

struct FlushQueueOptions {
  Nanos linger = 2 * kSecond;
  uint32_t in_flight_max = 3;
  Nanos retry_first = 250 * kMillisecond;
  Nanos retry_most = 30 * kSecond;
};

class FlushQueue {
 public:
  using Key = uint64_t;

  explicit FlushQueue(FlushQueueOptions options) : options_(options) {}

  // A key that is waiting or running already keeps its place.
  void Add(Key key, Nanos sealed_at);
  void Remove(Key key);  // re-opened, removed, or done
  void Force(Key key);   // no linger and no retry delay; unknown keys are ignored
  void Hold(bool on) { held_ = on; }
  bool held() const { return held_; }

  // The file to start now; it counts as running until Done, Failed or Remove.
  std::optional<Key> Next(Nanos now);
  void Done(Key key) { Remove(key); }
  void Failed(Key key, Nanos now);

  // When Next may give something that it does not give now; nothing while held, full or empty.
  std::optional<Nanos> NextWake() const;
  size_t waiting() const { return entries_.size() - running_; }
  size_t running() const { return running_; }

 private:
  struct Entry {
    Nanos sealed_at = 0;
    Nanos ready_at = 0;
    uint32_t failures = 0;
    bool running = false;
  };
  using OrderKey = std::pair<Nanos, Key>;  // sealed_at, key

  FlushQueueOptions options_;
  bool held_ = false;
  size_t running_ = 0;
  std::unordered_map<Key, Entry> entries_;
  std::map<OrderKey, Nanos> order_;  // waiting ones -> ready_at
};

}  // namespace perigee::tiers
