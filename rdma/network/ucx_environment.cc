#include "rdma/network/ucx_environment.h"

#include <unistd.h>

#include <climits>
#include <cstdlib>

namespace perigee::rdma {

void StartWithoutUcxHooks(char** argv) {
  bool all_set = true;
  for (auto& [name, value] : kUcxEnvironment) {
    all_set = all_set && std::getenv(name) != nullptr;
    if (setenv(name, value, /*overwrite=*/0) != 0) return;
  }
  if (all_set) return;
  // By its own path: /proc/self/exe would be the process's name from then on.
  char path[PATH_MAX];
  const ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
  if (length <= 0) return;
  path[length] = 0;
  execv(path, argv);
}

}  // namespace perigee::rdma
