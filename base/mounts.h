#pragma once

#include <string>

namespace perigee {

// Lazily detaches every FUSE mount at `mount_point` whose daemon died (ENOTCONN), also one under
// another. True when there was one. Waits for the daemon of a mount that is alive.
bool DetachDeadMounts(const std::string& mount_point);

}  // namespace perigee
