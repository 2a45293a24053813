#pragma once
// Preflight: what this machine gives a daemon, checked once at start and shown by `perigee status`.
// Pure readings; nothing is changed. Thread-safe.

#include <string>
#include <vector>

#include "base/disk.h"
#include "base/metrics.h"

namespace perigee {

struct PreflightCheck {
  std::string name;
  bool ok = true;
  std::string detail;  // when not ok: what is lost, and the remedy
};

// io_uring, open files, and free space of `dirs`.
std::vector<PreflightCheck> RunPreflight(Disk& disk, const std::vector<std::string>& dirs);
// One log event for each that is not ok.
void WarnOfDegraded(const std::vector<PreflightCheck>& checks);
// perigee_preflight_degraded{check}: 1 where a check was not ok.
void ExposePreflight(metrics::Registry* registry, const std::vector<PreflightCheck>& checks);

}  // namespace perigee
