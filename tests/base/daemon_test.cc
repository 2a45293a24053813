#include "base/daemon.h"

#include <doctest/doctest.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <memory>
#include <thread>
#include <vector>

#include "base/failpoint.h"
#include "temp_dir.h"

using namespace perigee;

// The exit code of `body` in a child process.
template <class Body>
static int InChild(Body body) {
  pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) _exit(body());
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  REQUIRE(WIFEXITED(status));
  return WEXITSTATUS(status);
}

TEST_CASE(
    "a prepared daemon waits for the signal to stop, survives SIGPIPE, and may open many files") {
  int code = InChild([] {
    PrepareDaemon();
    raise(SIGPIPE);
    raise(SIGIO);
    rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_cur != limit.rlim_max) return 1;
    kill(getpid(), SIGTERM);
    return WaitForStop() == SIGTERM ? 0 : 2;
  });
  CHECK(code == 0);
}

TEST_CASE("a child of up is told when its parent dies") {
  int code = InChild([] {
    StopWithParent();
    int signal = 0;
    prctl(PR_GET_PDEATHSIG, &signal);
    return signal == SIGTERM ? 0 : 1;
  });
  CHECK(code == 0);
}

TEST_CASE("a pid lock is exclusive, names its holder, and goes with it") {
  TempDir temp;
  std::string path = temp / "lock";
  {
    auto lock = PidLock::Take(path);
    REQUIRE(lock.ok());
    PidLock moved(*std::move(lock));
    auto second = PidLock::Take(path);
    CHECK(second.code() == Code::kAlreadyExists);
    CHECK(second.status().message() == path + " is held by pid " + std::to_string(getpid()));
  }
  auto again = PidLock::Take(path);
  CHECK(again.ok());
  CHECK(PidLock::Take(temp / "no/lock").code() == Code::kNotFound);
}

TEST_CASE("a pid lock ends with a killed process, whatever its file still says") {
  TempDir temp;
  std::string path = temp / "lock";
  InChild([&] {
    auto lock = PidLock::Take(path);
    return lock.ok() ? 0 : 1;  // _exit runs no destructor
  });
  CHECK(PidLock::Take(path).ok());
}

TEST_CASE("with patience a pid lock is waited for") {
  TempDir temp;
  std::string path = temp / "lock";
  auto first = PidLock::Take(path);
  REQUIRE(first.ok());
  auto held = std::make_unique<PidLock>(*std::move(first));
  std::atomic<bool> taken = false;
  std::thread waiting([&] {
    CHECK(PidLock::Take(path, 60 * kSecond).ok());
    taken = true;
  });
  CHECK(PidLock::Take(path, 20 * kMillisecond).code() == Code::kAlreadyExists);
  CHECK(!taken);
  held.reset();
  waiting.join();
  CHECK(taken);
}

TEST_CASE("a secret is made once, private, and then stays") {
  TempDir temp;
  std::string path = temp / "secret";
  CHECK(LoadSecret(path, false).code() == Code::kNotFound);
  auto made = LoadSecret(path, true);
  REQUIRE(made.ok());
  CHECK(made->size() == 64);
  CHECK(made->find_first_not_of("0123456789abcdef") == made->npos);
  struct stat st;
  REQUIRE(stat(path.c_str(), &st) == 0);
  CHECK((st.st_mode & 0777) == 0600);
  CHECK(*LoadSecret(path, true) == *made);
  CHECK(*LoadSecret(path, false) == *made);
  CHECK(*LoadSecret(temp / "other", true) != *made);
  auto entries = std::filesystem::directory_iterator(temp.path());
  CHECK(std::distance(begin(entries), end(entries)) == 2);  // nothing temporary is left
}

TEST_CASE("a secret that others may read, or that is none, is refused") {
  TempDir temp;
  auto with = [&](const std::string& content, mode_t mode) {
    std::string path = temp / "secret";
    std::ofstream(path) << content;
    chmod(path.c_str(), mode);
    return LoadSecret(path, true);
  };
  CHECK(with("s3cret\n", 0600).value() == "s3cret");
  CHECK(with("s3cret", 0400).value() == "s3cret");
  CHECK(with("s3cret", 0640).code() == Code::kPermissionDenied);
  CHECK(with("s3cret", 0604).code() == Code::kPermissionDenied);
  CHECK(with("\n", 0600).code() == Code::kInvalidArgument);
  CHECK(with(std::string(5000, 'x'), 0600).code() == Code::kTooLarge);
  CHECK(LoadSecret(temp.path(), true).code() == Code::kInvalidArgument);
}

TEST_CASE("processes that start at once agree on the secret") {
  TempDir temp;
  std::string path = temp / "secret";
  std::vector<pid_t> children;
  for (int i = 0; i < 4; ++i) {
    pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      auto secret = LoadSecret(path, true);
      if (secret.ok()) std::ofstream(path + std::to_string(i)) << *secret << std::flush;
      _exit(secret.ok() ? 0 : 1);
    }
    children.push_back(child);
  }
  for (int i = 0; i < 4; ++i) {
    int status = 0;
    REQUIRE(waitpid(children[static_cast<size_t>(i)], &status, 0) > 0);
    CHECK(WEXITSTATUS(status) == 0);
    std::string seen;
    std::ifstream(path + std::to_string(i)) >> seen;
    CHECK(seen == *LoadSecret(path, false));
  }
}

#ifdef PERIGEE_FAILPOINTS
TEST_CASE("making a secret that fails at any point leaves none or a whole one") {
  using failpoint::Id;
  for (Id id : {Id::secret_before_sync, Id::secret_before_link, Id::secret_before_dir_sync,
                Id::secret_after_dir_sync}) {
    std::string name = failpoint::Names()[static_cast<size_t>(id)];
    CAPTURE(name);
    TempDir temp;
    REQUIRE(failpoint::Arm(name + "=error").ok());
    CHECK(LoadSecret(temp / "secret", true).code() == Code::kIo);
    failpoint::DisarmAll();
    bool linked = id == Id::secret_before_dir_sync || id == Id::secret_after_dir_sync;
    CHECK(std::filesystem::is_empty(temp.path()) == !linked);
    CHECK(LoadSecret(temp / "secret", true)->size() == 64);
  }
}
#endif
