#pragma once
// What every daemon's main needs: raised limits, ignored SIGPIPE and SIGIO, and waiting for SIGTERM
// or SIGINT.

#include <cstdint>
#include <string>

#include "base/clock.h"
#include "base/status.h"

namespace perigee {

// First thing in main, before any thread: blocks SIGTERM and SIGINT for WaitForStop, raises
// RLIMIT_NOFILE to its hard limit, ignores SIGPIPE and SIGIO.
void PrepareDaemon();
uint64_t OpenFilesMax();  // RLIMIT_NOFILE as it is now
// Returns the signal that asked to stop.
int WaitForStop();
// PR_SET_PDEATHSIG: this process gets SIGTERM when its parent dies. For children of `perigee up`.
void StopWithParent();

// An exclusive flock on `path` (made if absent) that holds until the object goes; the file then
// holds this pid. kAlreadyExists names the pid that has it. A killed process keeps its locks while
// a thread of it is in the kernel, in a sync for example: `patience` waits for that.
class PidLock {
 public:
  static constexpr Nanos kPatience = 10 * kSecond;  // for a daemon's predecessor
  static Result<PidLock> Take(const std::string& path, Nanos patience = 0);
  PidLock(PidLock&& other) noexcept;
  PidLock& operator=(PidLock&&) = delete;
  ~PidLock();

 private:
  explicit PidLock(int fd) : fd_(fd) {}
  int fd_;
};

// Reads a 0600 secret file; makes it with 32 random bytes (hex) when absent and `create`.
Result<std::string> LoadSecret(const std::string& path, bool create);

}  // namespace perigee
