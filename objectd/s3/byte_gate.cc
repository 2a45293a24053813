#include "objectd/s3/byte_gate.h"

#include <algorithm>
#include <utility>

namespace perigee::objectd::s3 {

ByteGate::Pass& ByteGate::Pass::operator=(Pass&& o) noexcept {
  std::swap(gate_, o.gate_);
  std::swap(bytes_, o.bytes_);
  return *this;
}

ByteGate::Pass::~Pass() {
  if (gate_) gate_->Leave(bytes_);
}

Result<ByteGate::Pass> ByteGate::Enter(uint64_t bytes, Nanos timeout) {
  bytes = std::min(bytes, bytes_max_);
  std::unique_lock lock(mu_);
  if (!free_.WaitFor(lock, timeout, [&] { return bytes_max_ - in_use_ >= bytes; }))
    return Status(Code::kBusy, "too many documents are in memory");
  in_use_ += bytes;
  Pass pass;
  pass.gate_ = this;
  pass.bytes_ = bytes;
  return pass;
}

uint64_t ByteGate::bytes_in_use() const {
  std::lock_guard lock(mu_);
  return in_use_;
}

void ByteGate::Leave(uint64_t bytes) {
  std::lock_guard lock(mu_);
  in_use_ -= bytes;
  free_.NotifyAll();
}

}  // namespace perigee::objectd::s3
