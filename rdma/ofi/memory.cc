#include "rdma/ofi/memory.h"

#include <rdma/fabric.h>
#include <rdma/fi_domain.h>

#include "base/random.h"
#include "rdma/ofi/ofi_status.h"

namespace perigee::rdma::ofi {

namespace {
constexpr size_t kChunkBuffers = 32;

uint64_t FlagsOf(Memory::Access access) {
  switch (access) {
    case Memory::Access::kRemoteRead:
      return FI_REMOTE_READ;
    case Memory::Access::kRemoteWrite:
      return FI_REMOTE_WRITE;
    case Memory::Access::kLocal:
      break;
  }
  return FI_SEND | FI_RECV | FI_READ | FI_WRITE;
}
}  // namespace

Registration::~Registration() {
  if (mr_ != nullptr) fi_close(&mr_->fid);
}
uint64_t Registration::key() const { return fi_mr_key(mr_); }
void* Registration::descriptor() const { return mr_ != nullptr ? fi_mr_desc(mr_) : nullptr; }

Result<Registration> Memory::Register(const uint8_t* data, size_t bytes, Access access) {
  fid_mr* mr = nullptr;
  // Another one when this key is taken.
  for (int attempt = 0;; ++attempt) {
    int rc = fi_mr_reg(domain_, data, bytes, FlagsOf(access), 0, SecretU64(), 0, &mr, nullptr);
    if (rc == -FI_ENOKEY && attempt < 3) continue;
    PERIGEE_TRY(FromFi(rc, "fi_mr_reg of " + std::to_string(bytes) + " bytes"));
    return Registration(mr);
  }
}

Result<Exposure> Memory::Expose(const uint8_t* data, size_t bytes, Access access) {
  Exposure out;
  PERIGEE_ASSIGN(out.registration, Register(data, bytes, access));
  out.addr = terms_.virtual_addresses ? reinterpret_cast<uintptr_t>(data) : 0;
  out.key = out.registration.key();
  if (out.key == FI_KEY_NOTAVAIL) return Status(Code::kUnavailable, "libfabric gives no key");
  return out;
}

Result<void*> Memory::Local(const uint8_t* data, size_t bytes, Registration* keep) {
  if (!terms_.registers_local) return nullptr;
  SlabPool::Location at{};
  if (!pool_->Locate(data, bytes, &at)) {
    PERIGEE_ASSIGN(*keep, Register(data, bytes, Access::kLocal));
    return keep->descriptor();
  }
  auto it = slabs_.find(at.slab);
  if (it == slabs_.end()) {
    DropOldSlabs();
    PERIGEE_ASSIGN(SlabPool::Slab slab, pool_->GetSlab(at.slab));
    PERIGEE_ASSIGN(Registration whole, Register(data - at.offset, slab.bytes, Access::kLocal));
    it = slabs_.emplace(at.slab, std::move(whole)).first;
  }
  return it->second.descriptor();
}

// The pool gave them back to the system, which has them only when they are not pinned.
void Memory::DropOldSlabs() {
  std::erase_if(slabs_, [this](const auto& slab) {
    auto there = pool_->GetSlab(slab.first);
    there.status().Ignore();
    return !there.ok();
  });
}

Result<Buffer> Memory::TakeBuffer() {
  if (buffers_.empty()) {
    Chunk chunk;
    chunk.data = std::make_unique_for_overwrite<uint8_t[]>(kChunkBuffers * kBufferBytes);
    if (terms_.registers_local) {
      PERIGEE_ASSIGN(chunk.registration,
                     Register(chunk.data.get(), kChunkBuffers * kBufferBytes, Access::kLocal));
    }
    for (size_t i = 0; i < kChunkBuffers; ++i) {
      buffers_.push_back({chunk.data.get() + i * kBufferBytes, chunk.registration.descriptor()});
    }
    chunks_.push_back(std::move(chunk));
  }
  Buffer out = buffers_.back();
  buffers_.pop_back();
  return out;
}

}  // namespace perigee::rdma::ofi
