#pragma once
// Preflight: what this machine gives a daemon, checked once at start and shown by `perigee status`.
// Pure readings; nothing is changed. Thread-safe.

#include <string>
#include <vector>

#include "base/disk.h"

namespace perigee {

struct PreflightCheck {
  enum class State { kOk, kDegraded };
  std::string name;
  State state = State::kOk;
  std::string detail;  // what is lost, and the remedy
};

// io_uring, open files, locked memory, /dev/shm, and free space of `dirs`.
std::vector<PreflightCheck> RunPreflight(Disk& disk, const std::vector<std::string>& dirs);

}  // namespace perigee
