#pragma once
// Memory: registrations of one libfabric domain. What peers may reach is registered for one
// transfer, for exactly its bytes, under a key that cannot be guessed (or the provider's own, where
// that chooses). What our own operations use is registered where the provider wants that, slabs of
// the pool once. Loop-bound.

#include <cstdint>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "rdma/ofi/fabric.h"
#include "rdma/slab_pool.h"

struct fid_domain;
struct fid_mr;

namespace perigee::rdma::ofi {

// Ends with the object: afterwards no transfer to or from that memory can start.
class Registration {
 public:
  Registration() = default;
  explicit Registration(fid_mr* mr) : mr_(mr) {}
  Registration(Registration&& o) noexcept : mr_(std::exchange(o.mr_, nullptr)) {}
  Registration& operator=(Registration&& o) noexcept {
    std::swap(mr_, o.mr_);
    return *this;
  }
  ~Registration();
  uint64_t key() const;
  void* descriptor() const;  // null: none

 private:
  fid_mr* mr_ = nullptr;
};

// Memory that the peer may reach, in its terms.
struct Exposure {
  Registration registration;
  uint64_t addr = 0, key = 0;
};

// For one message, in or out; kBufferBytes long.
struct Buffer {
  uint8_t* data = nullptr;
  void* descriptor = nullptr;
};
inline constexpr size_t kBufferBytes = 18 << 10;

class Memory {
 public:
  enum class Access { kLocal, kRemoteRead, kRemoteWrite };

  Memory(fid_domain* domain, const Terms& terms, std::shared_ptr<SlabPool> pool)
      : domain_(domain), terms_(terms), pool_(std::move(pool)) {}

  Result<Exposure> Expose(const uint8_t* data, size_t bytes, Access access);
  // The descriptor for an operation on this memory. `keep` must last as long as that.
  Result<void*> Local(const uint8_t* data, size_t bytes, Registration* keep);
  Result<Buffer> TakeBuffer();
  void GiveBuffer(Buffer buffer) { buffers_.push_back(buffer); }

 private:
  struct Chunk {
    std::unique_ptr<uint8_t[]> data;
    Registration registration;
  };
  Result<Registration> Register(const uint8_t* data, size_t bytes, Access access);
  void DropOldSlabs();

  fid_domain* const domain_;
  const Terms terms_;
  const std::shared_ptr<SlabPool> pool_;
  std::map<uint32_t, Registration> slabs_;
  std::vector<Chunk> chunks_;
  std::vector<Buffer> buffers_;  // not in use
};

}  // namespace perigee::rdma::ofi
