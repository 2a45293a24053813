#pragma once
// DriveWatch: finds drives that answer nothing any more, by comparing those of a process.
//
// A drive lags when a call to its device has run for kLagsAfter, and hangs after kHangsAfter, while
// most of the others answer. When many do not, it is the machine that is slow, or something that
// they share: all are waited for, or, where other nodes have what they have, for kNodeHangsAfter.
// Time in which the watch itself did not run (a stopped process) counts for nobody. A drive that
// hung is back once it has ended every call.
//
// The drives are told with the watch's lock held, and call nothing of it then. Thread-safe.

#include <map>
#include <memory>
#include <mutex>

#include "base/scheduler.h"

namespace perigee::objectd {

class DriveWatch {
 public:
  static constexpr Nanos kLagsAfter = 2 * kSecond;
  static constexpr Nanos kHangsAfter = 10 * kSecond;
  static constexpr Nanos kNodeHangsAfter = 20 * kSecond;  // writers wait for a node somewhat longer
  static constexpr Nanos kLookEvery = kSecond / 2;

  enum class Answers { kSoon, kLate, kNever };
  enum class Drives { kAll, kOfOneNode };  // of the cluster

  class Watched {
   public:
    virtual ~Watched() = default;
    // The number of the oldest call to the device that has not ended; 0: there is none. No call has
    // the number of an earlier one.
    virtual uint64_t OldestCall() = 0;
    virtual void Became(Answers answers) = 0;
  };

  explicit DriveWatch(Drives which = Drives::kAll) : which_(which) {}
  ~DriveWatch() { Stop(); }
  // Looks by itself from now on, on a thread of its own.
  void Start();
  void Stop();

  void Add(Watched* drive);
  void Remove(Watched* drive);
  // `passed`: since the last time.
  void Look(Nanos passed);

 private:
  struct State {
    uint64_t oldest = 0;
    Nanos waited = 0;  // for that call
    Answers told = Answers::kSoon;
  };
  void LookAgain();

  const Drives which_;
  std::mutex mu_;  // guards what follows
  std::map<Watched*, State> drives_;
  Nanos looked_ = 0;
  std::unique_ptr<Scheduler> thread_;
};

}  // namespace perigee::objectd
