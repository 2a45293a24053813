#include "base/preflight.h"

#include <sys/resource.h>
#include <sys/statvfs.h>

#include "base/options.h"

namespace perigee {

namespace {
constexpr rlim_t kOpenFilesWanted = 65536;
constexpr uint64_t kLockedWanted = 64 << 20;
constexpr uint64_t kShmWanted = 512 << 20;
constexpr uint64_t kFreeWanted = 1 << 30;
}  // namespace

std::vector<PreflightCheck> RunPreflight(Disk& disk, const std::vector<std::string>& dirs) {
  std::vector<PreflightCheck> checks;
  auto add = [&](const char* name, bool ok, const std::string& detail) {
    checks.push_back(
        {name, ok ? PreflightCheck::State::kOk : PreflightCheck::State::kDegraded, detail});
  };
  add("io_uring", disk.engine() == "io_uring",
      disk.engine() == "io_uring"
          ? "batches of disk I/O in one system call"
          : "refused here: disk I/O one call at a time (kernel.io_uring_disabled, seccomp)");

  rlimit files{};
  getrlimit(RLIMIT_NOFILE, &files);
  add("open files", files.rlim_cur >= kOpenFilesWanted,
      std::to_string(files.rlim_cur) +
          (files.rlim_cur >= kOpenFilesWanted
               ? ""
               : ": many clients will be refused; raise ulimit -n to 65536"));

  rlimit locked{};
  getrlimit(RLIMIT_MEMLOCK, &locked);
  bool enough = locked.rlim_cur == RLIM_INFINITY || locked.rlim_cur >= kLockedWanted;
  add("locked memory", enough,
      locked.rlim_cur == RLIM_INFINITY
          ? "unlimited"
          : FormatBytes(locked.rlim_cur) +
                (enough ? "" : ": too little to register with an RDMA device; raise ulimit -l"));

  struct statvfs shm {};
  uint64_t shm_bytes = statvfs("/dev/shm", &shm) == 0 ? uint64_t{shm.f_blocks} * shm.f_frsize : 0;
  add("/dev/shm", shm_bytes >= kShmWanted,
      FormatBytes(shm_bytes) +
          (shm_bytes >= kShmWanted
               ? ""
               : ": shared-memory transports fall back; start the container with --shm-size=1g"));

  for (const auto& dir : dirs) {
    auto space = disk.Space(dir);
    if (!space.ok()) {
      add("free space", false, dir + ": " + space.status().message());
    } else if (space->free_bytes < kFreeWanted) {
      add("free space", false,
          dir + ": " + FormatBytes(space->free_bytes) + " left; writes will soon be refused");
    }
  }
  return checks;
}

}  // namespace perigee
