#include "base/mounts.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <cerrno>

namespace perigee {

bool DetachDeadMounts(const std::string& mount_point) {
  bool detached = false;
  while (true) {
    // Forced: the kernel may still have the root's attributes.
    struct statx st;
    if (statx(AT_FDCWD, mount_point.c_str(), AT_STATX_FORCE_SYNC, STATX_BASIC_STATS, &st) == 0 ||
        errno != ENOTCONN)
      return detached;
    if (umount2(mount_point.c_str(), MNT_DETACH) != 0) return detached;
    detached = true;
  }
}

}  // namespace perigee
