#include "base/process_metrics.h"

#include <sys/resource.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "base/clock.h"

namespace perigee::metrics {
namespace {

double ResidentBytes() {
  std::ifstream in("/proc/self/statm");
  double total_pages = 0, resident_pages = 0;
  in >> total_pages >> resident_pages;
  return resident_pages * static_cast<double>(sysconf(_SC_PAGESIZE));
}

double OpenFiles() {
  std::error_code unreadable;  // shown as none
  std::filesystem::directory_iterator entries("/proc/self/fd", unreadable);
  return static_cast<double>(std::distance(begin(entries), end(entries)));
}

}  // namespace

void ExposeProcess(Registry* registry) {
  registry->GetGauge("process_start_time_seconds", "Unix time at which the process started")
      ->Set(static_cast<double>(RealClock::Get().Wall()) / kSecond);
  auto* resident = registry->GetGauge("process_resident_memory_bytes", "Memory resident in RAM");
  auto* open = registry->GetGauge("process_open_fds", "Open file descriptors");
  auto* most = registry->GetGauge("process_max_fds", "Most file descriptors that may be open");
  registry->OnCollect([=] {
    resident->Set(ResidentBytes());
    open->Set(OpenFiles());
    rlimit files{};
    getrlimit(RLIMIT_NOFILE, &files);
    most->Set(static_cast<double>(files.rlim_cur));
  });
}

}  // namespace perigee::metrics
