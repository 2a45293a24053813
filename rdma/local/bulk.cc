#include "rdma/local/bulk.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/memfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>
#include <new>
#include <string>
#include <utility>

#include "base/failpoint.h"
#include "base/random.h"

namespace perigee::rdma::local {

Lease& Lease::operator=(Lease&& o) noexcept {
  if (this == &o) return *this;
  Release();
  table_ = std::move(o.table_);
  slot_ = o.slot_;
  value_ = o.value_;
  return *this;
}

void Lease::Release() {
  if (!table_) return;
  std::shared_ptr<LeaseTable> table = std::move(table_);
  table->Withdraw(slot_);
}

Result<std::shared_ptr<LeaseTable>> LeaseTable::Create() {
  std::shared_ptr<LeaseTable> table(new LeaseTable());
  OwnedFd fd(memfd_create("perigee-leases", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (fd.get() < 0) return Status::FromErrno(errno, "memfd_create of the lease table");
  if (ftruncate(fd.get(), kLeaseTableBytes) != 0) {
    return Status::FromErrno(errno, "ftruncate of the lease table");
  }
  if (fchmod(fd.get(), 0600) != 0) return Status::FromErrno(errno, "fchmod of the lease table");
  if (fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    return Status::FromErrno(errno, "sealing the lease table");
  }
  void* base = mmap(nullptr, kLeaseTableBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  if (base == MAP_FAILED) return Status::FromErrno(errno, "mmap of the lease table");
  std::string self = "/proc/self/fd/" + std::to_string(fd.get());
  int readable = open(self.c_str(), O_RDONLY | O_CLOEXEC);
  if (readable >= 0) fd.Reset(readable);
  table->fd_ = std::move(fd);
  table->words_ = static_cast<std::atomic<uint64_t>*>(base);
  table->owner_ = getpid();
  table->free_.reserve(kLeaseSlots);
  for (uint32_t slot = kLeaseSlots; slot > 0; --slot) table->free_.push_back(slot - 1);
  // Random, so that a peer that reads on cannot take another process's value for its own.
  table->next_value_ = SecretU64() >> 1 | 1;
  return table;
}

LeaseTable::~LeaseTable() {
  if (words_ != nullptr && getpid() == owner_) munmap(words_, kLeaseTableBytes);
}

Lease LeaseTable::Take() {
  Lease lease;
  std::lock_guard lock(mu_);
  if (free_.empty()) return lease;
  lease.table_ = shared_from_this();
  lease.slot_ = free_.back();
  lease.value_ = next_value_++;
  free_.pop_back();
  words_[lease.slot_].store(lease.value_, std::memory_order_seq_cst);
  return lease;
}

void LeaseTable::Withdraw(uint32_t slot) {
  words_[slot].store(0, std::memory_order_seq_cst);
  // The caller writes to the payload's memory next; a receiver that sees that must see the cleared
  // word.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  std::lock_guard lock(mu_);
  free_.push_back(slot);
}

namespace {

class LentBulk final : public PieceOwner {
 public:
  LentBulk(BulkSource source, std::function<void()> released)
      : source_(std::move(source)), released_(std::move(released)) {}
  static Piece Make(std::shared_ptr<LentBulk> lent, const uint8_t* data, size_t bytes) {
    Piece piece;
    // A Piece has one pointer for both kinds of memory; lent memory is mapped read-only.
    Fill(&piece, std::move(lent), const_cast<uint8_t*>(data), bytes, 0, 0);
    return piece;
  }

 protected:
  void Free(Piece*) override {
    if (released_) released_();
  }
  bool Stands() const override {
    Status standing = source_.Standing();
    standing.Ignore();  // whoever asks says in its own words what was lost
    return standing.ok();
  }

 private:
  const BulkSource source_;
  const std::function<void()> released_;
};

}  // namespace

RemoteSlab::~RemoteSlab() {
  // In a forked child the range may meanwhile belong to something else.
  if (base_ != nullptr && getpid() == owner_) munmap(const_cast<uint8_t*>(base_), bytes_);
}

Result<const uint8_t*> RemoteSlab::Map() {
  std::lock_guard lock(mu_);
  if (base_ != nullptr) return base_;
  void* base = mmap(nullptr, bytes_, PROT_READ, MAP_SHARED, fd_.get(), 0);
  if (base == MAP_FAILED) return Status::FromErrno(errno, "mmap of the peer's slab");
  if (madvise(base, bytes_, MADV_DONTFORK) != 0) {
    Status st = Status::FromErrno(errno, "madvise of the peer's slab");
    munmap(base, bytes_);
    return st;
  }
  base_ = static_cast<const uint8_t*>(base);
  owner_ = getpid();
  return base_;
}

Status RemoteSlab::Read(uint64_t offset, uint8_t* out, size_t bytes) const {
  for (size_t done = 0; done < bytes;) {
    ssize_t n = pread(fd_.get(), out + done, bytes - done, static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Status::FromErrno(errno, "reading the peer's slab");
    if (n == 0) return Status(Code::kCorrupt, "the peer's slab is shorter than announced");
    done += static_cast<size_t>(n);
  }
  return Status::Ok();
}

Status BulkSource::Standing() const {
  std::atomic_thread_fence(std::memory_order_seq_cst);
  uint8_t word[8];
  PERIGEE_TRY(leases_->Read(uint64_t{ref_.lease_slot} * 8, word, sizeof word));
  if (GetLe<uint64_t>(word) == ref_.lease_value) return Status::Ok();
  return Status(Code::kUnavailable, "the sender withdrew the payload while it was read");
}

Status BulkSource::CopyTo(uint8_t* out) const {
  PERIGEE_FAILPOINT_STATUS(rdma_local_before_pull);
  PERIGEE_TRY(slab_->Read(ref_.offset, out, bytes_));
  PERIGEE_TRY(Standing());
  PERIGEE_FAILPOINT_STATUS(rdma_local_after_pull);
  return Status::Ok();
}

Result<Piece> BulkSource::Lend(std::function<void()> released) const {
  PERIGEE_FAILPOINT_STATUS(rdma_local_before_pull);
  PERIGEE_ASSIGN(const uint8_t* base, slab_->Map());
  return LentBulk::Make(std::make_shared<LentBulk>(*this, std::move(released)), base + ref_.offset,
                        bytes_);
}

Status RemoteSlabs::Announce(uint32_t id, uint64_t bytes, OwnedFd fd) {
  if (slabs_.size() >= kSlabsPerConnectionMax || slabs_.contains(id)) {
    return Status(Code::kCorrupt, "slab " + std::to_string(id) + " announced twice, or too many");
  }
  struct stat st {};
  if (fstat(fd.get(), &st) != 0) return Status::FromErrno(errno, "fstat of the peer's slab");
  struct statfs fs {};
  if (fstatfs(fd.get(), &fs) != 0) return Status::FromErrno(errno, "fstatfs of the peer's slab");
  int seals = fcntl(fd.get(), F_GET_SEALS);
  // A plain shmem file, so that reading it cannot block on someone's file system.
  bool plain =
      S_ISREG(st.st_mode) && fs.f_type == TMPFS_MAGIC && seals >= 0 && (seals & F_SEAL_SHRINK) != 0;
  if (!plain || bytes == 0 || bytes > kSlabBytes || static_cast<uint64_t>(st.st_size) < bytes) {
    return Status(Code::kCorrupt, "slab " + std::to_string(id) +
                                      " is not a sealed memfd of the "
                                      "size announced");
  }
  slabs_.emplace(id, std::make_shared<RemoteSlab>(std::move(fd), bytes));
  return Status::Ok();
}

Status RemoteSlabs::Forget(uint32_t id) {
  if (slabs_.erase(id) == 0) {
    return Status(Code::kCorrupt, "slab " + std::to_string(id) + " was never announced");
  }
  return Status::Ok();
}

Result<BulkSource> RemoteSlabs::Find(const BulkRef& ref, size_t bytes) const {
  auto slab = slabs_.find(ref.slab);
  auto leases = slabs_.find(kLeaseSlab);
  if (slab == slabs_.end() || leases == slabs_.end() || ref.slab == kLeaseSlab) {
    return Status(Code::kCorrupt, "slab " + std::to_string(ref.slab) + " was never announced");
  }
  if (ref.offset > slab->second->bytes() || bytes > slab->second->bytes() - ref.offset) {
    return Status(Code::kCorrupt, "a payload outside its slab");
  }
  if ((uint64_t{ref.lease_slot} + 1) * 8 > leases->second->bytes()) {
    return Status(Code::kCorrupt, "a lease outside its table");
  }
  BulkSource source;
  source.slab_ = slab->second;
  source.leases_ = leases->second;
  source.ref_ = ref;
  source.bytes_ = bytes;
  return source;
}

}  // namespace perigee::rdma::local
