// Directories that objectd lets this node hold: files are made there by the journal, and told in
// batches a little later, or at once where somebody waits for it.

#include <algorithm>

#include "base/bytes.h"
#include "base/failpoint.h"
#include "base/log.h"
#include "bufferd/core.h"
#include "bufferd/names.h"
#include "client/meta/meta_client.h"
#include "rdma/wire/name.h"

namespace perigee::bufferd {

using wire::Method;

namespace {

constexpr Nanos kTerm = wire::kDelegationTermNanos;
constexpr Nanos kMargin = kTerm / 8;  // the term ends so much earlier here
constexpr Nanos kKeepEvery = kTerm / 4;
constexpr Nanos kIdle = 5 * kSecond;          // of a directory; then it is given back
constexpr Nanos kGather = 20 * kMillisecond;  // changes wait so long for others
constexpr Nanos kForgetEvery = kSecond;       // a sync at objectd
constexpr Nanos kRetryEvery = kSecond;
constexpr Nanos kTellTimeout = 5 * kSecond;
constexpr Nanos kBusyMax = 200 * kMillisecond;
constexpr size_t kTellAtOnce = 32;  // so many do not wait for others
constexpr size_t kTellMax = 48;
constexpr size_t kTellBytesMax = wire::kApplyBytesMax - (64 << 10);  // one more file fits
constexpr size_t kUntoldMax = 4096;  // objectd takes what is untold in well under a term
constexpr size_t kMadeMax = 2048;
// A transaction of objectd's with two events a file, each with its path.
constexpr size_t kEventBytesMax = 256 << 10;
constexpr size_t kEventBytes = 512;
constexpr uint32_t kPage = 1024;

bool Enforced(const wire::Caller& caller) { return caller.enforce && caller.uid != 0; }

void AddClosed(const KeptFile& file, int64_t at, wire::ApplyRequest* q, std::string* bytes) {
  q->ops.push_back({.method = static_cast<uint64_t>(Method::kMetaPublish),
                    .request = wire::Encode(file.request),
                    .inline_bytes = file.bytes.size(),
                    .at = at});
  *bytes += file.bytes;
}

}  // namespace

Nanos Names::BootNow() const {
  return options_.boot_time ? options_.boot_time() : work_->clock().Monotonic();
}

HeldDirectory* Names::Holds(wire::FileId dir) {
  HeldDirectory* held = held_.Find(dir);
  if (!held) return nullptr;
  if (BootNow() < term_until_) return held;
  DropHolds();
  return nullptr;
}

const KnownNames::Known* Names::PendingAt(wire::FileId dir, const std::string& name) const {
  const KnownNames::Known* known = nullptr;
  if (pending_.empty() || known_.Find(dir, name, &known) != KnownNames::Answer::kExists)
    return nullptr;
  return pending_.contains(known->record.id) ? known : nullptr;
}

void Names::AddName(wire::FileId dir, const std::string& name) {
  HeldDirectory* held = held_.FindAny(dir);
  if (held && !held_.AddName(held, name)) GiveBack(dir, HeldDirectories::kBarredTooMany);
}

// It is not worth holding.
void Names::GiveBack(wire::FileId dir, Nanos bar) {
  held_.Bar(dir, BootNow(), bar);
  returning_.push_back(dir);
}

void Names::DropHolds() {
  held_.Clear();
  returning_.clear();
  term_until_ = 0;
  release_all_ = true;
  ArmKeep(0);
}

bool Names::AnswerHeld(Method method, std::string* header, Answer* answer, Flying* flying) {
  if (options_.node == 0 || !holding_) return false;
  std::unique_lock lock(mu_);
  if (state_ != State::kThere) return false;
  const bool any = !held_.empty() || !pending_.empty();
  auto done = [&](Answer found) {
    if (found.way != Way::kDone) return false;
    *answer = std::move(found);
    return true;
  };
  auto ready = [&](auto& q) {
    if (!held_.empty() || release_all_) {
      q.caller.node = options_.node;
      *header = wire::Encode(q);
    }
    return false;
  };
  auto run = [&](auto request, auto fn) {
    auto q = wire::Decode<decltype(request)>(*header);
    return q.ok() ? fn(*q) : false;  // objectd refuses it
  };
  switch (method) {
    case Method::kMetaLookup:
      if (!any) return false;
      return run(wire::LookupRequest(), [&](wire::LookupRequest& q) {
        if (!q.path.empty()) {
          if (!pending_.empty()) AwaitTold(0, lock);
          return ready(q);
        }
        if (const auto* known = PendingAt(q.parent, q.name)) {
          if (!Enforced(q.caller)) return done(Show(*known));
          AwaitTold(q.parent, lock);
        } else if (HeldDirectory* held = Holds(q.parent); held && !Enforced(q.caller)) {
          held->used = BootNow();
          if (wire::IsNameable(q.name) && !held->names.contains(q.name))
            return done(
                {.way = Way::kDone, .reply = Status(Code::kNotFound, "no file '" + q.name + "'")});
        }
        return ready(q);
      });
    case Method::kMetaGetAttr:
      if (pending_.empty()) return false;
      return run(wire::GetAttrRequest(), [&](wire::GetAttrRequest& q) {
        const KnownNames::Known* known = pending_.contains(q.id) ? known_.Get(q.id) : nullptr;
        return known && done(Show(*known));
      });
    case Method::kMetaReadDir:
      if (!any) return false;
      return run(wire::ReadDirRequest(), [&](wire::ReadDirRequest& q) {
        if (!pending_.empty()) AwaitTold(q.dir, lock);
        return ready(q);
      });
    case Method::kMetaCreate:
      return run(wire::MakeRequest(), [&](wire::MakeRequest& q) {
        if (done(MakeHeld(q, lock))) return true;
        flying->Add(q.parent, q.name);
        return ready(q);
      });
    case Method::kMetaMkdir:
    case Method::kMetaSymlink:
    case Method::kMetaMknod:
      return run(wire::MakeRequest(), [&](wire::MakeRequest& q) {
        // Which directories it comes through is not known here: they are asked for, one by one.
        if (q.parents) {
          if (!pending_.empty()) AwaitTold(0, lock);
          return false;
        }
        if (PendingAt(q.parent, q.name)) AwaitTold(q.parent, lock);
        flying->Add(q.parent, q.name);
        return ready(q);
      });
    case Method::kMetaUnlink:
    case Method::kMetaRmdir:
      if (!any) return false;
      return run(wire::RemoveRequest(), [&](wire::RemoveRequest& q) {
        if (PendingAt(q.parent, q.name)) AwaitTold(q.parent, lock);
        return ready(q);
      });
    case Method::kMetaRename:
      return run(wire::RenameRequest(), [&](wire::RenameRequest& q) {
        if (PendingAt(q.parent, q.name)) AwaitTold(q.parent, lock);
        if (PendingAt(q.new_parent, q.new_name)) AwaitTold(q.new_parent, lock);
        flying->Add(q.new_parent, q.new_name);
        if ((q.flags & wire::kRenameExchange) != 0) flying->Add(q.parent, q.name);
        return ready(q);
      });
    case Method::kMetaLink:
      return run(wire::LinkRequest(), [&](wire::LinkRequest& q) {
        if (pending_.contains(q.id) || PendingAt(q.new_parent, q.new_name))
          AwaitTold(q.new_parent, lock);
        flying->Add(q.new_parent, q.new_name);
        return ready(q);
      });
    case Method::kMetaSetAttr:
      if (pending_.empty()) return false;
      return run(wire::SetAttrRequest(), [&](wire::SetAttrRequest& q) {
        if (!pending_.contains(q.id)) return false;
        if (!Enforced(q.caller)) {
          Answer set = SetAttrHere(q);
          ArmTell(kGather);
          return done(std::move(set));
        }
        AwaitTold(0, lock);
        return false;
      });
    case Method::kMetaSetXattr:
    case Method::kMetaRemoveXattr:
      if (pending_.empty()) return false;
      return run(wire::XattrRequest(), [&](wire::XattrRequest& q) {
        if (pending_.contains(q.id)) AwaitTold(0, lock);
        return false;
      });
    default:
      return false;
  }
}

// kCannot: objectd is asked.
Names::Answer Names::MakeHeld(const wire::MakeRequest& q, std::unique_lock<std::mutex>& lock) {
  if (const KnownNames::Known* there = PendingAt(q.parent, q.name)) {
    if (q.id != 0 && there->record.id == q.id) return Show(*there);
    if (Enforced(q.caller)) {
      AwaitTold(q.parent, lock);
      return {};
    }
    return {.way = Way::kDone, .reply = Status(Code::kAlreadyExists, "'" + q.name + "' exists")};
  }
  if (Enforced(q.caller) || !wire::IsNameable(q.name) || !Holds(q.parent)) return {};
  if (ops_.size() >= kUntoldMax) {
    changed_.WaitFor(lock, options_.patience, [this] {
      return ops_.size() < kUntoldMax || state_ != State::kThere || stopping_.load();
    });
    if (ops_.size() >= kUntoldMax || state_ != State::kThere || stopping_) return {};
  }
  HeldDirectory* held = Holds(q.parent);
  if (!held || held->names.contains(q.name)) return {};
  Answer made = MakeAt(held->record, held->path, Method::kMetaCreate, q, false);
  if (made.way != Way::kDone || !made.reply.ok()) return made;
  held->used = BootNow();
  held->record.mtime = held->record.ctime = work_->clock().Wall();
  ++held->made;
  AddName(q.parent, q.name);
  BoundKnown();
  ArmTell(kGather);
  return made;
}

// What is pending stays known: there is no other place to look for it.
void Names::BoundKnown() {
  if (state_ != State::kThere || known_.size() < KnownNames::kKnownMax + pending_.size()) return;
  std::vector<KnownNames::Known> pending;
  for (const auto& [id, sent] : pending_)
    if (const KnownNames::Known* known = known_.Get(id)) pending.push_back(*known);
  known_.Clear();
  for (const KnownNames::Known& known : pending) {
    known_.Learn(known.parent, known.name, known.record);
    known_.Own(known.record.id);
  }
}

void Names::Forget(wire::FileId dir, const std::string& name) {
  if (!PendingAt(dir, name)) known_.Forget(dir, name);
}

void Names::LearnPage(const wire::ReadDirRequest& asked, const wire::ReadDirReply& page) {
  known_.LearnPage(asked, page);
  for (const auto& [id, sent] : pending_) {
    const KnownNames::Known* known = known_.Get(id);
    if (!known || known->parent != asked.dir) continue;
    const KnownNames::Known kept = *known;
    known_.Learn(kept.parent, kept.name, kept.record);
  }
}

// Times of a directory are of the last change here, which objectd may not know yet.
void Names::MergeTimes(Method method, rdma::Payload* reply) {
  if (method != Method::kMetaGetAttr && method != Method::kMetaLookup) return;
  std::lock_guard lock(mu_);
  if (held_.empty()) return;
  auto there = wire::Decode<wire::RecordReply>(reply->header);
  if (!there.ok()) return there.status().Ignore();
  HeldDirectory* held = held_.Find(there->record.id);
  if (!held || held->made == 0) return;
  wire::Record& record = there->record;
  record.mtime = std::max(record.mtime, held->record.mtime);
  record.ctime = std::max(record.ctime, held->record.ctime);
  reply->header = wire::Encode(*there);
}

// ---------------------------------------------------------------- holding

void Names::CountCreate(wire::FileId dir) {
  if (options_.node == 0 || !holding_ || release_all_ || state_ != State::kThere) return;
  HeldDirectory* asked = held_.CountCreate(dir, BootNow());
  if (!asked) return;
  for (auto it = flying_.lower_bound({dir, ""}); it != flying_.end() && it->first == dir; ++it)
    (void)held_.AddName(asked, it->second);  // too many are found again
  if (!work_->Post([this, dir, number = asked->number] { Hold(dir, number); }).ok())
    held_.Drop(dir);
}

void Names::Hold(wire::FileId dir, uint64_t number) {
  const bool known = Life() != 0;
  const Nanos asked = BootNow();
  Result<wire::HoldDirectoryReply> reply =
      known ? rdma::Call<wire::HoldDirectoryReply>(
                  *objectd_, Method::kMetaHoldDirectory,
                  wire::HoldDirectoryRequest{
                      .node = options_.node, .dir = dir, .at = work_->clock().Wall()},
                  {}, {.timeout = kTellTimeout})
            : Result<wire::HoldDirectoryReply>(Status(Code::kUnavailable, "objectd is not known"));
  {
    std::lock_guard lock(mu_);
    HeldDirectory* held = held_.FindAny(dir);
    const bool mine = held && held->number == number;
    if (!reply.ok()) {
      if (reply.code() == Code::kUnimplemented) holding_ = false;
      if (mine) held_.Bar(dir, asked);
      // Whether it is held there is not known.
      if (!reply.status().Is(Code::kStale) && !IsAway(reply.status())) return;
      return DropHolds();
    }
    if (!mine) return;  // taken back already, or all was given up
    if (!reply->granted) return held_.Bar(dir, asked);
    term_until_ = std::max(term_until_, asked + kTerm - kMargin);
    held->record = reply->record;
    held->path = reply->path;
    ArmKeep(kKeepEvery);
  }
  Status learnt = LearnNames(dir, number);
  std::lock_guard lock(mu_);
  HeldDirectory* held = held_.FindAny(dir);
  if (!held || held->number != number) return learnt.Ignore();
  if (!learnt.ok()) {
    log::Info("directory_not_learnt", {{"directory", HexEncode64(dir)}, {"why", learnt}});
    return GiveBack(dir, learnt.Is(Code::kNoSpace) ? HeldDirectories::kBarredTooMany
                                                   : HeldDirectories::kBarred);
  }
  held->asked = false;
  held->used = BootNow();
}

// The names that were there when it was granted; those that this node adds meanwhile are noted as
// they go.
Status Names::LearnNames(wire::FileId dir, uint64_t number) {
  wire::ReadDirRequest q{.caller = {.node = options_.node}, .dir = dir, .limit = kPage};
  while (true) {
    PERIGEE_ASSIGN(wire::ReadDirReply page, direct_.ReadDir(q));
    std::lock_guard lock(mu_);
    HeldDirectory* held = held_.FindAny(dir);
    if (stopping_ || !held || held->number != number)
      return Status(Code::kCancelled, "not held any more");
    for (const wire::DirItem& item : page.items)
      if (!held_.AddName(held, item.name)) return Status(Code::kNoSpace, "too many names");
    if (page.end || page.items.empty()) return Status::Ok();
    q.after = page.items.back().key;
  }
}

void Names::ArmKeep(Nanos delay) {
  if (options_.node == 0 || !holding_ || keep_armed_ || stopping_) return;
  keep_armed_ = work_->PostAfter(delay, [this] { Keep(); }) != 0;
}

// The timer: as long as something is held, or was.
void Names::Keep() {
  bool release_all;
  {
    std::lock_guard lock(mu_);
    keep_armed_ = false;
    if (keeping_ || stopping_ || state_ != State::kThere) return;
    keeping_ = true;
    release_all = release_all_;
  }
  if (release_all)
    ReleaseAll();
  else
    Renew();
  std::lock_guard lock(mu_);
  keeping_ = false;
  if (release_all_ || !held_.empty() || !returning_.empty()) ArmKeep(kKeepEvery);
}

// Once objectd was told of everything.
void Names::ReleaseAll() {
  {
    std::lock_guard lock(mu_);
    if (!ops_.empty()) return ArmTell(0);
  }
  auto released =
      rdma::Call<wire::Empty>(*objectd_, Method::kMetaReleaseDirectories,
                              wire::ReleaseDirectoriesRequest{
                                  .node = options_.node, .all = true, .at = work_->clock().Wall()},
                              {}, {.timeout = kTellTimeout});
  std::lock_guard lock(mu_);
  if (released.ok()) release_all_ = false;
  if (released.code() == Code::kUnimplemented) holding_ = false;
}

void Names::Renew() {
  std::vector<wire::FileId> returning;
  bool held;
  {
    std::lock_guard lock(mu_);
    const Nanos idle = BootNow() - kIdle;
    std::vector<wire::FileId> unused;
    for (const auto& [dir, directory] : held_.all())
      if (!directory.asked && directory.used < idle) unused.push_back(dir);
    for (wire::FileId dir : unused) {
      held_.Drop(dir);
      returning_.push_back(dir);
    }
    if (ops_.empty()) returning = std::exchange(returning_, {});
    held = !held_.empty();
  }
  const Nanos asked = BootNow();
  Status said;
  if (!returning.empty()) {
    said = rdma::Call<wire::Empty>(
               *objectd_, Method::kMetaReleaseDirectories,
               wire::ReleaseDirectoriesRequest{
                   .node = options_.node, .dirs = returning, .at = work_->clock().Wall()},
               {}, {.timeout = kTellTimeout})
               .status();
  }
  if (said.ok() && held) {
    said = rdma::Call<wire::HoldDirectoryReply>(*objectd_, Method::kMetaHoldDirectory,
                                                wire::HoldDirectoryRequest{.node = options_.node},
                                                {}, {.timeout = kTerm})
               .status();
    if (said.ok()) {
      std::lock_guard lock(mu_);
      if (term_until_ != 0) term_until_ = std::max(term_until_, asked + kTerm - kMargin);
      return;
    }
  }
  if (said.ok()) return;
  log::Info("directories_given_up", {{"why", said}});
  std::lock_guard lock(mu_);
  DropHolds();
}

Status Names::TakeDirectory(wire::FileId dir, bool keep) {
  std::unique_lock lock(mu_);
  if (!started_) return Status(Code::kUnavailable, "starting");
  if (!keep) held_.Bar(dir, BootNow());
  const uint64_t last = ops_.empty() ? 0 : ops_.back().sequence;
  ++hurried_;
  changed_.NotifyAll();
  ArmTell(0);
  const bool told = changed_.WaitFor(lock, kTerm, [&] {
    return stopping_ || (state_ == State::kThere && (ops_.empty() || ops_.front().sequence > last));
  });
  --hurried_;
  if (told && !stopping_) return Status::Ok();
  return Status(Code::kUnavailable, "what was made here is not told yet");
}

void Names::GiveUpHolds() {
  {
    std::unique_lock lock(mu_);
    if (options_.node == 0 || !started_ || state_ != State::kThere) return;
    DropHolds();
    AwaitTold(0, lock);
  }
  ReleaseAll();
}

// ---------------------------------------------------------------- telling

void Names::AwaitTold(wire::FileId id) {
  if (!any_pending_) return;
  std::unique_lock lock(mu_);
  if (state_ != State::kThere || !pending_.contains(id)) return;
  const KnownNames::Known* known = known_.Get(id);
  // Not until all of its batch is done with: that waits for whoever is at the file, as the caller
  // may be.
  auto awaited = awaited_.insert(id);
  Await(known ? known->parent : 0, lock, [this, id] { return !pending_.contains(id); });
  awaited_.erase(awaited);
}

void Names::AwaitTold(wire::FileId dir, std::unique_lock<std::mutex>& lock) {
  if (ops_.empty()) return;
  const uint64_t last = ops_.back().sequence;
  Await(dir, lock, [this, last] { return ops_.empty() || ops_.front().sequence > last; });
}

// `dir`: holding it has to be worth the waiting.
void Names::Await(wire::FileId dir, std::unique_lock<std::mutex>& lock,
                  const std::function<bool()>& told) {
  HeldDirectory* held = held_.Find(dir);
  if (held && 8 * ++held->waited > held->made + 64) GiveBack(dir);
  ++hurried_;
  changed_.NotifyAll();
  ArmTell(0);
  changed_.WaitFor(lock, kTerm, [&] { return stopping_ || state_ != State::kThere || told(); });
  --hurried_;
}

void Names::ArmTell(Nanos delay) {
  const Nanos due = BootNow() + delay;
  if (telling_ || stopping_ || (tell_due_ != 0 && tell_due_ <= due)) return;
  if (tell_->PostAfter(delay, [this] { Tell(); }) != 0) tell_due_ = due;
}

void Names::Tell() {
  std::unique_lock lock(mu_);
  tell_due_ = 0;
  if (telling_) return;
  telling_ = true;
  auto goes_on = [this] { return !stopping_ && state_ == State::kThere; };
  while (goes_on()) {
    const bool some = !ops_.empty();
    if (!some && made_.empty()) break;
    if (made_.size() >= kMadeMax || (!some && BootNow() - told_at_ >= kForgetEvery)) {
      lock.unlock();
      Status s = ForgetTold();
      lock.lock();
      if (s.ok()) continue;
      s.Ignore();  // logged where it was found
      break;
    }
    if (!some) break;
    changed_.WaitFor(lock, kGather,
                     [&] { return hurried_ > 0 || ops_.size() >= kTellAtOnce || !goes_on(); });
    if (!goes_on()) break;
    lock.unlock();
    Status s = TellSome();
    lock.lock();
    if (s.ok()) continue;
    log::Info("names_wait_on", {{"why", s}});
    DropHolds();  // here or there is no room, or nobody there
    changed_.WaitFor(lock, kRetryEvery, [&] { return !goes_on(); });
  }
  telling_ = false;
  changed_.NotifyAll();
  if (goes_on() && !made_.empty()) ArmTell(kForgetEvery);
}

Status Names::Apply(wire::ApplyRequest q, const std::string& bytes, uint64_t through) {
  q.node = options_.node;
  if (through != 0) {
    if (!told_) PERIGEE_TRY(AskTold());
    q.journal = journal_;
    q.through = through;
    q.after = *told_;
  }
  auto reply = rdma::Call<wire::ApplyReply>(*objectd_, Method::kMetaApply, q, AsBytes(bytes),
                                            {.timeout = kTellTimeout});
  if (!reply.ok()) return std::move(reply).TakeStatus();
  if (through != 0) told_ = reply->through;
  return Status::Ok();
}

// Where nothing is told that may be lost: that would show by what objectd says afterwards.
Status Names::AskTold() {
  PERIGEE_ASSIGN(auto reply, rdma::Call<wire::ApplyReply>(
                                 *objectd_, Method::kMetaApply,
                                 wire::ApplyRequest{.node = options_.node, .journal = journal_}, {},
                                 {.timeout = kTellTimeout}));
  told_ = reply.through;
  return Status::Ok();
}

// The first changes of the journal, in one call with what is closed of their files.
Status Names::TellSome() {
  std::vector<JournaledOp> batch;
  {
    std::lock_guard lock(mu_);
    if (ops_.empty()) return Status::Ok();
    const size_t event = 2 * (ops_.front().op.place.size() + kEventBytes);
    const size_t most = std::clamp<size_t>(kEventBytesMax / event, 1, kTellMax);
    batch.assign(ops_.begin(), ops_.begin() + static_cast<ptrdiff_t>(std::min(ops_.size(), most)));
  }
  const uint64_t life = life_;
  wire::ApplyRequest q;
  std::string bytes;
  std::vector<std::unique_ptr<KeptFile>> closed;
  std::vector<wire::FileId> open;
  std::unordered_map<wire::FileId, int64_t> changed;  // when, so far
  std::unordered_set<wire::FileId> looked_at;
  size_t count = 0;
  for (; count < batch.size() && q.ops.size() + 2 <= wire::kApplyOpsMax &&
         bytes.size() < kTellBytesMax;
       ++count) {
    const NameOp& op = batch[count].op;
    int64_t& at = changed[op.id];
    at = std::max(at, op.at);
    q.ops.push_back({.method = op.method, .request = op.request, .at = at});
    if (!looked_at.insert(op.id).second) continue;
    auto file = hooks_.keep(op.id);
    if (!file || !file->closed) {
      open.push_back(op.id);
      continue;
    }
    at = std::max(at, file->ctime);
    AddClosed(*file, at, &q, &bytes);
    closed.push_back(std::move(file));
  }
  batch.resize(count);
  const uint64_t last = batch.back().sequence;
  {
    std::lock_guard lock(mu_);
    for (const JournaledOp& journaled : batch)
      if (auto it = pending_.find(journaled.op.id); it != pending_.end()) it->second = true;
  }
  if (last > tried_) {
    std::string value;
    AppendBe64(&value, last);
    PERIGEE_TRY(index_->PutValue(kNamesTried, value, Durable::kYes));
    tried_ = last;
  }
  PERIGEE_FAILPOINT(held_tell_before);
  Status told = Apply(std::move(q), bytes, last);
  PERIGEE_FAILPOINT(held_tell_after);
  if (told.Is(Code::kUnavailable) || told.Is(Code::kDeadlineExceeded) ||
      told.Is(Code::kPreconditionFailed)) {
    for (auto& file : closed) file->Unanswered();
    GoAway(told);
    return told;
  }
  if (told.ok()) {
    for (auto& file : closed) {
      file->Told(life);
      EndPending(file->request.id, last);
    }
    closed.clear();
    TellOpen(std::move(open), life, last);
  } else {
    // Others were there first, after all, or some of it is gone, or has no room: each has its own
    // way then.
    log::Info("names_told_one_by_one", {{"why", told}});
    closed.clear();
    PERIGEE_TRY(TellOneByOne(batch));
    for (const JournaledOp& journaled : batch) {
      EndPending(journaled.op.id, last);
      hooks_.commit(journaled.op.id).Ignore();
    }
  }
  PERIGEE_FAILPOINT(held_before_pop);
  {
    std::lock_guard lock(mu_);
    std::erase_if(ops_, [&](const JournaledOp& journaled) {
      return std::any_of(batch.begin(), batch.end(), [&](const JournaledOp& done) {
        return done.sequence == journaled.sequence;
      });
    });
    for (JournaledOp& journaled : batch) made_.push_back(std::move(journaled));
    told_at_ = BootNow();
    changed_.NotifyAll();
  }
  // What was made one by one is not noted there: the next batch must not be taken for all of it.
  return told.ok() ? Status::Ok() : ForgetTold();
}

// objectd answers for the file from now on, unless it was changed here since `last` was made. With
// its KeptFile at hand: what is closed from then on is published by whoever closes it.
void Names::EndPending(wire::FileId id, uint64_t last) {
  std::lock_guard lock(mu_);
  EndPendingLocked(id, last);
}

void Names::EndPendingLocked(wire::FileId id, uint64_t last) {
  for (auto op = ops_.rbegin(); op != ops_.rend() && op->sequence > last; ++op)
    if (op->op.id == id) return;
  pending_.erase(id);
  any_pending_ = !pending_.empty();
  changed_.NotifyAll();
}

// Files whose names objectd has, and which were not closed when it was told of them. What was
// closed since is told before anybody asks objectd.
void Names::TellOpen(std::vector<wire::FileId> ids, uint64_t life, uint64_t last) {
  const Nanos began = BootNow();
  while (!ids.empty()) {
    wire::ApplyRequest q;
    std::string bytes;
    std::vector<std::unique_ptr<KeptFile>> closed;
    std::vector<wire::FileId> busy;
    for (wire::FileId id : ids) {
      auto file = bytes.size() < kTellBytesMax ? hooks_.keep(id) : nullptr;
      if (!file) {
        busy.push_back(id);
      } else if (!file->closed) {
        EndPending(id, last);
      } else {
        AddClosed(*file, file->ctime, &q, &bytes);
        closed.push_back(std::move(file));
      }
    }
    if (!closed.empty()) {
      Status told = Apply(std::move(q), bytes, 0);
      for (auto& file : closed) {
        const wire::FileId id = file->request.id;
        if (told.ok())
          file->Told(life);
        else
          file->Unanswered();
        EndPending(id, last);
        file.reset();
        if (!told.ok()) hooks_.commit(id).Ignore();  // by itself, now or later
      }
      if (!told.ok()) log::Info("names_told_one_by_one", {{"why", told}});
    }
    std::unique_lock lock(mu_);
    // Whoever waits for this may have the file in its hands; and nobody has one for long.
    const bool patient = BootNow() - began < kBusyMax && state_ == State::kThere && !stopping_;
    ids.clear();
    for (wire::FileId id : busy) {
      if (patient && !awaited_.contains(id)) {
        ids.push_back(id);
        continue;
      }
      EndPendingLocked(id, last);
      // After whoever has it: it may have closed it in the belief that this tells of it.
      work_->Post([this, id] { hooks_.commit(id).Ignore(); }).Ignore();
    }
    if (!ids.empty()) changed_.WaitFor(lock, kMillisecond);
  }
}

Status Names::TellOneByOne(const std::vector<JournaledOp>& batch) {
  {
    std::lock_guard lock(mu_);
    DropHolds();
  }
  for (const JournaledOp& journaled : batch) {
    Status s = Make(journaled);
    if (s.ok()) continue;
    if (s.Is(Code::kUnavailable) || s.Is(Code::kDeadlineExceeded)) GoAway(s);
    return s;
  }
  return Status::Ok();
}

// What objectd was told leaves the journal once it is durable there.
Status Names::ForgetTold() {
  auto instance = SyncThere();
  if (!instance.ok()) {
    if (instance.code() == Code::kUnavailable) GoAway(instance.status());
    return std::move(instance).TakeStatus();
  }
  if (*instance == life_) {
    Status noted = NoteMadeThere();
    if (noted.ok()) return DropMade();
    GoAway(noted);
    return noted;
  }
  Status again(Code::kUnavailable, "objectd was started again");
  GoAway(again);
  return again;
}

}  // namespace perigee::bufferd
