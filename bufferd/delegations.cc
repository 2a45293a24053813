#include "bufferd/delegations.h"

#include <algorithm>

#include "base/log.h"
#include "rdma/rpc.h"

namespace perigee::bufferd {

using client::DelegationPage;

Result<std::unique_ptr<Delegations>> Delegations::Create(wire::NodeId node,
                                                         std::shared_ptr<rdma::Channel> objectd,
                                                         Scheduler* work, client::BootClock now) {
  PERIGEE_ASSIGN(auto page, DelegationPage::Create(now));
  return std::unique_ptr<Delegations>(
      new Delegations(node, std::move(objectd), work, std::move(page), std::move(now)));
}

Delegations::Delegations(wire::NodeId node, std::shared_ptr<rdma::Channel> objectd, Scheduler* work,
                         std::unique_ptr<DelegationPage> page, client::BootClock now)
    : node_(node),
      objectd_(std::move(objectd)),
      work_(work),
      now_(std::move(now)),
      page_(std::move(page)),
      born_(now_()),
      files_(DelegationPage::kSlots) {}

bool Delegations::Young() const { return now_() < born_ + kTerm; }

std::optional<Delegations::Mark> Delegations::Begin() {
  page_->Used();
  std::lock_guard lock(mu_);
  Arm(0);
  if (!known_ || now_() >= page_->term()) return std::nullopt;
  return Mark{round_, recalled_};
}

std::optional<wire::Delegation> Delegations::Take(wire::FileId id, const Mark& mark) {
  std::lock_guard lock(mu_);
  if (mark.first != round_) return std::nullopt;
  const uint64_t since = recalled_ - mark.second;
  if (since > last_recalled_.size() ||
      std::find(last_recalled_.end() - static_cast<ptrdiff_t>(since), last_recalled_.end(), id) !=
          last_recalled_.end())
    return std::nullopt;
  auto [it, added] = slots_.try_emplace(id, next_slot_);
  if (added) {
    ++taken_;
    next_slot_ = (next_slot_ + 1) % DelegationPage::kSlots;
    wire::FileId before = std::exchange(files_[it->second], id);
    if (before != 0) {
      slots_.erase(before);
      page_->End(it->second);
    }
  }
  return wire::Delegation{
      .page = page_->number(), .slot = it->second, .count = page_->count(it->second)};
}

void Delegations::EndLocked(wire::FileId id) {
  ++recalled_;
  last_recalled_.push_back(id);
  if (last_recalled_.size() > kRecalledMax) last_recalled_.pop_front();
  auto it = slots_.find(id);
  if (it == slots_.end()) return;
  page_->End(it->second);
  files_[it->second] = 0;
  slots_.erase(it);
}

bool Delegations::Recall(const std::vector<wire::FileId>& ids) {
  std::lock_guard lock(mu_);
  for (wire::FileId id : ids) EndLocked(id);
  return !Young();
}

void Delegations::Drop(wire::FileId id) {
  std::lock_guard lock(mu_);
  EndLocked(id);
}

Status Delegations::Tell(const wire::RenewDelegationsRequest& request) {
  auto reply = rdma::Call<wire::Empty>(*objectd_, wire::Method::kMetaRenewDelegations, request, {},
                                       {.timeout = kTerm});
  return reply.ok() ? Status::Ok() : std::move(reply).TakeStatus();
}

void Delegations::Forgo() {
  std::lock_guard lock(mu_);
  ++round_;
  known_ = false;
  taken_ = 0;
  page_->SetTerm(0);
  for (const auto& [id, slot] : slots_) {
    page_->End(slot);
    files_[slot] = 0;
  }
  slots_.clear();
}

void Delegations::GiveUp() {
  if (Young()) {
    std::lock_guard lock(mu_);
    return Arm(born_ + kTerm - now_());
  }
  {
    std::unique_lock lock(mu_);
    given_up_.Wait(lock, [this] { return !giving_up_; });
    giving_up_ = true;
  }
  Forgo();
  const Nanos asked = now_();
  Status told = Tell({.node = node_, .none_held = true});
  std::lock_guard lock(mu_);
  giving_up_ = false;
  given_up_.NotifyAll();
  ++round_;
  if (!told.ok()) {
    log::Info("delegations_not_given_up", {{"why", told}});
    return;
  }
  known_ = true;
  page_->SetTerm(asked + kTerm - kMargin);
}

// With mu_ held.
void Delegations::Arm(Nanos delay) {
  if (armed_) return;
  armed_ = work_->PostAfter(delay, [this] { Keep(); }) != 0;
}

// The timer: goes on for as long as there is use in it.
void Delegations::Keep() {
  const bool idle = now_() - page_->used() > kIdle;
  bool renew, give_up;
  {
    std::lock_guard lock(mu_);
    armed_ = false;
    renew = !idle && known_ && now_() < page_->term() && taken_ < kTakenMax;
    give_up = !renew && (!idle || !slots_.empty() || !known_);
  }
  if (renew) {
    const Nanos asked = now_();
    Status renewed = Tell({.node = node_});
    give_up = renewed.Is(Code::kStale);
    if (renewed.ok()) {
      std::lock_guard lock(mu_);
      page_->SetTerm(std::max(page_->term(), asked + kTerm - kMargin));
    }
  }
  if (give_up) GiveUp();
  if (idle) return;
  std::lock_guard lock(mu_);
  Arm(kRenewEvery);
}

}  // namespace perigee::bufferd
