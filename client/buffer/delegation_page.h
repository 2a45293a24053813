#pragma once
// DelegationPage: memory that bufferd shares with the mount of its node, so that the mount can tell
// without a call whether what it was told of a file still holds.
//
// A file that is delegated to the node (objectd/meta/delegations.h) has a slot, and the delegation
// holds while the slot's count is what the open was answered with and the node's term is not over.
// bufferd moves the count when the file is recalled, before it answers the recall; it moves the end
// of the term when objectd has renewed it. A bufferd that died moves nothing any more: its page
// ends by itself. Times are CLOCK_BOOTTIME, which goes on while a machine sleeps. Thread-safe.

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>

#include "base/status.h"
#include "rdma/transport.h"
#include "rdma/wire/burst.h"

namespace perigee::client {

Nanos BootTime();
using BootClock = std::function<Nanos()>;  // BootTime, but for tests; of both sides the same

class DelegationPage {
 public:
  static constexpr uint32_t kSlots = 65536;

  static Result<std::unique_ptr<DelegationPage>> Create(BootClock now = BootTime);
  // The one that a descriptor from bufferd is of.
  static Result<std::unique_ptr<DelegationPage>> Map(const rdma::OwnedFd& fd,
                                                     BootClock now = BootTime);
  ~DelegationPage();
  DelegationPage(const DelegationPage&) = delete;
  DelegationPage& operator=(const DelegationPage&) = delete;

  uint64_t number() const { return number_; }
  Result<rdma::OwnedFd> Descriptor() const;

  // The mount's side. Using one tells bufferd that renewing is worth its while.
  bool Holds(const wire::Delegation& given) const;
  void Used() const;
  // Grows when bufferd wants files closed that are only kept open.
  uint64_t asked_back() const { return shared_->asked_back.load(); }

  // bufferd's side.
  uint64_t count(uint32_t slot) const { return shared_->counts[slot].load(); }
  void End(uint32_t slot) { ++shared_->counts[slot]; }
  void SetTerm(Nanos until) { shared_->until = until; }
  Nanos term() const { return shared_->until.load(); }
  Nanos used() const { return shared_->used.load(); }
  void AskBack() { ++shared_->asked_back; }

 private:
  struct Shared {
    uint64_t number;
    std::atomic<int64_t> until;
    std::atomic<int64_t> used;
    std::atomic<uint64_t> asked_back;
    std::array<std::atomic<uint64_t>, kSlots> counts;
  };
  DelegationPage(rdma::OwnedFd fd, Shared* shared, BootClock now);

  const rdma::OwnedFd fd_;
  const BootClock now_;
  Shared* const shared_;
  const uint64_t number_;
};

}  // namespace perigee::client
