#include "base/posix_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

namespace perigee {

PosixFile::~PosixFile() { close(fd_); }

Status PosixFile::Error(int err, std::string_view what) const {
  return Status::FromErrno(err, std::string(what) + " " + path_);
}

Result<size_t> PosixFile::ReadRest(uint64_t offset, MutableBytes data, size_t done) {
  while (done < data.size()) {
    // Direct reads end off a page only at the end of the file, and cannot go on from there.
    if (direct_ && done % kPageBytes != 0) break;
    ssize_t n =
        pread(fd_, data.data() + done, data.size() - done, static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Error(errno, "read");
    if (n == 0) break;
    done += static_cast<size_t>(n);
  }
  return done;
}

Status PosixFile::WriteRest(uint64_t offset, ConstBytes data, size_t done) {
  while (done < data.size()) {
    // A short direct write goes on from its last whole page.
    size_t from = direct_ ? done / kPageBytes * kPageBytes : done;
    ssize_t n =
        pwrite(fd_, data.data() + from, data.size() - from, static_cast<off_t>(offset + from));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Error(errno, "write");
    if (from + static_cast<size_t>(n) <= done) return Error(EIO, "write makes no progress:");
    done = from + static_cast<size_t>(n);
  }
  return Status::Ok();
}

Status PosixFile::SyncData() {
  // Not repeated on any error: after a failed sync the kernel may have dropped the dirty pages.
  return fdatasync(fd_) == 0 ? Status::Ok() : Error(errno, "sync");
}

Status PosixFile::Truncate(uint64_t size) {
  int r;
  do r = ftruncate(fd_, static_cast<off_t>(size));
  while (r != 0 && errno == EINTR);
  return r == 0 ? Status::Ok() : Error(errno, "truncate");
}

Status PosixFile::Allocate(uint64_t offset, uint64_t bytes) {
  int r;
  do r = fallocate(fd_, 0, static_cast<off_t>(offset), static_cast<off_t>(bytes));
  while (r != 0 && errno == EINTR);
  return r == 0 ? Status::Ok() : Error(errno, "allocate");
}

Status PosixFile::PunchHole(uint64_t offset, uint64_t bytes) {
  constexpr int kMode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
  int r;
  do r = fallocate(fd_, kMode, static_cast<off_t>(offset), static_cast<off_t>(bytes));
  while (r != 0 && errno == EINTR);
  return r == 0 ? Status::Ok() : Error(errno, "punch hole in");
}

Result<uint64_t> PosixFile::Size() {
  struct stat st;
  if (fstat(fd_, &st) != 0) return Error(errno, "stat");
  return static_cast<uint64_t>(st.st_size);
}

Result<uint64_t> PosixFile::AllocatedBytes() {
  struct stat st;
  if (fstat(fd_, &st) != 0) return Error(errno, "stat");
  return static_cast<uint64_t>(st.st_blocks) * 512;
}

}  // namespace perigee
