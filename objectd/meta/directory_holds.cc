#include "objectd/meta/directory_holds.h"

#include <algorithm>

#include "base/bytes.h"
#include "base/failpoint.h"
#include "base/log.h"
#include "objectd/meta/keys.h"

namespace perigee::objectd {
namespace {

constexpr size_t kBarredMax = 4096;
constexpr size_t kLoadedMax = 1 << 20;

Status GiveUpFirst() {
  return Status(Code::kStale, "what this node held is taken back: it gives up everything first");
}

}  // namespace

DirectoryHolds::DirectoryHolds(kv::Store& store, Clock& clock, metrics::Registry& metrics,
                               Tell tell)
    : store_(store),
      clock_(clock),
      tell_(std::move(tell)),
      grants_(metrics.GetCounter("perigee_meta_directories_held_total",
                                 "directories in which a node was let make files without asking")),
      reads_(metrics.GetCounter("perigee_meta_directory_holders_asked_total",
                                "reads that waited until a directory's holder had told all")),
      taken_(metrics.GetCounter("perigee_meta_directories_taken_back_total",
                                "held directories that others came to make use of")),
      expiries_(metrics.GetCounter("perigee_meta_directory_terms_expired_total",
                                   "holders that did not answer: others waited for the end of "
                                   "their term")) {}

Result<std::unique_ptr<DirectoryHolds>> DirectoryHolds::Create(kv::Store& store, Clock& clock,
                                                               metrics::Registry& metrics,
                                                               Tell tell) {
  std::unique_ptr<DirectoryHolds> holds(new DirectoryHolds(store, clock, metrics, std::move(tell)));
  PERIGEE_TRY(holds->Load());
  return holds;
}

// Of an earlier process: it may have renewed their terms until now.
Status DirectoryHolds::Load() {
  std::vector<kv::KeyValue> rows;
  auto read = store_.Run([&](kv::Transaction& txn) -> Status {
    PERIGEE_ASSIGN(rows, txn.Scan(kv::PrefixRange(keys::HoldPrefix()), kLoadedMax,
                                  kv::Direction::kForward, kv::ReadMode::kSnapshot));
    return Status::Ok();
  });
  if (!read.ok()) return std::move(read).TakeStatus();
  std::lock_guard lock(mu_);
  for (const auto& [key, value] : rows) {
    PERIGEE_ASSIGN(wire::FileId dir, keys::DecodeHold(key));
    PERIGEE_ASSIGN(wire::NodeId node, DecodeId(value));
    holds_[dir] = {.node = node};
    NodeState& state = nodes_[node];
    state.lapsed = true;
    state.until = clock_.Monotonic() + kTerm;
    ++state.dirs;
  }
  count_ = holds_.size();
  return Status::Ok();
}

wire::NodeId DirectoryHolds::HolderOf(wire::FileId dir) const {
  if (count_ == 0) return 0;
  std::lock_guard lock(mu_);
  auto it = holds_.find(dir);
  return it == holds_.end() ? 0 : it->second.node;
}

Result<bool> DirectoryHolds::Begin(wire::NodeId node, wire::FileId dir, int64_t at) {
  std::lock_guard lock(mu_);
  NodeState& state = nodes_[node];
  if (state.lapsed) return GiveUpFirst();
  const Nanos now = clock_.Monotonic();
  state.until = now + kTerm;
  auto barred = barred_.find(dir);
  if (barred != barred_.end() && barred->second > now) return false;
  auto held = holds_.find(dir);
  if (held == holds_.end()) {
    if (state.dirs >= kNodeDirsMax) return false;
    ++state.dirs;
  } else if (const Hold& hold = held->second;
             hold.node != node || hold.beginning || hold.taking || hold.at >= at) {
    return false;
  }
  holds_[dir] = {.node = node, .beginning = true, .at = at};
  count_ = holds_.size();
  return true;
}

void DirectoryHolds::End(wire::FileId dir, bool granted) {
  std::lock_guard lock(mu_);
  if (granted) {
    grants_->Add();
    holds_[dir].beginning = false;
  } else {
    EraseLocked(dir);
  }
  changed_.NotifyAll();
}

Status DirectoryHolds::Renew(wire::NodeId node) {
  std::lock_guard lock(mu_);
  NodeState& state = nodes_[node];
  if (state.lapsed) return GiveUpFirst();
  state.until = clock_.Monotonic() + kTerm;
  return Status::Ok();
}

Status DirectoryHolds::Release(wire::NodeId node, const std::vector<wire::FileId>& dirs, bool all,
                               int64_t at) {
  std::vector<wire::FileId> released;
  {
    std::unique_lock lock(mu_);
    auto meant = [&](wire::FileId dir, const Hold& hold) {
      return hold.node == node && hold.at < at &&
             (all || std::find(dirs.begin(), dirs.end(), dir) != dirs.end());
    };
    // A grant that is under way belongs to a call of this node that nobody waits for any more.
    changed_.Wait(lock, [&] {
      return std::none_of(holds_.begin(), holds_.end(), [&](const auto& entry) {
        return entry.second.beginning && meant(entry.first, entry.second);
      });
    });
    for (auto& [dir, hold] : holds_) {
      if (!meant(dir, hold) || hold.taking) continue;
      hold.taking = true;
      released.push_back(dir);
    }
    if (all) nodes_[node].lapsed = false;
  }
  Status dropped = Drop(released);
  if (dropped.ok()) return dropped;
  std::lock_guard lock(mu_);
  for (wire::FileId dir : released) holds_[dir].taking = false;
  changed_.NotifyAll();
  return dropped;
}

// The rows go first: what is held in memory only is asked for at most once too often.
Status DirectoryHolds::Drop(const std::vector<wire::FileId>& dirs) {
  if (dirs.empty()) return Status::Ok();
  PERIGEE_FAILPOINT_STATUS(meta_hold_before_drop);
  auto dropped = store_.Run([&](kv::Transaction& txn) -> Status {
    for (wire::FileId dir : dirs) txn.Delete(keys::Hold(dir));
    return Status::Ok();
  });
  if (!dropped.ok()) return std::move(dropped).TakeStatus();
  PERIGEE_FAILPOINT(meta_hold_after_drop);
  std::lock_guard lock(mu_);
  for (wire::FileId dir : dirs) EraseLocked(dir);
  changed_.NotifyAll();
  return Status::Ok();
}

void DirectoryHolds::EraseLocked(wire::FileId dir) {
  auto it = holds_.find(dir);
  if (it == holds_.end()) return;
  NodeState& state = nodes_[it->second.node];
  if (state.dirs > 0) --state.dirs;
  ++ended_;  // first: whoever sees it gone sees this
  holds_.erase(it);
  count_ = holds_.size();
}

void DirectoryHolds::BarLocked(wire::FileId dir) {
  const Nanos now = clock_.Monotonic();
  if (barred_.size() >= kBarredMax)
    std::erase_if(barred_, [&](const auto& entry) { return entry.second <= now; });
  if (barred_.size() < kBarredMax) barred_[dir] = now + kBarred;
}

// No renewal moves it from here on.
void DirectoryHolds::AwaitEndOfTerm(wire::NodeId node) {
  Nanos left;
  {
    std::lock_guard lock(mu_);
    nodes_[node].lapsed = true;
    left = nodes_[node].until - clock_.Monotonic();
  }
  Event over;
  if (left > 0) over.WaitFor(left);
}

Status DirectoryHolds::Take(wire::FileId dir, bool keep) {
  wire::NodeId node;
  bool answers;
  {
    std::unique_lock lock(mu_);
    auto settled = [&] {
      auto it = holds_.find(dir);
      return it == holds_.end() || (!it->second.beginning && !it->second.taking);
    };
    changed_.Wait(lock, settled);
    auto it = holds_.find(dir);
    if (it == holds_.end()) return Status::Ok();
    Hold& hold = it->second;
    if (keep && ++hold.reads > kReadsMax) keep = false;
    hold.taking = !keep;
    node = hold.node;
    const NodeState& state = nodes_[node];
    answers = !state.lapsed || state.until > clock_.Monotonic();
  }
  Status told =
      answers ? tell_(node, dir, keep, kTerm) : Status(Code::kUnavailable, "its term is over");
  (keep ? reads_ : taken_)->Add();
  if (told.ok() && keep) return told;
  if (!told.ok()) {
    expiries_->Add();
    log::Info("directory_not_given_up", {{"node", HexEncode64(node)}, {"why", told}});
    AwaitEndOfTerm(node);
  }
  Status dropped = Drop({dir});
  std::lock_guard lock(mu_);
  BarLocked(dir);
  auto it = holds_.find(dir);
  if (it != holds_.end()) it->second.taking = false;  // the row is still there
  changed_.NotifyAll();
  return dropped;
}

void DirectoryHolds::Changed(const std::vector<wire::FileId>& ids) {
  if (count_ == 0) return;
  for (wire::FileId id : ids) {
    if (HolderOf(id) == 0) continue;
    // It is committed by now; a store that is down ends everything.
    if (Status s = Take(id, false); !s.ok())
      log::Error("directory_hold_not_dropped", {{"error", s}});
  }
}

}  // namespace perigee::objectd
