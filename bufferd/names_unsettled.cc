// What objectd made, and is not known to hold durably: settled by a sync there about once a second;
// journaled when objectd falls silent first, or is found to have been started again.

#include "base/log.h"
#include "bufferd/core.h"
#include "bufferd/names.h"

namespace perigee::bufferd {

using wire::Method;

namespace {

// objectd syncs by itself as often.
constexpr Nanos kSettleEvery = kSecond;

// The directory that the change is in, or leads to; 0: it does not tell.
wire::FileId DirectoryOf(const NameOp& op) {
  auto id = [&](auto request, auto member) -> wire::FileId {
    auto q = wire::Decode<decltype(request)>(op.request);
    return q.ok() ? (*q).*member : 0;
  };
  switch (static_cast<Method>(op.method)) {
    case Method::kMetaCreate:
    case Method::kMetaMkdir:
      return id(wire::MakeRequest(), &wire::MakeRequest::parent);
    case Method::kMetaRename:
      return id(wire::RenameRequest(), &wire::RenameRequest::new_parent);
    default:
      return id(wire::RemoveRequest(), &wire::RemoveRequest::parent);
  }
}

}  // namespace

void Names::NoteMade(NameOp op, Since since) {
  op.made = true;
  if (state_ != State::kThere || since.absences != absences_) {
    // Found away since: whoever answered may have lost it, and nothing else would notice.
    if (state_ == State::kThere)
      GoAwayLocked(Status(Code::kUnavailable, "objectd answered, and was found away"));
    op.place = known_.PathOf(DirectoryOf(op));
    if (Status s = Journal(std::move(op)); !s.ok())
      log::Error("names_not_journaled", {{"changes", 1}, {"error", s}});
    return;
  }
  unsettled_.push_back({next_op_++, std::move(op)});
  ArmSettle(unsettled_.size() >= kOpsMax / 2 ? 0 : kSettleEvery);
}

void Names::ArmSettle(Nanos delay) {
  if (settling_ || stopping_) return;
  settling_ = work_->PostAfter(delay, [this] { Settle(); }) != 0;
}

void Names::Settle() {
  uint64_t until;  // what comes later, while it is asked, this does not settle
  bool none;
  {
    std::lock_guard lock(mu_);
    settling_ = false;
    if (stopping_ || state_ != State::kThere) return;
    none = unsettled_.empty();
    until = settled_ + unsettled_.size();
  }
  auto instance = SyncThere();
  {
    std::lock_guard lock(mu_);
    if (stopping_ || state_ != State::kThere) return;
    // What was made before its life was known may be of an earlier one.
    uint64_t unknown = 0;
    if (instance.ok() && none) life_.compare_exchange_strong(unknown, *instance);
    if (instance.ok() && life_ == *instance) {
      // Some may be settled already, or journaled: by another call that went out later.
      for (; settled_ < until; ++settled_) unsettled_.pop_front();
      if (!unsettled_.empty()) ArmSettle(kSettleEvery);
      return;
    }
    if (!instance.ok() && !instance.status().Is(Code::kUnavailable)) return ArmSettle(kSettleEvery);
  }
  GoAway(instance.ok() ? Status(Code::kUnavailable, "objectd was started again")
                       : std::move(instance).TakeStatus());
}

uint64_t Names::Life() {
  if (life_ == 0 && state_ == State::kThere) {
    auto instance = SyncThere();
    uint64_t unknown = 0;
    std::lock_guard lock(mu_);
    if (instance.ok() && unsettled_.empty()) life_.compare_exchange_strong(unknown, *instance);
  }
  return life_;
}

Status Names::SyncIn(uint64_t life) {
  if (state_ == State::kAway) return Status(Code::kUnavailable, "objectd is away");
  auto instance = SyncThere();
  if (!instance.ok()) {
    if (IsAway(instance.status())) Suspect(instance.status());
    return std::move(instance).TakeStatus();
  }
  if (*instance == life) return Status::Ok();
  Status again(Code::kUnavailable, "objectd was started again");
  if (*instance != life_) Suspect(again);
  return again;
}

void Names::JournalUnsettled() {
  if (unsettled_.empty()) return;
  std::map<std::string, std::optional<std::string>> stored;
  for (JournaledOp& journaled : unsettled_) {
    journaled.op.place = known_.PathOf(DirectoryOf(journaled.op));
    stored[OpName(journaled.sequence)] = EncodeOp(journaled.op);
    ops_.push_back(std::move(journaled));
  }
  OrderOps();
  settled_ += unsettled_.size();
  unsettled_.clear();
  // They are made again all the same, unless this process dies first.
  if (Status s = index_->ChangeValues(stored, Durable::kNo); !s.ok())
    log::Error("names_not_journaled", {{"changes", stored.size()}, {"error", s}});
}

}  // namespace perigee::bufferd
