#pragma once
// Patience: how long requests that are being served may wait for their clients. Each holds a thread
// meanwhile, so a client that moves a byte now and then must not keep it. Waiting runs up a debt,
// bytes pay it off at `rate_min`, and at a debt of `timeout` the client has stalled: so no silence
// is longer than that, and no request slower than `rate_min` for long. When many wait at once
// (waiting_max) `pressed_timeout` takes the place of `timeout`. One for a server. Thread-safe.

#include <atomic>
#include <cstdint>

#include "base/clock.h"

namespace perigee::objectd::s3 {

class Patience {
 public:
  struct Limits {
    Nanos timeout = 30 * kSecond;
    Nanos pressed_timeout = 5 * kSecond;
    uint64_t rate_min = 1 << 10;  // bytes a second, either way
    uint32_t waiting_max = 64;
  };
  // What one request owes; it belongs to the request's thread.
  class Debt {
   public:
    void Wait(Nanos waited) { owed_ += waited; }

   private:
    friend class Patience;
    Nanos owed_ = 0;
  };

  explicit Patience(const Limits& limits) : limits_(limits) {}

  // How much longer the request may wait; zero or less: its client has stalled.
  Nanos Left(const Debt& debt) const;
  void Pay(Debt* debt, uint64_t bytes) const;

  // While it lives, a request waits for its client.
  class Waiting {
   public:
    explicit Waiting(Patience& patience) : patience_(patience) { ++patience_.waiting_; }
    ~Waiting() { --patience_.waiting_; }
    Waiting(const Waiting&) = delete;
    Waiting& operator=(const Waiting&) = delete;

   private:
    Patience& patience_;
  };
  uint32_t waiting() const { return waiting_; }

 private:
  const Limits limits_;
  std::atomic<uint32_t> waiting_{0};
};

}  // namespace perigee::objectd::s3
