#pragma once
// PosixFile: a File of PosixDisk. For posix_disk.cc and io_ring.cc only.

#include <string>

#include "base/disk.h"

namespace perigee {

class PosixFile final : public File {
 public:
  // Takes the descriptor. direct: it has O_DIRECT.
  PosixFile(int fd, std::string path, bool direct)
      : fd_(fd), direct_(direct), path_(std::move(path)) {}
  ~PosixFile() override;

  Result<size_t> ReadAt(uint64_t offset, MutableBytes data) override {
    return ReadRest(offset, data, 0);
  }
  Status WriteAt(uint64_t offset, ConstBytes data) override { return WriteRest(offset, data, 0); }
  Status SyncData() override;
  Status Truncate(uint64_t size) override;
  Status Allocate(uint64_t offset, uint64_t bytes) override;
  Status PunchHole(uint64_t offset, uint64_t bytes) override;
  Result<uint64_t> Size() override;
  Result<uint64_t> AllocatedBytes() override;
  int fd() const override { return fd_; }

  // Go on with a transfer of which `done` bytes are through. ReadRest returns the bytes of the
  // whole.
  Result<size_t> ReadRest(uint64_t offset, MutableBytes data, size_t done);
  Status WriteRest(uint64_t offset, ConstBytes data, size_t done);
  Status Error(int err, std::string_view what) const;

 private:
  const int fd_;
  const bool direct_;
  const std::string path_;
};

}  // namespace perigee
