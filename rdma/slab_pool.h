#pragma once
// SlabPool: the process's transfer memory. Large slabs, registered once with the transport (memfd
// for `local`, memory registration for UCX and libfabric), handed out in pieces of 64 KiB to 4 MiB.
//
// A Piece owns its memory until destroyed; then it goes back to the pool, and slabs that stay idle
// go back to the system. The bound is hard: over it Allocate waits, and TryAllocate gives nothing.
// That wait is the system's back-pressure. Waiting Allocates are served first come, first served,
// and TryAllocate does not pass them. Thread-safe.

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/status.h"

namespace perigee::rdma {

inline constexpr size_t kPieceBytesMin = 64 << 10;
inline constexpr size_t kPieceBytesMax = 4 << 20;  // also the largest bulk payload of one call
inline constexpr size_t kSlabBytes = 16 << 20;

class Piece;

// Whose memory a Piece is: a SlabPool's, or a peer's that was lent for one call.
class PieceOwner {
 public:
  virtual ~PieceOwner() = default;

 protected:
  friend class Piece;
  virtual void Free(Piece* piece) = 0;
  virtual bool Stands() const { return true; }
  static void Fill(Piece* p, std::shared_ptr<PieceOwner> owner, uint8_t* data, size_t size,
                   uint32_t slab, uint32_t order);
  static uint32_t SlabOf(const Piece& p);
  static uint32_t OrderOf(const Piece& p);
};

class Piece {
 public:
  Piece() = default;
  Piece(Piece&& o) noexcept { *this = std::move(o); }
  Piece& operator=(Piece&& o) noexcept;
  ~Piece() { Release(); }

  explicit operator bool() const { return data_ != nullptr; }
  uint8_t* data() { return data_; }
  const uint8_t* data() const { return data_; }
  size_t size() const { return size_; }  // as asked for, or as last Trimmed
  void Trim(size_t bytes);               // bytes <= size()
  MutableBytes span() { return {data_, size_}; }
  ConstBytes span() const { return {data_, size_}; }
  void Release();
  // Lent memory (CallOptions::lent_reply, Handler::TakesLent) is read-only, and its owner may take
  // it back. True: everything read from it until now was the payload. Memory of a pool always
  // stands.
  bool Stands() const { return owner_ == nullptr || owner_->Stands(); }

 private:
  friend class PieceOwner;
  std::shared_ptr<PieceOwner> owner_;
  uint8_t* data_ = nullptr;
  size_t size_ = 0;
  uint32_t slab_ = 0;
  uint32_t order_ = 0;
};

inline void PieceOwner::Fill(Piece* p, std::shared_ptr<PieceOwner> owner, uint8_t* data,
                             size_t size, uint32_t slab, uint32_t order) {
  p->owner_ = std::move(owner);
  p->data_ = data;
  p->size_ = size;
  p->slab_ = slab;
  p->order_ = order;
}
inline uint32_t PieceOwner::SlabOf(const Piece& p) { return p.slab_; }
inline uint32_t PieceOwner::OrderOf(const Piece& p) { return p.order_; }

class SlabPool : public PieceOwner, public std::enable_shared_from_this<SlabPool> {
 public:
  struct Options {
    uint64_t bytes_max = 256 << 20;
    Nanos idle_release = 10 * kSecond;
  };
  static Result<std::shared_ptr<SlabPool>> Create(Options options);
  ~SlabPool() override = default;

  // bytes <= kPieceBytesMax (else kTooLarge). kDeadlineExceeded when none came free in time.
  virtual Result<Piece> Allocate(size_t bytes, Nanos timeout) = 0;
  virtual Piece TryAllocate(size_t bytes) = 0;  // empty when the bound is reached
  // Runs `fn` once, after memory came free (or a waiting Allocate gave up), on the thread that
  // freed it: do not block there. For event loops: TryAllocate, on failure OnNextFree, then
  // TryAllocate again to close the gap.
  virtual void OnNextFree(std::function<void()> fn) = 0;
  virtual uint64_t BytesInUse() const = 0;
  virtual uint64_t BytesMapped() const = 0;
  // Gives idle slabs back to the system; the owner calls it now and then.
  virtual void Trim() = 0;

  // For providers: where a piece of memory lies. False when `data` is not inside this pool.
  struct Location {
    uint32_t slab;
    uint64_t offset;
  };
  virtual bool Locate(const uint8_t* data, size_t bytes, Location* out) const = 0;
  // fd is the pool's own memfd, open for reading, sealed against resizing. Ids start at 1 and are
  // never used again.
  struct Slab {
    uint32_t id;
    int fd;
    uint64_t bytes;
  };
  virtual Result<Slab> GetSlab(uint32_t id) const = 0;
};

}  // namespace perigee::rdma
