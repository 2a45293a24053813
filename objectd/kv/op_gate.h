#pragma once
// OpGate: lets operations in until it is closed, then waits for those inside.
// Thread rule: thread-safe.

#include <cstdint>
#include <mutex>

#include "base/event.h"
#include "base/status.h"

namespace perigee::objectd::kv {

class OpGate {
 public:
  // While it lives, the gate is not empty. Check entered() first.
  class Pass {
   public:
    explicit Pass(OpGate& gate) : gate_(gate), entered_(gate.Enter()) {}
    ~Pass() {
      if (entered_) gate_.Leave();
    }
    Pass(const Pass&) = delete;
    Pass& operator=(const Pass&) = delete;
    Status entered() const {
      return entered_ ? Status::Ok() : Status(Code::kUnavailable, "the metadata store is stopped");
    }

   private:
    OpGate& gate_;
    const bool entered_;
  };
  void Close() {
    std::lock_guard lock(mu_);
    closed_ = true;
  }
  void WaitEmpty() {
    std::unique_lock lock(mu_);
    while (inside_ != 0) left_.Wait(lock);
  }

 private:
  bool Enter() {
    std::lock_guard lock(mu_);
    inside_ += !closed_;
    return !closed_;
  }
  void Leave() {
    std::lock_guard lock(mu_);
    if (--inside_ == 0 && closed_) left_.NotifyAll();
  }

  std::mutex mu_;  // guards all below
  CondVar left_;
  bool closed_ = false;
  uint64_t inside_ = 0;
};

}  // namespace perigee::objectd::kv
