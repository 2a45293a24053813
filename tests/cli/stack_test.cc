#include "cli/stack.h"

#include <doctest/doctest.h>
#include <unistd.h>

#include <filesystem>

#include "base/daemon.h"
#include "temp_dir.h"

using namespace perigee;
using namespace perigee::cli;

TEST_CASE("a stack's state is read back as it was written") {
  TempDir dir;
  StackState s;
  s.config.data = dir.path;
  s.config.drives = {"/d/1", "/d/2"};
  s.config.mount = "/mnt/p";
  s.config.extra = {"objectd:--memory-limit=1G"};
  s.config.objectd = "tls:10.0.0.1:9002";
  s.config.join = "10.0.0.2:9002";
  s.config.node_name = "n3";
  s.config.repair_after = "30m";
  s.config.secret_file = "/etc/perigee/secret";
  s.config.network = {.transport = "ucx",
                      .listen = "10.0.0.7:9002",
                      .advertise = "node7",
                      .ca_file = "/a",
                      .cert_file = "/c",
                      .key_file = "/k",
                      .fabric_interfaces = {"eth1", "eth2"},
                      .fabric_trusted = true,
                      .poll = true};
  s.config.bufferd_listen = "10.0.0.7:9012";
  s.address = "ucx:node7:9002";
  s.pid = 42;
  s.endpoint = "http://127.0.0.1:1";
  s.daemons = {{"objectd", 43, 2, "up"}};
  REQUIRE(SaveState(s).ok());
  auto read = LoadState(dir.path);
  REQUIRE(read.ok());
  CHECK(StateJson(*read) == StateJson(s));
  CHECK(read->config.join == "10.0.0.2:9002");
  CHECK(read->config.node_name == "n3");
  CHECK(read->config.repair_after == "30m");
  CHECK(read->config.network == s.config.network);
  CHECK(read->config.bufferd_network().listen == "10.0.0.7:9012");
}

TEST_CASE("a data directory that was moved takes along what lies in it, and nothing else") {
  TempDir dir;
  StackState s;
  s.config.data = dir.path;
  s.config.drives = {dir.path + "/drives/d1", dir.path + "-other/d2", "/d/3"};
  s.config.mount = dir.path + "/mnt";
  s.config.burst = dir.path + "/burst";
  s.config.secret_file = dir.path + "/cluster-secret";
  s.config.network.key_file = "/etc/perigee/n.key";
  REQUIRE(SaveState(s).ok());
  TempDir moved;
  std::filesystem::rename(dir.path + "/stack.json", moved.path + "/stack.json");
  auto read = LoadState(moved.path);
  REQUIRE(read.ok());
  CHECK(read->config.data == moved.path);
  CHECK(read->config.drives ==
        std::vector<std::string>{moved.path + "/drives/d1", dir.path + "-other/d2", "/d/3"});
  CHECK(read->config.mount == moved.path + "/mnt");
  CHECK(read->config.burst == moved.path + "/burst");
  CHECK(read->config.secret_file == moved.path + "/cluster-secret");
  CHECK(read->config.network.key_file == "/etc/perigee/n.key");
}

TEST_CASE("a path that is not UTF-8 is refused by its flag, and nothing is written") {
  TempDir dir;
  StackState s;
  s.config.data = dir.path;
  REQUIRE(CheckConfig(s.config).ok());
  s.config.drives = {"/d/\xc3\xa4", "/d/\xff\n2"};
  Status status = CheckConfig(s.config);
  CHECK(status.Is(Code::kInvalidArgument));
  CHECK(status.message().find("--drive") == 0);
  CHECK(status.message().find('\n') == std::string::npos);
  CHECK(SaveState(s).Is(Code::kInvalidArgument));
  CHECK(LoadState(dir.path).code() == Code::kNotFound);
  CHECK(StateJson(s).find("/d/") !=
        std::string::npos);  // shown all the same, with the byte replaced
}

TEST_CASE("a machine has a namespace, or another's, or drives for another's") {
  StackConfig c;
  CHECK((c.has_objectd() && c.has_namespace() && !c.drives_only()));
  c.join = "tls:10.0.0.1:9002";
  CHECK((c.has_objectd() && !c.has_namespace() && c.drives_only()));
  c = {};
  c.objectd = "tls:10.0.0.1:9002";
  CHECK((!c.has_objectd() && !c.has_namespace() && !c.drives_only()));
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
