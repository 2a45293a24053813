#pragma once
// ByteGate: a bound on memory that is not a pool's. Requests say how much the documents they are
// about to read or make will take, and wait until that much is free. Thread-safe.

#include <cstdint>
#include <mutex>

#include "base/event.h"
#include "base/status.h"

namespace perigee::objectd::s3 {

class ByteGate {
 public:
  explicit ByteGate(uint64_t bytes_max) : bytes_max_(bytes_max) {}

  // Gives back what it stands for when it goes.
  class Pass {
   public:
    Pass() = default;
    Pass(Pass&& o) noexcept { *this = std::move(o); }
    Pass& operator=(Pass&& o) noexcept;
    ~Pass();

   private:
    friend class ByteGate;
    ByteGate* gate_ = nullptr;
    uint64_t bytes_ = 0;
  };
  // More than the bound counts as all of it. kBusy when there was no room in time.
  Result<Pass> Enter(uint64_t bytes, Nanos timeout);
  uint64_t bytes_in_use() const;

 private:
  void Leave(uint64_t bytes);

  const uint64_t bytes_max_;
  mutable std::mutex mu_;  // guards what follows
  CondVar free_;
  uint64_t in_use_ = 0;
};

}  // namespace perigee::objectd::s3
