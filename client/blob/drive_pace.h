#pragma once
// DrivePace: how drives answer reads, so that one that hangs is read around.
//
// Reads go to the pool through here, at most kReadsMax of one drive at a time; those beyond wait in
// line, so that a drive which answers nothing holds a few of the pool's threads, not all. What a
// read takes is compared with what reads of the other drives take: one that is late by that measure
// makes its drive slow for a while, in which others are asked first where they will do as well.
//
// Thread-safe; nothing here waits. What is posted runs on the pool, or in the call that posts it or
// ends another when the pool takes nothing more.

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>

#include "base/scheduler.h"

namespace perigee::client {

class DrivePace : public std::enable_shared_from_this<DrivePace> {
 public:
  static constexpr uint32_t kReadsMax = 8;
  // Of patience: nothing shorter tells a slow drive from a busy machine, and nobody waits longer
  // where there is another way.
  static constexpr Nanos kPatienceMin = 100 * kMillisecond;
  static constexpr Nanos kPatienceMax = 3 * kSecond;

  static std::shared_ptr<DrivePace> Create(Scheduler* pool, Clock* clock) {
    return std::shared_ptr<DrivePace>(new DrivePace(pool, clock));
  }

  void Post(uint64_t drive, Task read);
  // A read of it is late, or was a moment ago.
  bool Slow(uint64_t drive);
  // How long a read is waited for before others are asked for what could replace it: four times
  // what reads of the median drive take.
  Nanos Patience() const;

 private:
  struct Drive {
    uint32_t posted = 0;         // to the pool, and not ended
    std::multiset<Nanos> begun;  // of those that run
    std::deque<Task> waiting;
    Nanos usual = 0;  // what a read takes; 0: none has ended
    Nanos slow_until = 0;
  };

  DrivePace(Scheduler* pool, Clock* clock) : pool_(pool), clock_(clock) {}
  void Start(uint64_t drive, Task read);
  void Run(uint64_t drive, const Task& read);
  void Learn(Drive& drive, Nanos took);
  void MarkSlow(uint64_t id, Drive& drive, Nanos now, Nanos took);

  Scheduler* const pool_;
  Clock* const clock_;
  mutable std::mutex mu_;  // guards what follows
  std::map<uint64_t, Drive> drives_;
  Nanos patience_ = kPatienceMin;
  uint64_t learnt_ = 0;  // reads
};

}  // namespace perigee::client
