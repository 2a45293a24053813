#pragma once
// State as metrics: what `perigee status` says of objectd, for alerts and dashboards. Each state
// has a series of its own, also at 0, so that a rule can tell "none" from "not scraped".

#include <functional>

#include "base/metrics.h"
#include "rdma/wire/control.h"

namespace perigee::objectd {

// `status` is asked before each exposition, on its thread.
void ExposeState(metrics::Registry* registry, uint32_t mirrors_wanted,
                 std::function<wire::ObjectdStatusReply()> status);

}  // namespace perigee::objectd
