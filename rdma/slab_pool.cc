#include "rdma/slab_pool.h"

#include <fcntl.h>
#include <linux/memfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <bitset>
#include <list>
#include <map>
#include <mutex>
#include <optional>
#include <utility>

#include "base/event.h"
#include "rdma/transport.h"

namespace perigee::rdma {

Piece& Piece::operator=(Piece&& o) noexcept {
  if (this == &o) return *this;
  Release();
  owner_ = std::move(o.owner_);
  data_ = std::exchange(o.data_, nullptr);
  size_ = std::exchange(o.size_, 0);
  slab_ = o.slab_;
  order_ = o.order_;
  return *this;
}

void Piece::Trim(size_t bytes) {
  PERIGEE_CHECK(bytes <= size_);
  size_ = bytes;
}

void Piece::Release() {
  if (data_ == nullptr) return;
  std::shared_ptr<PieceOwner> owner = std::move(owner_);
  owner->Free(this);
  data_ = nullptr;
  size_ = 0;
}

namespace {

constexpr size_t kUnitBytes = kPieceBytesMin;
constexpr size_t kUnits = kSlabBytes / kUnitBytes;
constexpr uint32_t kOrders = std::countr_zero(kPieceBytesMax / kUnitBytes) + 1;
using FreeUnits = std::bitset<kUnits>;

uint32_t OrderFor(size_t bytes) {
  size_t units = (std::max<size_t>(bytes, 1) + kUnitBytes - 1) / kUnitBytes;
  return static_cast<uint32_t>(std::countr_zero(std::bit_ceil(units)));
}
uint64_t BlockBytes(uint32_t order) { return static_cast<uint64_t>(kUnitBytes) << order; }

// One memfd with a buddy allocator over its 64 KiB units (Knuth, TAOCP vol. 1, 2.5).
class SlabMemory {
 public:
  static Result<std::unique_ptr<SlabMemory>> Create(uint32_t id, uint64_t bytes) {
    OwnedFd fd(memfd_create("perigee-slab", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    if (fd.get() < 0) return Status::FromErrno(errno, "memfd_create of a transfer slab");
    if (ftruncate(fd.get(), static_cast<off_t>(bytes)) != 0) {
      return Status::FromErrno(errno, "ftruncate of a transfer slab");
    }
    if (fchmod(fd.get(), 0600) != 0) return Status::FromErrno(errno, "fchmod of a transfer slab");
    if (fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
      return Status::FromErrno(errno, "sealing a transfer slab");
    }
    void* base = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
    if (base == MAP_FAILED) return Status::FromErrno(errno, "mmap of a transfer slab");
    // A forked child shares no memory with our transfers, and fork copies no page tables of it.
    if (madvise(base, bytes, MADV_DONTFORK) != 0) {
      Status st = Status::FromErrno(errno, "madvise of a transfer slab");
      munmap(base, bytes);
      return st;
    }
    // Advice only: it takes shmem_enabled=advise in /sys/kernel/mm/transparent_hugepage.
    (void)madvise(base, bytes, MADV_HUGEPAGE);
    // Peers get the descriptor to read from; without /proc they get one that could also write.
    std::string self = "/proc/self/fd/" + std::to_string(fd.get());
    int readable = open(self.c_str(), O_RDONLY | O_CLOEXEC);
    if (readable >= 0) fd.Reset(readable);
    return std::unique_ptr<SlabMemory>(
        new SlabMemory(id, std::move(fd), static_cast<uint8_t*>(base), bytes));
  }

  ~SlabMemory() {
    // In a forked child the range may meanwhile belong to something else.
    if (getpid() == owner_) munmap(base_, bytes_);
  }
  SlabMemory(const SlabMemory&) = delete;
  SlabMemory& operator=(const SlabMemory&) = delete;

  uint8_t* Take(uint32_t order) {
    uint32_t from = order;
    while (from < kOrders && free_[from].none()) ++from;
    if (from == kOrders) return nullptr;
    size_t unit = free_[from]._Find_first();
    free_[from].reset(unit);
    while (from > order) {
      --from;
      free_[from].set(unit + (size_t{1} << from));
    }
    units_used_ += size_t{1} << order;
    return base_ + unit * kUnitBytes;
  }

  void Give(uint8_t* data, uint32_t order, Nanos now) {
    size_t unit = static_cast<size_t>(data - base_) / kUnitBytes;
    units_used_ -= size_t{1} << order;
    while (order + 1 < kOrders) {
      size_t buddy = unit ^ (size_t{1} << order);
      if (!free_[order].test(buddy)) break;
      free_[order].reset(buddy);
      unit = std::min(unit, buddy);
      ++order;
    }
    free_[order].set(unit);
    if (units_used_ == 0) idle_since_ = now;
  }

  uint32_t id() const { return id_; }
  int fd() const { return fd_.get(); }
  uint8_t* base() const { return base_; }
  uint64_t bytes() const { return bytes_; }
  bool idle() const { return units_used_ == 0; }
  Nanos idle_since() const { return idle_since_; }
  // Frees the pages now, even while a peer still has the descriptor.
  void Discard() { (void)madvise(base_, bytes_, MADV_REMOVE); }

 private:
  SlabMemory(uint32_t id, OwnedFd fd, uint8_t* base, uint64_t bytes)
      : id_(id), fd_(std::move(fd)), base_(base), bytes_(bytes), owner_(getpid()) {
    for (size_t unit = 0, left = bytes / kUnitBytes; left > 0;) {
      uint32_t order = std::min<uint32_t>(kOrders - 1, std::bit_width(left) - 1);
      free_[order].set(unit);
      unit += size_t{1} << order;
      left -= size_t{1} << order;
    }
  }

  uint32_t id_;
  OwnedFd fd_;
  uint8_t* base_;
  uint64_t bytes_;
  pid_t owner_;
  std::array<FreeUnits, kOrders> free_;  // bit u of free_[o]: a free block of 2^o units starts at u
  size_t units_used_ = 0;
  Nanos idle_since_ = 0;
};

class MemfdSlabPool final : public SlabPool {
 public:
  explicit MemfdSlabPool(Options options) : options_(options) {}

  Result<Piece> Allocate(size_t bytes, Nanos timeout) override {
    if (bytes > kPieceBytesMax || BlockBytes(OrderFor(bytes)) > options_.bytes_max) {
      return Status(Code::kTooLarge, "a transfer buffer of " + std::to_string(bytes) +
                                         " bytes exceeds what this pool can give");
    }
    Waiter waiter;
    waiter.order = OrderFor(bytes);
    std::vector<std::function<void()>> callbacks;
    {
      std::unique_lock lock(mu_);
      if (waiters_.empty()) waiter.block = TakeLocked(waiter.order);
      if (!waiter.block) {
        waiters_.push_back(&waiter);
        waiter.served.WaitFor(lock, timeout, [&] { return waiter.block.has_value(); });
        if (!waiter.block) {
          // Smaller requests behind this one may fit what it could not use.
          waiters_.remove(&waiter);
          ServeLocked();
          callbacks.swap(on_free_);
        }
      }
      if (!waiter.block && !last_error_.empty()) waiter.error = last_error_;
    }
    for (auto& fn : callbacks) fn();
    if (!waiter.block) {
      return Status(Code::kDeadlineExceeded,
                    "no transfer buffer of " + std::to_string(bytes) + " bytes came free in time" +
                        (waiter.error.empty() ? "" : " (" + waiter.error + ")"));
    }
    return Wrap(*waiter.block, bytes, waiter.order);
  }

  Piece TryAllocate(size_t bytes) override {
    if (bytes > kPieceBytesMax) return Piece();
    uint32_t order = OrderFor(bytes);
    std::optional<Block> block;
    {
      std::lock_guard lock(mu_);
      if (waiters_.empty()) block = TakeLocked(order);
    }
    return block ? Wrap(*block, bytes, order) : Piece();
  }

  void OnNextFree(std::function<void()> fn) override {
    std::lock_guard lock(mu_);
    on_free_.push_back(std::move(fn));
  }

  uint64_t BytesInUse() const override {
    std::lock_guard lock(mu_);
    return in_use_;
  }
  uint64_t BytesMapped() const override {
    std::lock_guard lock(mu_);
    return mapped_;
  }

  void Trim() override {
    std::vector<std::unique_ptr<SlabMemory>> idle;  // unmapped without the lock
    {
      std::lock_guard lock(mu_);
      Nanos now = RealClock::Get().Monotonic();
      for (auto it = slabs_.begin(); it != slabs_.end();) {
        SlabMemory& slab = *it->second;
        if (!slab.idle() || now - slab.idle_since() < options_.idle_release) {
          ++it;
          continue;
        }
        by_address_.erase(slab.base());
        mapped_ -= slab.bytes();
        idle.push_back(std::move(it->second));
        it = slabs_.erase(it);
      }
    }
    for (auto& slab : idle) slab->Discard();
  }

  bool Locate(const uint8_t* data, size_t bytes, Location* out) const override {
    std::lock_guard lock(mu_);
    auto it = by_address_.upper_bound(data);
    if (it == by_address_.begin()) return false;
    const SlabMemory& slab = *std::prev(it)->second;
    auto offset = static_cast<uint64_t>(data - slab.base());
    if (offset > slab.bytes() || bytes > slab.bytes() - offset) return false;
    *out = {slab.id(), offset};
    return true;
  }

  Result<Slab> GetSlab(uint32_t id) const override {
    std::lock_guard lock(mu_);
    auto it = slabs_.find(id);
    if (it == slabs_.end()) {
      return Status(Code::kNotFound, "transfer slab " + std::to_string(id) + " is gone");
    }
    return Slab{id, it->second->fd(), it->second->bytes()};
  }

 protected:
  void Free(Piece* piece) override {
    std::vector<std::function<void()>> callbacks;
    {
      std::lock_guard lock(mu_);
      auto it = slabs_.find(SlabOf(*piece));
      PERIGEE_CHECK(it != slabs_.end());
      it->second->Give(piece->data(), OrderOf(*piece), RealClock::Get().Monotonic());
      in_use_ -= BlockBytes(OrderOf(*piece));
      ServeLocked();
      callbacks.swap(on_free_);
    }
    for (auto& fn : callbacks) fn();
  }

 private:
  struct Block {
    uint32_t slab;
    uint8_t* data;
  };
  struct Waiter {
    uint32_t order = 0;
    std::optional<Block> block;
    std::string error;
    CondVar served;
  };

  // The lowest slab that has room, so that the highest become idle; then a new slab.
  std::optional<Block> TakeLocked(uint32_t order) {
    for (auto& [id, slab] : slabs_) {
      if (uint8_t* data = slab->Take(order)) {
        in_use_ += BlockBytes(order);
        return Block{id, data};
      }
    }
    uint64_t bytes = std::min<uint64_t>(kSlabBytes, options_.bytes_max - mapped_);
    bytes -= bytes % kUnitBytes;
    if (bytes < BlockBytes(order)) return std::nullopt;
    auto made = SlabMemory::Create(next_id_, bytes);
    if (!made.ok()) {
      last_error_ = made.status().ToString();
      return std::nullopt;
    }
    last_error_.clear();
    SlabMemory* slab = made->get();
    slabs_.emplace(next_id_++, std::move(*made));
    by_address_.emplace(slab->base(), slab);
    mapped_ += slab->bytes();
    in_use_ += BlockBytes(order);
    return Block{slab->id(), slab->Take(order)};
  }

  void ServeLocked() {
    while (!waiters_.empty()) {
      Waiter* first = waiters_.front();
      first->block = TakeLocked(first->order);
      if (!first->block) return;
      waiters_.pop_front();
      first->served.NotifyOne();
    }
  }

  Piece Wrap(const Block& block, size_t bytes, uint32_t order) {
    Piece piece;
    Fill(&piece, shared_from_this(), block.data, bytes, block.slab, order);
    return piece;
  }

  const Options options_;
  mutable std::mutex mu_;  // guards what follows
  std::map<uint32_t, std::unique_ptr<SlabMemory>> slabs_;
  std::map<const uint8_t*, SlabMemory*, std::less<>> by_address_;
  std::list<Waiter*> waiters_;
  std::vector<std::function<void()>> on_free_;
  std::string last_error_;  // of the newest attempt to make a slab
  uint32_t next_id_ = 1;
  uint64_t in_use_ = 0;
  uint64_t mapped_ = 0;
};

}  // namespace

Result<std::shared_ptr<SlabPool>> SlabPool::Create(Options options) {
  if (options.bytes_max < kPieceBytesMin) {
    return Status(Code::kInvalidArgument, "a slab pool of " + std::to_string(options.bytes_max) +
                                              " bytes is smaller than one piece of 64 KiB");
  }
  return std::shared_ptr<SlabPool>(std::make_shared<MemfdSlabPool>(options));
}

}  // namespace perigee::rdma
