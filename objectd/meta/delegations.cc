#include "objectd/meta/delegations.h"

#include <algorithm>

#include "base/bytes.h"
#include "base/log.h"

namespace perigee::objectd {

Delegations::Delegations(Clock& clock, metrics::Registry& metrics, Recall recall,
                         std::vector<wire::NodeId> unheard)
    : clock_(clock),
      recall_(std::move(recall)),
      started_(clock.Monotonic()),
      grants_(metrics.GetCounter("perigee_meta_delegations_granted_total",
                                 "files that a node may open without asking")),
      recalls_(metrics.GetCounter("perigee_meta_delegations_recalled_total",
                                  "calls that took delegations back before a change was answered")),
      expiries_(metrics.GetCounter("perigee_meta_delegations_expired_total",
                                   "recalls that a node did not answer: changes waited for the end "
                                   "of its term")),
      unheard_(unheard.begin(), unheard.end()) {}

bool Delegations::Grant(wire::NodeId node, wire::FileId id) {
  std::lock_guard lock(mu_);
  NodeState& state = nodes_[node];
  if (state.lapsed) return false;
  auto& holders = files_[id];
  auto it =
      std::find_if(holders.begin(), holders.end(), [&](const Holder& h) { return h.node == node; });
  if (it == holders.end()) {
    if (state.files >= kNodeFilesMax) {
      if (holders.empty()) files_.erase(id);
      return false;
    }
    ++state.files;
    it = holders.insert(holders.end(), {.node = node});
  }
  it->grant = next_grant_++;
  state.until = clock_.Monotonic() + kTerm;
  grants_->Add();
  return true;
}

Status Delegations::Renew(wire::NodeId node, bool none_held) {
  std::lock_guard lock(mu_);
  NodeState& state = nodes_[node];
  if (state.lapsed && !none_held)
    return Status(Code::kStale, "what was delegated to this node holds no longer");
  state.until = clock_.Monotonic() + kTerm;
  if (!none_held) return Status::Ok();
  state.lapsed = false;
  state.files = 0;
  for (auto it = files_.begin(); it != files_.end();) {
    std::erase_if(it->second, [&](const Holder& h) { return h.node == node; });
    it = it->second.empty() ? files_.erase(it) : std::next(it);
  }
  unheard_.erase(node);
  heard_.NotifyAll();
  return Status::Ok();
}

void Delegations::AwaitUnheard() {
  std::unique_lock lock(mu_);
  while (!unheard_.empty()) {
    const Nanos left = started_ + kTerm - clock_.Monotonic();
    if (left <= 0) return unheard_.clear();
    heard_.WaitFor(lock, left);
  }
}

Delegations::Held Delegations::HeldOf(const std::vector<wire::FileId>& changed) {
  Held held;
  std::lock_guard lock(mu_);
  if (files_.empty()) return held;
  for (wire::FileId id : changed) {
    auto it = files_.find(id);
    if (it == files_.end()) continue;
    for (const Holder& h : it->second) held[h.node].emplace_back(id, h.grant);
  }
  return held;
}

// Only now, and only what was not granted again meanwhile: whoever changes the same file next waits
// for the same recall.
void Delegations::Drop(wire::NodeId node,
                       const std::vector<std::pair<wire::FileId, uint64_t>>& recalled) {
  std::lock_guard lock(mu_);
  for (const auto& [id, grant] : recalled) {
    auto it = files_.find(id);
    if (it == files_.end()) continue;
    const uint64_t seen = grant;
    size_t gone = std::erase_if(it->second,
                                [&](const Holder& h) { return h.node == node && h.grant == seen; });
    nodes_[node].files -= std::min(nodes_[node].files, gone);
    if (it->second.empty()) files_.erase(it);
  }
}

// No renewal moves it from here on.
Nanos Delegations::EndOfTerm(wire::NodeId node) {
  std::lock_guard lock(mu_);
  nodes_[node].lapsed = true;
  return nodes_[node].until;
}

void Delegations::Settle(const std::vector<wire::FileId>& changed) {
  if (changed.empty()) return;
  AwaitUnheard();
  for (const auto& [node, recalled] : HeldOf(changed)) {
    std::vector<wire::FileId> ids;
    for (const auto& [id, grant] : recalled) ids.push_back(id);
    recalls_->Add();
    Status answered = recall_(node, ids, kTerm);
    if (!answered.ok()) {
      expiries_->Add();
      log::Info("recall_unanswered", {{"node", HexEncode64(node)}, {"why", answered}});
      const Nanos left = EndOfTerm(node) - clock_.Monotonic();
      Event over;
      if (left > 0) over.WaitFor(left);
    }
    Drop(node, recalled);
  }
}

}  // namespace perigee::objectd
