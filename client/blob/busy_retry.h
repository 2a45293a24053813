#pragma once
// A bound that was reached for a moment (kBusy) is waited out here; everything else is the
// caller's.

#include <algorithm>

#include "base/event.h"
#include "base/status.h"

namespace perigee::client {

// Waits without holding anything; in manual time on a ManualScheduler.
inline void WaitFor(Nanos time) {
  Event never;
  never.WaitFor(time);
}

// Calls `fn`, which returns a Status or a Result, again while it says kBusy: some 300 ms in all.
template <class Fn>
auto RetryBusy(Fn fn) {
  constexpr int kRetriesMax = 6;
  Nanos backoff = 5 * kMillisecond;
  for (int retry = 0;; ++retry) {
    auto outcome = fn();
    if (outcome.ok() || outcome.code() != Code::kBusy || retry == kRetriesMax) return outcome;
    WaitFor(backoff);
    backoff *= 2;
  }
}

}  // namespace perigee::client
