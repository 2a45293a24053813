#pragma once
// The standard metrics of a process, under the names that every Prometheus client uses:
// process_start_time_seconds, process_resident_memory_bytes, process_open_fds, process_max_fds.
// Whoever supervises a daemon, its restarts show as changes of its start time.

#include "base/metrics.h"

namespace perigee::metrics {

// Called once, when the daemon starts; the figures are read from /proc/self at each exposition.
void ExposeProcess(Registry* registry);

}  // namespace perigee::metrics
