#pragma once
// Delegations: what objectd has delegated to this node (objectd/meta/delegations.h), and the page
// through which the mount sees it.
//
// An open asks with Begin before it asks objectd, and gets a slot with Take once it has the file.
// What was recalled, dropped or given up in between is not given a slot. A process of this node
// that died may have left a mount with a page that holds until its term is over, so a new one waits
// for a term before it takes or answers anything. The term is renewed while the mount makes use of
// it; after kIdle everything is given up, and nothing wakes this process any more. Thread-safe;
// only the timer and GiveUp block.

#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/event.h"
#include "base/scheduler.h"
#include "client/buffer/delegation_page.h"
#include "rdma/transport.h"
#include "rdma/wire/meta.h"

namespace perigee::bufferd {

class Delegations {
 public:
  static constexpr Nanos kTerm = wire::kDelegationTermNanos;
  static constexpr Nanos kIdle = 60 * kSecond;

  static Result<std::unique_ptr<Delegations>> Create(wire::NodeId node,
                                                     std::shared_ptr<rdma::Channel> objectd,
                                                     Scheduler* work,
                                                     client::BootClock now = client::BootTime);

  // What an open has to know to Take; nothing when there is no use in asking for a delegation now.
  using Mark = std::pair<uint64_t, uint64_t>;
  std::optional<Mark> Begin();
  // objectd has said that `id` is delegated, and the open has its file.
  std::optional<wire::Delegation> Take(wire::FileId id, const Mark& mark);
  // objectd's. False: not this process's to say.
  bool Recall(const std::vector<wire::FileId>& ids);
  // Another burst file serves it from now on, or none.
  void Drop(wire::FileId id);
  // All of them end: names change here without objectd.
  void Forgo();
  // And tells objectd that nothing is held of what was granted until now: it need not wait for this
  // node. Where this process is too young to know, it does so by itself later.
  void GiveUp();
  // Space is short: what the mount only keeps open it shall close.
  void AskBack() { page_->AskBack(); }

  const client::DelegationPage& page() const { return *page_; }

 private:
  static constexpr size_t kRecalledMax = 4096;
  static constexpr size_t kTakenMax = 1 << 17;  // then objectd is told to forget: it bounds them
  static constexpr Nanos kRenewEvery = kTerm / 4;
  static constexpr Nanos kMargin = kTerm / 8;  // the term ends so much earlier here

  Delegations(wire::NodeId node, std::shared_ptr<rdma::Channel> objectd, Scheduler* work,
              std::unique_ptr<client::DelegationPage> page, client::BootClock now);
  bool Young() const;
  void EndLocked(wire::FileId id);
  Status Tell(const wire::RenewDelegationsRequest& request);
  void Keep();
  void Arm(Nanos delay);

  const wire::NodeId node_;
  const std::shared_ptr<rdma::Channel> objectd_;
  Scheduler* const work_;
  const client::BootClock now_;
  const std::unique_ptr<client::DelegationPage> page_;
  const Nanos born_;

  std::mutex mu_;  // guards what follows
  CondVar given_up_;
  bool giving_up_ = false;  // one at a time
  bool armed_ = false;
  bool known_ = false;     // objectd has heard that nothing is held, and renews from then on
  uint64_t round_ = 1;     // grows when all is given up, before and after objectd hears of it
  uint64_t recalled_ = 0;  // how many there were
  std::deque<wire::FileId> last_recalled_;
  size_t taken_ = 0;  // in this round
  std::unordered_map<wire::FileId, uint32_t> slots_;
  std::vector<wire::FileId> files_;  // by slot; 0: free
  uint32_t next_slot_ = 0;
};

}  // namespace perigee::bufferd
