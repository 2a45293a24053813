#pragma once
// StoreDir: the burst files of one store directory.
//
//   <root>/files/<xx>/<burst id, 16 hex digits>   256 directories
//   <root>/lost/<burst id>                         set aside, for a person to look at
//   <root>/ballast                                 preallocated; given up so that the index can
//   write on a full disk <root>/node, <root>/index/                     identity and journal
//   (server.cc, burst_index.h)
// ext4 creates slowly in a directory whose files were unlinked in the last minutes, so a new file
// goes to the current directory, and the current one moves on after a few unlinks in it, to the
// directory left alone the longest. Durability: bytes after File::SyncData, the name after
// SyncName. Thread-safe.

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/disk.h"
#include "rdma/transport.h"
#include "rdma/wire/record.h"

namespace perigee::bufferd {

struct FileStat {
  uint64_t size = 0;
  int64_t mtime = 0, ctime = 0;  // ns
  uint64_t allocated = 0;
  bool SameTimes(const FileStat& o) const { return mtime == o.mtime && ctime == o.ctime; }
  // Nothing was written between the two, as far as the kernel tells.
  bool SameContent(const FileStat& o) const { return size == o.size && SameTimes(o); }
};

class StoreDir {
 public:
  static constexpr uint32_t kDirs = 256;
  struct Found {
    uint32_t dir = 0;
    wire::BurstId burst = 0;
  };

  // Makes what is missing below `root`.
  static Result<std::unique_ptr<StoreDir>> Open(Disk& disk, Clock& clock, std::string root);

  // An empty new file; the result is the directory it is in.
  Result<uint32_t> Create(wire::BurstId burst);
  Result<std::unique_ptr<File>> Open(uint32_t dir, wire::BurstId burst, OpenMode mode) const;
  // An open of its own (no shared offset), for another process.
  Result<rdma::OwnedFd> Descriptor(uint32_t dir, wire::BurstId burst, bool writable) const;
  Status SyncName(uint32_t dir);
  Status Unlink(uint32_t dir, wire::BurstId burst);
  // Moves it to <root>/lost, where a person finds it under the same name. Durable on return.
  Status SetAside(uint32_t dir, wire::BurstId burst);
  Result<uint64_t> CountAside() const;
  Result<std::vector<Found>> List() const;
  Result<SpaceInfo> Space() const { return disk_.Space(root_); }

  static Result<FileStat> Stat(const File& file);
  static Status SetMtime(const File& file, int64_t mtime);
  // True when nobody has the file open or mapped for writing: a read lease is granted, and given up
  // at once. The caller holds the burst file's lock and knows that no writable descriptor is on its
  // way out. See notes 4.0.
  Result<bool> Unwritten(uint32_t dir, wire::BurstId burst) const;
  // True when nobody has it open or mapped at all: the same with a write lease. False where leases
  // do not work.
  Result<bool> Unopened(uint32_t dir, wire::BurstId burst) const;

  // Probed at Open. Without leases a quiet period stands for the seal; without fine timestamps a
  // write right after a publish may look like none, so publishes never count as unchanged.
  bool leases() const { return leases_; }
  bool fine_timestamps() const { return fine_timestamps_; }
  // True when there was ballast to give up.
  bool DropBallast();
  Status FillBallast();
  const std::string& root() const { return root_; }

 private:
  StoreDir(Disk& disk, Clock& clock, std::string root)
      : disk_(disk), clock_(clock), root_(std::move(root)) {}
  std::string DirPath(uint32_t dir) const;
  std::string Path(uint32_t dir, wire::BurstId burst) const;
  Status Probe();
  Result<bool> Leased(uint32_t dir, wire::BurstId burst, int lease) const;
  void MoveOn();

  struct DirState {
    uint64_t created = 0, synced = 0;  // names made, names known durable
    uint32_t unlinks = 0;              // while current
    Nanos last_unlink = -1;
  };
  Disk& disk_;
  Clock& clock_;
  const std::string root_;
  bool leases_ = false;
  bool fine_timestamps_ = false;
  std::mutex mu_;  // guards what follows
  std::array<DirState, kDirs> dirs_;
  uint32_t current_ = 0;
  uint32_t created_here_ = 0;
};

}  // namespace perigee::bufferd
