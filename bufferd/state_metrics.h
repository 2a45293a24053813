#pragma once
// State as metrics: what `perigee status` says of the burst buffer, for alerts and dashboards. Each
// class has a series of its own, also at 0, so that a rule can tell "none" from "not scraped".

#include <functional>

#include "base/metrics.h"
#include "rdma/wire/control.h"

namespace perigee::bufferd {

// What the status reply does not have in figures.
struct StateSource {
  std::function<wire::BufferdStatusReply()> status;
  std::function<bool()> objectd_connected;
  std::function<bool()> low_space;  // writers are slowed
  std::function<uint64_t()> open_handles;
};

// `source` is asked before each exposition, on its thread.
void ExposeState(metrics::Registry* registry, StateSource source);

}  // namespace perigee::bufferd
