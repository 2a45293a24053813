#include "base/clock.h"

#include <ctime>

namespace perigee {

static Nanos Read(clockid_t id) {
  timespec ts;
  clock_gettime(id, &ts);
  return ts.tv_sec * kSecond + ts.tv_nsec;
}

RealClock& RealClock::Get() {
  static RealClock clock;
  return clock;
}

Nanos RealClock::Monotonic() const { return Read(CLOCK_MONOTONIC); }
Nanos RealClock::Wall() const { return Read(CLOCK_REALTIME); }

}  // namespace perigee
