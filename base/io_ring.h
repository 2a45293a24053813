#pragma once
// Batches of IoOps through io_uring, one ring per thread, made at the thread's first batch. For
// posix_disk.cc only.

#include <span>

#include "base/disk.h"

namespace perigee {

// Whether this kernel and its policy (seccomp, limits) let us use io_uring; asked of the kernel
// once.
bool IoRingWorks();
// Runs all and fills in each op's outcome. False when this thread cannot have a ring; then nothing
// was run.
bool RunOnRing(std::span<IoOp> ops);

}  // namespace perigee
