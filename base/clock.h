#pragma once
// Clock: where time comes from. Real in daemons, manual in tests and simulations.
// Thread rule: thread-safe.

#include <atomic>
#include <cstdint>

namespace perigee {

using Nanos = int64_t;  // a duration or an instant, in nanoseconds
inline constexpr Nanos kMicrosecond = 1'000;
inline constexpr Nanos kMillisecond = 1'000'000;
inline constexpr Nanos kSecond = 1'000'000'000;

class Clock {
 public:
  virtual ~Clock() = default;
  virtual Nanos Monotonic() const = 0;  // never goes back; arbitrary origin
  virtual Nanos Wall() const = 0;       // since 1970-01-01 UTC
};

class RealClock final : public Clock {
 public:
  static RealClock& Get();
  Nanos Monotonic() const override;
  Nanos Wall() const override;
};

// Starts at `start` for both readings; moves only by Advance.
class ManualClock final : public Clock {
 public:
  explicit ManualClock(Nanos start = 1'700'000'000 * kSecond) : now_(start) {}
  Nanos Monotonic() const override { return now_.load(); }
  Nanos Wall() const override { return now_.load(); }
  void Advance(Nanos by) { now_.fetch_add(by); }
  void AdvanceTo(Nanos at) {
    if (at > now_.load()) now_.store(at);
  }

 private:
  std::atomic<Nanos> now_;
};

}  // namespace perigee
