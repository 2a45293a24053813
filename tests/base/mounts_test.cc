#include "base/mounts.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <string>

#include "tests/base/temp_dir.h"

using namespace perigee;

namespace {

// A FUSE mount whose daemon is gone.
bool MountDead(const std::string& at) {
  int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
  if (fd < 0) return false;
  const std::string options = "fd=" + std::to_string(fd) + ",rootmode=40000,user_id=0,group_id=0";
  const bool mounted =
      mount("dead", at.c_str(), "fuse", MS_NOSUID | MS_NODEV, options.c_str()) == 0;
  close(fd);
  return mounted;
}

}  // namespace

TEST_CASE("dead mounts are detached, one upon another as well") {
  TempDir temp;
  const std::string at = temp.path() + "/mnt";
  REQUIRE(mkdir(at.c_str(), 0700) == 0);
  CHECK_FALSE(DetachDeadMounts(at));
  if (!MountDead(at)) {
    MESSAGE("skipped: no FUSE mount: ", std::strerror(errno));
    return;
  }
  // The second goes where the first is: by the kernel's view of it, which is not asked any more.
  const bool twice = MountDead(at);
  REQUIRE(twice);
  struct stat st;
  CHECK(stat(at.c_str(), &st) != 0);
  CHECK(errno == ENOTCONN);
  CHECK(DetachDeadMounts(at));
  CHECK(stat(at.c_str(), &st) == 0);
  CHECK_FALSE(DetachDeadMounts(at));
  CHECK(std::filesystem::is_empty(at));
}
