#pragma once
// Disk and File: every byte that Perigee stores passes here (RocksDB's own files excepted).
//
//   PosixDisk  a directory of the machine. Batches go through io_uring (one ring per thread), or
//   pread/pwrite where
//              the kernel refuses it; `engine()` says which.
//   MemDisk    in memory. Remembers what was synced; Crash() drops the rest, as a power cut does.
//   Has fault knobs.
//
// Durability: WriteAt promises nothing. SyncData makes the file's bytes and size survive power
// loss; a new name survives only after SyncDir of its directory. A failed sync leaves the file's
// state unknown: do not retry, give up on the file. Thread rule: thread-safe; concurrent writes to
// overlapping ranges are the caller's race. Paths are absolute, or relative to the process.

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/status.h"

namespace perigee {

enum class OpenMode {
  kRead,         // must exist
  kReadWrite,    // must exist
  kCreate,       // read-write, must not exist
  kCreateOrOpen  // read-write
};
enum class Caching {
  kBuffered,
  kDirect
};  // kDirect: offset, length and address multiples of kPageBytes

class File {
 public:
  virtual ~File() = default;
  // Reads up to data.size(); fewer only at the end of file.
  virtual Result<size_t> ReadAt(uint64_t offset, MutableBytes data) = 0;
  virtual Status WriteAt(uint64_t offset, ConstBytes data) = 0;  // all of it, or an error
  virtual Status SyncData() = 0;                                 // fdatasync
  virtual Status Truncate(uint64_t size) = 0;
  virtual Status Allocate(uint64_t offset, uint64_t bytes) = 0;  // extends the size
  virtual Status PunchHole(uint64_t offset, uint64_t bytes) = 0;
  virtual Result<uint64_t> Size() = 0;
  virtual Result<uint64_t> AllocatedBytes() = 0;
  virtual int fd() const = 0;  // -1 where there is none (MemDisk)
};

struct IoOp {
  enum class Kind { kRead, kWrite, kSyncData };
  Kind kind;
  File* file;
  uint64_t offset = 0;
  uint8_t* data = nullptr;  // read into, or written from
  size_t bytes = 0;
  Status status;    // out; a short read at end of file is kOk with done < bytes
  size_t done = 0;  // out
};

struct DirEntry {
  std::string name;
  bool is_directory = false;
};

struct FileInfo {
  bool is_directory = false;
  uint64_t size = 0;
  uint64_t inode = 0;
};

struct SpaceInfo {
  uint64_t total_bytes = 0;
  uint64_t free_bytes = 0;   // for unprivileged writers
  uint64_t file_system = 0;  // equal for paths on one file system
};

class Disk {
 public:
  virtual ~Disk() = default;
  virtual Result<std::unique_ptr<File>> Open(const std::string& path, OpenMode mode,
                                             Caching caching = Caching::kBuffered) = 0;
  // Runs all, in any order and in parallel where the engine can; returns when each has its outcome
  // in its op.
  virtual void Run(std::span<IoOp> ops) = 0;
  virtual Status Rename(const std::string& from, const std::string& to) = 0;  // replaces
  virtual Status Unlink(const std::string& path) = 0;
  virtual Status CreateDir(const std::string& path) = 0;  // kAlreadyExists is ok() == false
  virtual Status CreateDirs(
      const std::string& path) = 0;  // and parents; existing is fine; new names are synced
  virtual Status RemoveDir(const std::string& path) = 0;  // must be empty
  virtual Status SyncDir(const std::string& path) = 0;
  virtual Result<std::vector<DirEntry>> List(const std::string& path) = 0;
  virtual Result<FileInfo> Stat(const std::string& path) = 0;
  virtual Result<SpaceInfo> Space(const std::string& path) = 0;
  virtual std::string engine() const = 0;  // "io_uring", "pread", "memory"
};

enum class IoEngine { kAuto, kPread };  // kPread: never io_uring

// Stateless; one per process is enough. Files are made with mode 0600, directories with 0755 (less
// the umask). kDirect is buffered where the file system has no direct I/O (tmpfs).
std::unique_ptr<Disk> CreatePosixDisk(IoEngine engine = IoEngine::kAuto);

class MemDisk : public Disk {
 public:
  static std::unique_ptr<MemDisk> Create(uint64_t seed = 1);
  // Drops everything not synced: file bytes (at random, pages of 4 KiB written since the last
  // SyncData survive or not) and names since the last SyncDir. Open files fail with kIo afterwards.
  virtual void Crash() = 0;
  virtual void SetCapacity(uint64_t bytes) = 0;  // beyond: kNoSpace
  // Asked before each operation ("read", "write", "sync", "open", "rename", "unlink", "sync_dir",
  // "create_dir", "remove_dir", "list", "stat") with the path; a failed Status is what the caller
  // gets. Truncate, Allocate and PunchHole are writes. Called without locks held, so it may wait.
  virtual void SetFault(
      std::function<Status(std::string_view op, const std::string& path)> fault) = 0;
  // Flips one bit, as a bad drive does.
  virtual Status FlipBit(const std::string& path, uint64_t bit) = 0;
};

// Whole small files, the safe way: write to `path`.tmp, sync, rename, sync the directory.
Status WriteFileAtomically(Disk& disk, const std::string& path, std::string_view content);
// kTooLarge when it is over `bytes_max`.
Result<std::string> ReadWholeFile(Disk& disk, const std::string& path, uint64_t bytes_max);

// One op by the calls of its file: what Run does where there are no batches.
void RunInline(IoOp& op);

std::string ParentDir(std::string_view path);  // "/a/b" -> "/a", "b" -> "."

}  // namespace perigee
