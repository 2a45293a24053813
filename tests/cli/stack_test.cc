#include "cli/stack.h"

#include <doctest/doctest.h>
#include <stdlib.h>
#include <unistd.h>

#include <filesystem>

#include "base/daemon.h"

using namespace perigee;
using namespace perigee::cli;

namespace {
struct TempDir {
  TempDir() {
    char text[] = "/tmp/perigee-cli-XXXXXX";
    path = mkdtemp(text);
  }
  ~TempDir() { std::filesystem::remove_all(path); }
  std::string path;
};
}  // namespace

TEST_CASE("a stack's state is read back as it was written") {
  TempDir dir;
  StackState s;
  s.config.data = dir.path;
  s.config.drives = {"/d/1", "/d/2"};
  s.config.mount = "/mnt/p";
  s.config.extra = {"objectd:--memory-limit=1G"};
  s.pid = 42;
  s.endpoint = "http://127.0.0.1:1";
  s.daemons = {{"objectd", 43, 2, "up"}};
  REQUIRE(SaveState(s).ok());
  auto read = LoadState(dir.path);
  REQUIRE(read.ok());
  CHECK(StateJson(*read) == StateJson(s));
}

TEST_CASE("a directory without a stack, and a damaged state, are told apart") {
  TempDir dir;
  CHECK(LoadState(dir.path).code() == Code::kNotFound);
  FILE* f = fopen((dir.path + "/stack.json").c_str(), "w");
  fputs("{\"pid\": ", f);
  fclose(f);
  CHECK(LoadState(dir.path).code() == Code::kCorrupt);
}

TEST_CASE("objects are named by URL, by bucket and key, or by their path below the mount") {
  StackState s;
  s.config.mount = "/mnt/p";
  CHECK(ObjectPath(s, "perigee://data/a/b") == "data/a/b");
  CHECK(ObjectPath(s, "data/a/b") == "data/a/b");
  CHECK(ObjectPath(s, "/mnt/p/data/a") == "data/a");
  CHECK(ObjectPath(s, "/mnt/p") == "");
}

TEST_CASE("the supervisor's pid is known while it holds the lock, and only then") {
  TempDir dir;
  CHECK_FALSE(RunningSupervisor(dir.path).has_value());
  {
    auto lock = PidLock::Take(dir.path + "/lock");
    REQUIRE(lock.ok());
    CHECK(RunningSupervisor(dir.path) == getpid());
    CHECK(PidLock::Take(dir.path + "/lock").code() == Code::kAlreadyExists);
  }
  CHECK_FALSE(RunningSupervisor(dir.path).has_value());
}
