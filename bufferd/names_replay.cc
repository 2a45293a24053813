// What was changed here, made at objectd: in order, in batches. A batch leaves the journal once it
// is durable there, in the same life of objectd: one that lost power meanwhile gets it again.

#include <algorithm>

#include "base/bytes.h"
#include "base/log.h"
#include "bufferd/core.h"
#include "bufferd/names.h"

namespace perigee::bufferd {

using wire::Method;

namespace {

constexpr size_t kHoldBackOps = 64;  // so few are soon done: changes wait for them
constexpr size_t kBatch = 256;
constexpr size_t kCompactAgain = 4 * kBatch;  // so few cost little
constexpr Nanos kSyncTimeout = 10 * kSecond;

}  // namespace

// True once objectd has everything, and is asked again.
bool Names::Replay() {
  size_t done = 0;
  auto replay = [&]() -> Status {
    PERIGEE_TRY(Begin());
    for (bool first = true; true; first = false) {
      while (true) {
        PERIGEE_ASSIGN(bool more, Proceed());
        if (!more) break;
        ++done;
      }
      if (first) HoldBackNoMore();  // it may take long, and little is left for the next time
      PERIGEE_TRY(hooks_.commit_all());
      if (CaughtUp()) return Status::Ok();
    }
  };
  Status s = replay();
  if (s.ok()) {
    log::Info("names_caught_up", {{"changes", done}});
    hooks_.caught_up(std::exchange(restarted_, false));
    return true;
  }
  log::Info("names_wait_on", {{"why", s}});
  std::lock_guard lock(mu_);
  // A full object tier is there, all the same.
  if (IsAway(s)) state_ = State::kAway;
  held_back_ = false;
  changed_.NotifyAll();
  return false;
}

void Names::HoldBackNoMore() {
  std::lock_guard lock(mu_);
  held_back_ = false;
  changed_.NotifyAll();
}

// objectd is asked from now on, where nothing came meanwhile.
bool Names::CaughtUp() {
  std::lock_guard lock(mu_);
  if (!ops_.empty() || !made_.empty() || state_ == State::kAway) return false;
  state_ = State::kThere;
  changed_names_.Clear();
  held_back_ = false;
  knocking_ = false;
  changed_.NotifyAll();
  ArmKeep(0);
  return true;
}

Result<uint64_t> Names::SyncThere() {
  PERIGEE_ASSIGN(auto reply,
                 rdma::Call<wire::SyncReply>(
                     *objectd_, Method::kMetaSync, wire::Empty{}, {},
                     {.timeout = kSyncTimeout, .traffic = rdma::TrafficClass::kCheckpoint}));
  return reply.instance;
}

Status Names::Begin() {
  PutBack();
  PERIGEE_ASSIGN(uint64_t instance, SyncThere());
  restarted_ |= life_.exchange(instance) != instance;
  PERIGEE_TRY(DropTold());
  return Compact();
}

// Where the journal of another life of this node, or its index after a loss of power, has what
// objectd was told: that is not made again, whatever became of it since.
Status Names::DropTold() {
  told_.reset();
  {
    std::lock_guard lock(mu_);
    if (options_.node == 0 || ops_.empty()) return Status::Ok();
  }
  Status asked = AskTold();
  if (!asked.ok()) return IsAway(asked) ? asked : Status::Ok();  // one that does not keep it
  {
    std::lock_guard lock(mu_);
    std::deque<JournaledOp> left;
    for (JournaledOp& journaled : ops_) {
      // What objectd made by itself it may have lost before it was told of the next.
      const bool told = journaled.sequence <= *told_ && !journaled.op.made;
      if (told)
        made_.push_back(std::move(journaled));
      else
        left.push_back(std::move(journaled));
    }
    ops_ = std::move(left);
    OrderOps();
  }
  if (!made_.empty()) log::Info("names_told_before", {{"changes", made_.size()}});
  return DropMade();
}

// What is not known to be durable there is made once more.
void Names::PutBack() {
  repeated_ = tried_;
  std::lock_guard lock(mu_);
  for (JournaledOp& journaled : made_) ops_.push_back(std::move(journaled));
  made_.clear();
  OrderOps();
}

// With mu_ held: in the order in which they were made, here or by objectd.
void Names::OrderOps() {
  std::sort(ops_.begin(), ops_.end(),
            [](const JournaledOp& a, const JournaledOp& b) { return a.sequence < b.sequence; });
  ListChangedNames();
  kept_.clear();
  for (const JournaledOp& journaled : made_) Count(journaled);
  pending_.clear();
  for (const JournaledOp& journaled : ops_) Count(journaled);
  any_pending_ = !pending_.empty();
  any_kept_ = !kept_.empty();
}

// Everything that objectd had until now is durable there.
Status Names::Compact() {
  std::vector<wire::FileId> asked;
  bool again = false;
  {
    std::lock_guard lock(mu_);
    for (const JournaledOp& journaled : ops_) {
      if (!Again(journaled)) continue;
      again = true;
      if (pending_.contains(journaled.op.id)) asked.push_back(journaled.op.id);
    }
  }
  // What others have removed since is not made again.
  if (again) PERIGEE_TRY(hooks_.hear_removals(direct_));
  std::unordered_set<wire::FileId> there;
  for (wire::FileId id : asked) {
    Status s = direct_.GetAttr({.id = id}).status();
    if (s.ok()) there.insert(id);
    if (!s.ok() && !IsGone(s)) return s;
  }
  std::map<std::string, std::optional<std::string>> stored;
  std::lock_guard lock(mu_);
  PERIGEE_ASSIGN(auto changed, CompactOps(ops_, there));
  if (changed.empty()) return Status::Ok();
  for (const auto& [sequence, op] : changed)
    stored[OpName(sequence)] = op ? std::optional(EncodeOp(*op)) : std::nullopt;
  PERIGEE_TRY(index_->ChangeValues(stored, Durable::kNo));
  std::deque<JournaledOp> left;
  for (JournaledOp& journaled : ops_) {
    auto it = changed.find(journaled.sequence);
    if (it == changed.end())
      left.push_back(std::move(journaled));
    else if (it->second)
      left.push_back({journaled.sequence, std::move(*it->second), journaled.sent});
  }
  log::Info("names_compacted", {{"changes", ops_.size()}, {"left", left.size()}});
  ops_ = std::move(left);
  OrderOps();
  return Status::Ok();
}

Status Names::Forget() {
  if (made_.empty()) return Status::Ok();
  PERIGEE_ASSIGN(uint64_t instance, SyncThere());
  if (instance != life_) {
    log::Warn("names_made_again",
              {{"why", "objectd was started again"}, {"changes", made_.size()}});
    restarted_ = true;
    life_ = instance;
    PutBack();
    PERIGEE_TRY(DropTold());
    return Compact();
  }
  PERIGEE_TRY(NoteMadeThere());
  PERIGEE_TRY(DropMade());
  {
    std::lock_guard lock(mu_);
    if (ops_.size() > kCompactAgain) return Status::Ok();
  }
  return Compact();  // what came meanwhile
}

// All of made_ is durable at objectd: it notes that, in case the journal loses that it was dropped.
Status Names::NoteMadeThere() {
  if (options_.node == 0 || made_.empty() || (told_ && made_.back().sequence <= *told_))
    return Status::Ok();
  Status noted = Apply({}, "", made_.back().sequence);
  if (noted.ok() || IsAway(noted)) return noted;
  told_.reset();
  return Status::Ok();  // without, it is found out file by file
}

// The same.
Status Names::DropMade() {
  if (made_.empty()) return Status::Ok();
  std::map<std::string, std::optional<std::string>> stored;
  for (const JournaledOp& journaled : made_) stored[OpName(journaled.sequence)] = std::nullopt;
  PERIGEE_TRY(index_->ChangeValues(stored, Durable::kNo));
  std::vector<wire::FileId> let_go;
  {
    std::lock_guard lock(mu_);
    for (const JournaledOp& journaled : made_) {
      auto it = kept_.find(journaled.op.id);
      if (it == kept_.end() || it->second != journaled.sequence) continue;
      kept_.erase(it);
      let_go.push_back(journaled.op.id);
    }
    any_kept_ = !kept_.empty();
    made_.clear();
  }
  for (wire::FileId id : let_go) hooks_.let_go(id);
  return Status::Ok();
}

// One change, or one batch's end. False: nothing is left.
Result<bool> Names::Proceed() {
  std::unique_lock lock(mu_);
  if (stopping_) return Status(Code::kCancelled, "stopping");
  // Another call found it silent.
  if (state_ == State::kAway) return Status(Code::kUnavailable, "objectd fell silent");
  if (ops_.empty() && made_.empty()) return false;
  if (ops_.size() <= kHoldBackOps) held_back_ = true;
  if (ops_.empty() || made_.size() >= kBatch) {
    lock.unlock();
    PERIGEE_TRY(Forget());
    return true;
  }
  JournaledOp next = ops_.front();
  uint64_t last = ops_[std::min(ops_.size(), kBatch) - 1].sequence;
  lock.unlock();
  if (next.sequence > tried_) {
    std::string value;
    AppendBe64(&value, last);
    PERIGEE_TRY(index_->PutValue(kNamesTried, value, Durable::kYes));
    tried_ = last;
  }
  PERIGEE_TRY(Make(next));
  lock.lock();
  ops_.pop_front();
  pending_.erase(next.op.id);
  any_pending_ = !pending_.empty();
  made_.push_back(std::move(next));
  changed_.NotifyAll();
  return true;
}

}  // namespace perigee::bufferd
