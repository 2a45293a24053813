#include "base/failpoint.h"

#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "base/scheduler.h"

#ifdef PERIGEE_FAILPOINTS

using namespace perigee;
using failpoint::Id;

namespace {

struct Disarmed {
  ~Disarmed() { failpoint::DisarmAll(); }
};

Status Hit() { return failpoint::Hit(Id::test_only); }

Status Guarded() {
  PERIGEE_FAILPOINT(test_only);
  PERIGEE_FAILPOINT_STATUS(test_only);
  return Status::Ok();
}

}  // namespace

TEST_CASE("nothing happens where nothing is armed, and hits are counted all the same") {
  uint64_t before = failpoint::Hits(Id::test_only);
  CHECK(Guarded().ok());
  CHECK(failpoint::Hits(Id::test_only) == before + 2);
}

TEST_CASE("an error comes at the hit that was asked for, counted from arming") {
  Disarmed disarmed;
  REQUIRE(failpoint::Arm("test_only=error@3").ok());
  CHECK(Hit().ok());
  CHECK(Hit().ok());
  CHECK(Hit().Is(Code::kIo));
  CHECK(Hit().ok());
}

TEST_CASE("without a count the first hit fails, with * every one") {
  Disarmed disarmed;
  REQUIRE(failpoint::Arm("test_only=error").ok());
  CHECK(Hit().Is(Code::kIo));
  CHECK(Hit().ok());
  failpoint::DisarmAll();
  REQUIRE(failpoint::Arm("test_only=error@*").ok());
  for (int i = 0; i < 3; ++i) CHECK(Hit().Is(Code::kIo));
  failpoint::DisarmAll();
  CHECK(Hit().ok());
}

TEST_CASE("the plain macro passes over errors, the other one returns them") {
  Disarmed disarmed;
  REQUIRE(failpoint::Arm("test_only=error@1").ok());
  CHECK(Guarded().ok());
  failpoint::DisarmAll();
  REQUIRE(failpoint::Arm("test_only=error@2").ok());
  CHECK(Guarded().Is(Code::kIo));
}

TEST_CASE("several may be armed at once, for one name too") {
  Disarmed disarmed;
  REQUIRE(failpoint::Arm("test_only=error@1,atomic_file_before_sync=error,test_only=error@3").ok());
  CHECK(Hit().Is(Code::kIo));
  CHECK(Hit().ok());
  CHECK(Hit().Is(Code::kIo));
  CHECK(failpoint::Hit(Id::atomic_file_before_sync).Is(Code::kIo));
}

TEST_CASE("a delay waits in manual time") {
  Disarmed disarmed;
  auto scheduler = ManualScheduler::Create(1);
  Nanos start = scheduler->clock().Monotonic();
  REQUIRE(failpoint::Arm("test_only=delay:1500").ok());
  bool ok = false;
  REQUIRE(scheduler->Post([&] { ok = Hit().ok(); }).ok());
  CHECK(scheduler->RunUntil(nullptr));
  CHECK(ok);
  CHECK(scheduler->clock().Monotonic() == start + 1500 * kMillisecond);
}

TEST_CASE("what cannot be read is refused by name, and then nothing is armed") {
  Disarmed disarmed;
  for (const char* bad :
       {"nosuch=kill", "test_only", "test_only=", "test_only=explode", "test_only=kill@0",
        "test_only=kill@", "test_only=error@x", "test_only=delay:", "test_only=delay:1x",
        "test_only=error,nosuch=error"}) {
    CAPTURE(bad);
    Status st = failpoint::Arm(bad);
    CHECK(st.Is(Code::kInvalidArgument));
  }
  CHECK(failpoint::Arm("nosuch=kill").message().find("nosuch") != std::string::npos);
  CHECK(Hit().ok());
}

TEST_CASE("the environment arms, and an unknown name in it is refused") {
  Disarmed disarmed;
  unsetenv("PERIGEE_FAILPOINTS");
  CHECK(failpoint::ArmFromEnvironment().ok());
  setenv("PERIGEE_FAILPOINTS", "test_only=error", 1);
  CHECK(failpoint::ArmFromEnvironment().ok());
  CHECK(Hit().Is(Code::kIo));
  setenv("PERIGEE_FAILPOINTS", "nosuch=error", 1);
  CHECK(failpoint::ArmFromEnvironment().message().find("PERIGEE_FAILPOINTS") == 0);
  unsetenv("PERIGEE_FAILPOINTS");
}

TEST_CASE("kill is SIGKILL to the process itself") {
  pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    failpoint::Arm("test_only=kill@2").Ignore();  // the exit code shows whether it was armed
    Hit().Ignore();
    Hit().Ignore();
    _exit(0);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(WIFSIGNALED(status));
  CHECK(WTERMSIG(status) == SIGKILL);
}

TEST_CASE("every name is listed once") {
  auto names = failpoint::Names();
  CHECK(names.size() == static_cast<size_t>(Id::kCount));
  std::sort(names.begin(), names.end());
  CHECK(std::adjacent_find(names.begin(), names.end()) == names.end());
}

#endif
