#pragma once
// Bulk payloads by reference between two processes of one machine: the receiver reads them out of
// the sender's sealed memfd. A copy is made by pread, not from a mapping: a hostile or dying sender
// can then cost it an error, but no address range to look after (measured: 7 against 8.5 GB/s for
// 1 MiB). Between nodes, which trust each other with the data itself, a receiver that asked for it
// is lent the memory instead, mapped read-only; the seal against shrinking keeps a mapping from
// SIGBUS, and holes read as zeros.
//
// A sender may have to take memory back while a slow receiver still reads it (deadline, lost
// connection). So each reference names a lease: a word in the sender's lease table that holds
// `value` for as long as the bytes stand. The receiver copies, then looks at the word; if it
// changed, what was copied is not the payload. The sender clears the word before it touches the
// memory. Thread rule: LeaseTable is thread-safe; RemoteSlabs belongs to the reading side.

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "base/status.h"
#include "rdma/local/frame.h"
#include "rdma/transport.h"

namespace perigee::rdma::local {

inline constexpr uint32_t kLeaseSlab =
    0;  // the lease table's name on a connection; pools start at 1
inline constexpr size_t kLeaseSlots = 8192;  // payloads by reference in flight in one process
inline constexpr size_t kLeaseTableBytes = kLeaseSlots * 8;
inline constexpr size_t kSlabsPerConnectionMax = 128;

class LeaseTable;

// Withdrawn when destroyed or released.
class Lease {
 public:
  Lease() = default;
  Lease(Lease&& o) noexcept { *this = std::move(o); }
  Lease& operator=(Lease&& o) noexcept;
  ~Lease() { Release(); }
  explicit operator bool() const { return table_ != nullptr; }
  uint32_t slot() const { return slot_; }
  uint64_t value() const { return value_; }
  void Release();

 private:
  friend class LeaseTable;
  std::shared_ptr<LeaseTable> table_;
  uint32_t slot_ = 0;
  uint64_t value_ = 0;
};

class LeaseTable : public std::enable_shared_from_this<LeaseTable> {
 public:
  static Result<std::shared_ptr<LeaseTable>> Create();
  ~LeaseTable();
  Lease Take();  // empty when all are in use
  int fd() const { return fd_.get(); }

 private:
  friend class Lease;
  LeaseTable() = default;
  void Withdraw(uint32_t slot);
  OwnedFd fd_;
  std::atomic<uint64_t>* words_ = nullptr;
  int32_t owner_ = 0;
  std::mutex mu_;  // guards what follows
  std::vector<uint32_t> free_;
  uint64_t next_value_ = 1;
};

class RemoteSlab {
 public:
  RemoteSlab(OwnedFd fd, uint64_t bytes) : fd_(std::move(fd)), bytes_(bytes) {}
  ~RemoteSlab();
  RemoteSlab(const RemoteSlab&) = delete;
  uint64_t bytes() const { return bytes_; }
  Status Read(uint64_t offset, uint8_t* out, size_t bytes) const;
  // The whole slab, read-only; mapped at the first call. Thread-safe.
  Result<const uint8_t*> Map();

 private:
  const OwnedFd fd_;
  const uint64_t bytes_;
  std::mutex mu_;  // guards what follows
  const uint8_t* base_ = nullptr;
  int32_t owner_ = 0;  // the process that mapped it
};

// A payload that lies with the peer; stays readable however long it takes, and then is valid or
// known not to be.
class BulkSource {
 public:
  size_t bytes() const { return bytes_; }
  // kUnavailable: the sender took it back meanwhile. kCorrupt: the slab does not hold what was
  // announced.
  Status CopyTo(uint8_t* out) const;
  // The peer's memory itself. `released` runs once, when the Piece is gone.
  Result<Piece> Lend(std::function<void()> released) const;
  // As CopyTo's outcome: whether all that was read until now was the payload.
  Status Standing() const;

 private:
  friend class RemoteSlabs;
  std::shared_ptr<RemoteSlab> slab_;
  std::shared_ptr<RemoteSlab> leases_;
  BulkRef ref_;
  size_t bytes_ = 0;
};

// What one peer has announced on one connection. Everything is checked: it comes from outside.
class RemoteSlabs {
 public:
  Status Announce(uint32_t id, uint64_t bytes, OwnedFd fd);
  Status Forget(uint32_t id);
  Result<BulkSource> Find(const BulkRef& ref, size_t bytes) const;

 private:
  std::map<uint32_t, std::shared_ptr<RemoteSlab>> slabs_;
};

}  // namespace perigee::rdma::local
