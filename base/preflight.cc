#include "base/preflight.h"

#include <sys/resource.h>

#include "base/log.h"
#include "base/options.h"

namespace perigee {

namespace {
constexpr rlim_t kOpenFilesWanted = 65536;
constexpr uint64_t kFreeWanted = 1 << 30;
}  // namespace

std::vector<PreflightCheck> RunPreflight(Disk& disk, const std::vector<std::string>& dirs) {
  std::vector<PreflightCheck> checks;
  auto add = [&](const char* name, bool ok, const std::string& detail) {
    checks.push_back({name, ok, detail});
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

void WarnOfDegraded(const std::vector<PreflightCheck>& checks) {
  for (const PreflightCheck& check : checks) {
    if (!check.ok)
      log::Warn("preflight_degraded", {{"check", check.name}, {"detail", check.detail}});
  }
}

void ExposePreflight(metrics::Registry* registry, const std::vector<PreflightCheck>& checks) {
  for (const PreflightCheck& check : checks) {
    auto* degraded =
        registry->GetGauge("perigee_preflight_degraded",
                           "1: this machine gave less than the daemon wants, as of its start",
                           {{"check", check.name}});
    // "free space" may be there once a directory.
    if (!check.ok) degraded->Set(1);
  }
}

}  // namespace perigee
