#include "base/daemon.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <thread>
#include <utility>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/disk.h"
#include "base/failpoint.h"
#include "base/random.h"

namespace perigee {
namespace {

sigset_t StopSignals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  return set;
}

class Fd {
 public:
  explicit Fd(int fd) : fd_(fd) {}
  ~Fd() {
    if (fd_ >= 0) close(fd_);
  }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  int get() const { return fd_; }
  int release() { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

Status ErrnoStatus(std::string_view what, const std::string& path) {
  return Status::FromErrno(errno, std::string(what) + " " + path);
}

Status WriteAll(int fd, std::string_view content, const std::string& path) {
  size_t done = 0;
  while (done < content.size()) {
    ssize_t n = pwrite(fd, content.data() + done, content.size() - done, static_cast<off_t>(done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return ErrnoStatus("write", path);
    done += static_cast<size_t>(n);
  }
  return Status::Ok();
}

constexpr size_t kSecretBytesMax = 4096;

// Up to kSecretBytesMax + 1 bytes, so that more is noticed.
Result<std::string> ReadSmall(int fd, const std::string& path) {
  std::string content(kSecretBytesMax + 1, '\0');
  size_t done = 0;
  while (done < content.size()) {
    ssize_t n = pread(fd, content.data() + done, content.size() - done, static_cast<off_t>(done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return ErrnoStatus("read", path);
    if (n == 0) break;
    done += static_cast<size_t>(n);
  }
  content.resize(done);
  return content;
}

Result<std::string> ReadSecret(const std::string& path) {
  Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (fd.get() < 0) return ErrnoStatus("open", path);
  struct stat st;
  if (fstat(fd.get(), &st) != 0) return ErrnoStatus("stat", path);
  if (!S_ISREG(st.st_mode)) return Status(Code::kInvalidArgument, path + " is not a regular file");
  if ((st.st_mode & 077) != 0) {
    return Status(Code::kPermissionDenied,
                  path + " holds a secret that others may read: chmod 600 " + path);
  }
  PERIGEE_ASSIGN(std::string secret, ReadSmall(fd.get(), path));
  if (secret.size() > kSecretBytesMax)
    return Status(Code::kTooLarge, path + " is too long for a secret");
  while (secret.ends_with('\n') || secret.ends_with('\r')) secret.pop_back();
  if (secret.empty())
    return Status(Code::kInvalidArgument, path + " is empty; it should hold a secret");
  return secret;
}

// Makes `path` whole or not at all; kAlreadyExists when someone else was faster.
Status CreateSecret(const std::string& path, const std::string& temp) {
  Fd fd(open(temp.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (fd.get() < 0) return ErrnoStatus("create", temp);
  PERIGEE_TRY(WriteAll(fd.get(), HexEncode(SecretBytes(32)) + "\n", temp));
  PERIGEE_FAILPOINT_STATUS(secret_before_sync);
  if (fsync(fd.get()) != 0) return ErrnoStatus("sync", temp);
  PERIGEE_FAILPOINT_STATUS(secret_before_link);
  // link, not rename: it does not replace the secret of another process that starts at the same
  // time.
  if (link(temp.c_str(), path.c_str()) != 0) return ErrnoStatus("create", path);
  return Status::Ok();
}

Status SyncParent(const std::string& path) {
  std::string parent = ParentDir(path);
  Fd fd(open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (fd.get() < 0) return ErrnoStatus("open", parent);
  return fsync(fd.get()) == 0 ? Status::Ok() : ErrnoStatus("sync directory", parent);
}

}  // namespace

void PrepareDaemon() {
  sigset_t set = StopSignals();
  PERIGEE_CHECK(pthread_sigmask(SIG_BLOCK, &set, nullptr) == 0);
  signal(SIGPIPE, SIG_IGN);
  signal(SIGIO, SIG_IGN);
  rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);  // the preflight reports what the limit is
  }
}

uint64_t OpenFilesMax() {
  rlimit limit{};
  PERIGEE_CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
  return limit.rlim_cur;
}

int WaitForStop() {
  sigset_t set = StopSignals();
  int signal = 0;
  PERIGEE_CHECK(sigwait(&set, &signal) == 0);
  return signal;
}

void StopWithParent() { prctl(PR_SET_PDEATHSIG, SIGTERM); }

Result<PidLock> PidLock::Take(const std::string& path, Nanos patience) {
  Fd fd(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (fd.get() < 0) return ErrnoStatus("open", path);
  const Nanos until = RealClock::Get().Monotonic() + patience;
  int r;
  while ((r = flock(fd.get(), LOCK_EX | LOCK_NB)) != 0) {
    if (errno == EINTR) continue;
    if (errno != EWOULDBLOCK || RealClock::Get().Monotonic() >= until) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  if (r != 0 && errno == EWOULDBLOCK) {
    PERIGEE_ASSIGN(std::string holder, ReadSmall(fd.get(), path));
    while (holder.ends_with('\n')) holder.pop_back();
    // Empty for the moment between its lock and its writing.
    return Status(Code::kAlreadyExists,
                  path + " is held by " + (holder.empty() ? "another process" : "pid " + holder));
  }
  if (r != 0) return ErrnoStatus("lock", path);
  if (ftruncate(fd.get(), 0) != 0) return ErrnoStatus("truncate", path);
  PERIGEE_TRY(WriteAll(fd.get(), std::to_string(getpid()) + "\n", path));
  return PidLock(fd.release());
}

PidLock::PidLock(PidLock&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}

PidLock::~PidLock() {
  // The file stays: removing it could take away the name under someone who just locked it.
  if (fd_ >= 0) close(fd_);
}

Result<std::string> LoadSecret(const std::string& path, bool create) {
  auto found = ReadSecret(path);
  if (found.ok() || found.code() != Code::kNotFound || !create) return found;
  std::string temp = path + ".tmp." + std::to_string(getpid());
  Status made = CreateSecret(path, temp);
  unlink(temp.c_str());
  if (!made.ok() && !made.Is(Code::kAlreadyExists)) return made;
  PERIGEE_FAILPOINT_STATUS(secret_before_dir_sync);
  PERIGEE_TRY(SyncParent(path));
  PERIGEE_FAILPOINT_STATUS(secret_after_dir_sync);
  return ReadSecret(path);
}

}  // namespace perigee
