#include "base/process_metrics.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include <cmath>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/preflight.h"

using namespace perigee;

namespace {

double ValueOf(metrics::Registry& registry, const std::string& name) {
  std::string text = registry.ExposeText();
  size_t at = text.find("\n" + name + " ");
  REQUIRE(at != text.npos);
  return std::stod(text.substr(at + name.size() + 2));
}

}  // namespace

TEST_CASE("a process shows when it started, its memory and its open files") {
  auto registry = metrics::Registry::Create();
  metrics::ExposeProcess(registry.get());
  double now = static_cast<double>(RealClock::Get().Wall()) / kSecond;
  CHECK(std::abs(ValueOf(*registry, "process_start_time_seconds") - now) < 60);
  CHECK(ValueOf(*registry, "process_resident_memory_bytes") > 1 << 20);
  double before = ValueOf(*registry, "process_open_fds");
  std::vector<int> held;
  for (int i = 0; i < 10; ++i) held.push_back(open("/dev/null", O_RDONLY | O_CLOEXEC));
  CHECK(ValueOf(*registry, "process_open_fds") == before + 10);
  for (int fd : held) close(fd);
  CHECK(ValueOf(*registry, "process_open_fds") == before);
  CHECK(ValueOf(*registry, "process_max_fds") >= before);
}

TEST_CASE("a counter follows a count kept elsewhere and never falls") {
  auto registry = metrics::Registry::Create();
  auto* counter = registry->GetCounter("perigee_test_total", "t");
  Follow(counter, 3);
  Follow(counter, 3);
  Follow(counter, 7);
  CHECK(counter->Value() == 7);
  Follow(counter, 2);
  CHECK(counter->Value() == 7);
}

TEST_CASE("a check that fails for one directory of several is degraded") {
  auto registry = metrics::Registry::Create();
  ExposePreflight(registry.get(),
                  {{"io_uring", true, ""}, {"free space", false, "/a"}, {"free space", true, ""}});
  std::string text = registry->ExposeText();
  CHECK(text.find("perigee_preflight_degraded{check=\"io_uring\"} 0\n") != text.npos);
  CHECK(text.find("perigee_preflight_degraded{check=\"free space\"} 1\n") != text.npos);
}
