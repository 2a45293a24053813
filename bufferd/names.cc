#include "bufferd/names.h"

#include <algorithm>

#include "base/bytes.h"
#include "base/log.h"
#include "base/random.h"
#include "bufferd/core.h"

namespace perigee::bufferd {

using wire::Method;

namespace {

constexpr char kOpPrefix[] = "op/";
constexpr Nanos kProbeTimeout = kSecond;
constexpr Nanos kReplayTimeout = 5 * kSecond;
constexpr Nanos kHoldBack = 100 * kMillisecond;
constexpr uint32_t kIdsAtOnce = 65536;  // as many as may be used while objectd is away
constexpr uint32_t kIdsLow = 49152;
constexpr uint32_t kPage = 1024;
constexpr int kPagesMax = 16;

bool Away(const Status& s) { return s.Is(Code::kUnavailable) || s.Is(Code::kDeadlineExceeded); }

// Calls that have another way while objectd is away.
bool HasHere(Method method) {
  switch (method) {
    case Method::kMetaLookup:
    case Method::kMetaGetAttr:
    case Method::kMetaReadDir:
    case Method::kMetaMkdir:
    case Method::kMetaCreate:
    case Method::kMetaRmdir:
    case Method::kMetaUnlink:
    case Method::kMetaRename:
    case Method::kMetaSetAttr:
    case Method::kMetaStatFs:
      return true;
    default:
      return false;
  }
}

bool Reads(Method method) {
  return method == Method::kMetaLookup || method == Method::kMetaGetAttr ||
         method == Method::kMetaReadDir || method == Method::kMetaStatFs;
}

// A lookup by a path; nothing: another call, or there is no name in it.
std::optional<wire::LookupRequest> PathOf(Method method, std::string_view header) {
  if (method != Method::kMetaLookup) return std::nullopt;
  auto q = wire::Decode<wire::LookupRequest>(header);
  if (!q.ok()) return q.status().Ignore(), std::nullopt;
  const bool names = q->path.find_first_not_of('/') != std::string::npos;
  return names ? std::optional(std::move(*q)) : std::nullopt;
}

// The file that a call of the guarded channel is about; 0: none.
wire::FileId FileOf(Method method, std::string_view header) {
  auto id = [&](auto request) -> wire::FileId {
    auto q = wire::Decode<decltype(request)>(header);
    return q.ok() ? q->id : 0;
  };
  switch (method) {
    case Method::kMetaGetAttr:
      return id(wire::GetAttrRequest());
    case Method::kMetaOpenWrite:
      return id(wire::OpenWriteRequest());
    case Method::kMetaPublish:
      return id(wire::PublishRequest());
    case Method::kMetaEndWrite:
      return id(wire::EndWriteRequest());
    case Method::kMetaCommitFlush:
      return id(wire::CommitFlushRequest());
    case Method::kMetaSetDurability:
      return id(wire::SetDurabilityRequest());
    case Method::kMetaFallBack:
      return id(wire::FallBackRequest());
    default:
      return 0;
  }
}

}  // namespace

std::string OpName(uint64_t sequence) { return kOpPrefix + HexEncode64(sequence); }

// A channel whose calls are made by a function, on the caller's thread.
class Names::Door final : public rdma::Channel {
 public:
  using Serve =
      std::function<Result<rdma::Payload>(Method, std::string, ConstBytes, rdma::CallOptions)>;
  Door(std::shared_ptr<rdma::Channel> objectd, Serve serve)
      : objectd_(std::move(objectd)), serve_(std::move(serve)) {}
  void Call(Method method, std::string header, ConstBytes bulk, rdma::CallOptions options,
            Done done) override {
    done(CallAndWait(method, std::move(header), bulk, options));
  }
  Result<rdma::Payload> CallAndWait(Method method, std::string header, ConstBytes bulk,
                                    rdma::CallOptions options) override {
    return serve_(method, std::move(header), bulk, options);
  }
  bool Healthy() const override { return objectd_->Healthy(); }
  std::string Describe() const override { return objectd_->Describe(); }
  void Close() override { objectd_->Close(); }

 private:
  const std::shared_ptr<rdma::Channel> objectd_;
  const Serve serve_;
};

Names::Names(std::shared_ptr<rdma::Channel> objectd, BurstIndex* index, Scheduler* work,
             NamesOptions options)
    : objectd_(std::move(objectd)),
      direct_(
          objectd_,
          {.timeout = kReplayTimeout, .durable_timeout = 2 * kReplayTimeout, .node = options.node}),
      index_(index),
      work_(work),
      tell_(options.tell ? options.tell : work),
      options_(options),
      calls_(std::make_shared<Door>(
          objectd_,
          [this](Method method, std::string header, ConstBytes bulk, rdma::CallOptions call) {
            bool here = false;
            return Ask(method, std::move(header), bulk, call, &here);
          })),
      guarded_(std::make_shared<Door>(objectd_, [this](Method method, std::string header,
                                                       ConstBytes bulk, rdma::CallOptions call) {
        return Guard(method, std::move(header), bulk, call);
      })) {}

Names::~Names() { Stop(); }

void Names::Stop() {
  stopping_ = true;
  std::lock_guard lock(mu_);
  changed_.NotifyAll();
}

Status Names::Start(NamesHooks hooks) {
  hooks_ = std::move(hooks);
  std::unique_lock lock(mu_);
  PERIGEE_ASSIGN(auto tried, index_->GetValue(kNamesTried));
  if (tried && tried->size() == 8) tried_ = GetBe64(*tried);
  PERIGEE_ASSIGN(auto journal, index_->GetValue(kNamesJournal));
  if (journal && journal->size() == 8) {
    journal_ = GetBe64(*journal);
  } else {
    journal_ = std::max<uint64_t>(SecretU64(), 1);
    std::string value;
    AppendBe64(&value, journal_);
    PERIGEE_TRY(index_->PutValue(kNamesJournal, value, Durable::kYes));
  }
  PERIGEE_TRY(index_->ForEachValue(
      kOpPrefix, [this](const std::string& name, std::string_view value) -> Status {
        PERIGEE_ASSIGN(NameOp op, DecodeOp(value));
        auto sequence = std::stoull(name.substr(sizeof kOpPrefix - 1), nullptr, 16);
        next_op_ = sequence + 1;
        ops_.push_back({sequence, std::move(op)});
        Count(ops_.back());
        return Status::Ok();
      }));
  next_op_ = std::max(next_op_, tried_ + 1);
  started_ = true;
  if (ops_.empty()) {
    ArmSettle(0);  // what this node made in an earlier run
    ArmKeep(0);
    return Status::Ok();
  }
  log::Info("names_wait", {{"changes", ops_.size()}});
  for (const JournaledOp& journaled : ops_) LearnAgain(journaled.op);
  lock.unlock();
  GoAway(Status(Code::kUnavailable, "changes of names of an earlier run come first"));
  return Status::Ok();
}

// What the changes of an earlier run made is known again, as far as each tells.
void Names::LearnAgain(const NameOp& op) {
  switch (static_cast<Method>(op.method)) {
    case Method::kMetaCreate:
    case Method::kMetaMkdir: {
      auto q = wire::Decode<wire::MakeRequest>(op.request);
      if (!q.ok()) return q.status().Ignore();
      const bool directory = static_cast<Method>(op.method) == Method::kMetaMkdir;
      wire::Record record{.id = op.id,
                          .kind = directory ? wire::FileKind::kDirectory : wire::FileKind::kFile,
                          .mode = q->mode,
                          .uid = q->uid,
                          .gid = q->gid};
      record.writer = q->writer;
      known_.Learn(q->parent, q->name, record);
      known_.Own(op.id);
      if (directory) known_.MadeEmpty(op.id);
      return;
    }
    case Method::kMetaRename: {
      auto q = wire::Decode<wire::RenameRequest>(op.request);
      if (!q.ok()) return q.status().Ignore();
      const KnownNames::Known* moved = known_.Get(op.id);
      if (!moved) {
        known_.Doubt(q->parent, q->name);
        known_.Doubt(q->new_parent, q->new_name);
        return;
      }
      const KnownNames::Known was = *moved;
      known_.Move(was.parent, was.name, q->new_parent, q->new_name, was.record);
      return;
    }
    case Method::kMetaUnlink:
    case Method::kMetaRmdir: {
      auto q = wire::Decode<wire::RemoveRequest>(op.request);
      if (!q.ok()) return q.status().Ignore();
      const KnownNames::Known* removed = known_.Get(op.id);
      if (removed)
        known_.Forget(removed->parent, std::string(removed->name));
      else
        known_.Doubt(q->parent, q->name);
      return;
    }
    default:
      return;
  }
}

uint64_t Names::waiting() const {
  std::lock_guard lock(mu_);
  return static_cast<uint64_t>(std::count_if(
      ops_.begin(), ops_.end(), [](const JournaledOp& journaled) { return !journaled.op.made; }));
}

// With mu_ held: what the op makes of the sets.
void Names::Count(const JournaledOp& journaled) {
  const NameOp& op = journaled.op;
  switch (static_cast<Method>(op.method)) {
    case Method::kMetaCreate:
    case Method::kMetaMkdir:
      pending_[op.id] = op.made || journaled.sent || journaled.sequence <= tried_;
      [[fallthrough]];
    case Method::kMetaRename:
      kept_[op.id] = journaled.sequence;
      kept_.erase(op.replaced);
      break;
    case Method::kMetaUnlink:
      kept_.erase(op.id);
      break;
    default:
      break;
  }
  any_pending_ = !pending_.empty();
  any_kept_ = !kept_.empty();
}

bool Names::Keeps(wire::FileId id) const {
  if (!any_kept_) return false;
  std::lock_guard lock(mu_);
  return kept_.contains(id);
}

bool Names::Waits(wire::FileId id) const {
  if (!any_pending_) return false;
  std::lock_guard lock(mu_);
  return pending_.contains(id);
}

wire::FileId Names::TakeIdHeld() { return next_id_ < ids_end_ ? next_id_++ : 0; }

wire::FileId Names::TakeId() {
  wire::FileId id;
  bool low;
  {
    std::lock_guard lock(mu_);
    id = TakeIdHeld();
    low = ids_end_ - next_id_ < kIdsLow;
  }
  if (low && state_ == State::kThere) ReserveIds();
  return id;
}

void Names::ReserveIds() {
  {
    std::lock_guard lock(mu_);
    if (reserving_ || stopping_ || ids_end_ - next_id_ >= kIdsLow) return;
    reserving_ = true;
  }
  auto reserve = [this] {
    auto got = direct_.ReserveIds({.count = kIdsAtOnce});
    std::lock_guard lock(mu_);
    reserving_ = false;
    if (!got.ok()) return;
    next_id_ = got->first;  // what is left of the last ones is given up: few
    ids_end_ = got->first + got->count;
  };
  if (!work_->Post(reserve).ok()) {
    std::lock_guard lock(mu_);
    reserving_ = false;
  }
}

Result<rdma::Payload> Names::Ask(Method method, std::string header, ConstBytes bulk,
                                 rdma::CallOptions options, bool* here) {
  *here = false;
  if (!HasHere(method)) {
    if (method != Method::kMetaSync) {
      Flying flying(this);
      Answer none;  // only objectd knows
      (void)AnswerHeld(method, &header, &none, &flying);
      return Guard(method, std::move(header), bulk, options);
    }
    const uint64_t life = Life();
    Status s =
        state_ == State::kThere ? SyncIn(life) : Status(Code::kUnavailable, "objectd is away");
    if (!s.ok() && !IsAway(s)) return s;
    // As durable as the journal: what it holds is made there in order.
    if (!s.ok() || any_kept_ || waiting() != 0) PERIGEE_TRY(index_->Sync());
    return rdma::Payload{.header = wire::Encode(wire::SyncReply{.instance = life})};
  }
  // With its id from the start, it is the same directory whoever makes it in the end.
  if (method == Method::kMetaMkdir) {
    PERIGEE_ASSIGN(auto q, wire::Decode<wire::MakeRequest>(header));
    if (q.id == 0 && !q.parents && q.parent != wire::kRootId) {
      q.id = TakeId();
      header = wire::Encode(q);
    }
  }
  Status away(Code::kUnavailable, "objectd is away, and this is not known here");
  away.Ignore();  // an answer may be found all the same
  bool sent = false;
  for (int attempt = 0; attempt < 3 && !stopping_; ++attempt) {
    if (state_ == State::kThere) {
      Flying flying(this);
      Answer held;
      if (AnswerHeld(method, &header, &held, &flying)) {
        *here = held.changed;
        if (!held.reply.ok()) return std::move(held.reply).TakeStatus();
        return rdma::Payload{.header = std::move(*held.reply)};
      }
      const Since since{absences_, known_.clock()};
      if (state_ != State::kThere) continue;
      sent = true;
      rdma::CallOptions patient = options;
      patient.timeout = std::min(options.timeout, options_.patience);
      auto reply = objectd_->CallAndWait(method, header, bulk, patient);
      if (reply.ok() || !Away(reply.status())) {
        Note(method, header, reply, since);
        if (reply.ok()) MergeTimes(method, &*reply);
        return reply;
      }
      away = std::move(reply).TakeStatus();
      GoAway(away);
    }
    Answer answer;
    State seen;
    {
      std::unique_lock lock(mu_);
      if (!Reads(method)) {
        changed_.WaitFor(lock, kHoldBack, [this] { return !held_back_ || stopping_.load(); });
      }
      seen = state_;
      if (seen == State::kThere) continue;
      answer = Here(method, header, sent);
      auto waits = [&] { return !Reads(method) || IsToChange(method, header); };
      if (answer.way == Way::kCannot && seen == State::kReplaying && waits()) {
        changed_.WaitFor(lock, options_.patience, [&] {
          return state_ != State::kReplaying || !waits() || stopping_.load();
        });
        continue;
      }
    }
    if (answer.way == Way::kDone) {
      *here = answer.changed;
      if (answer.discarded) {
        PERIGEE_TRY(index_->Sync());
        hooks_.discarded(*answer.discarded);
      }
      if (!answer.reply.ok()) return std::move(answer.reply).TakeStatus();
      return rdma::Payload{.header = std::move(*answer.reply)};
    }
    if (seen == State::kAway) {
      if (!AwaitReturn()) return away;
      continue;
    }
    // It is read there, while what was changed here is made there.
    if (auto path = PathOf(method, header)) return LookupSteps(std::move(*path), bulk, options);
    auto reply = objectd_->CallAndWait(method, header, bulk,
                                       {.timeout = options_.patience, .traffic = options.traffic});
    if (!reply.ok() && Away(reply.status())) GoAway(reply.status());
    return reply;
  }
  return away;
}

// Each on its own: some of the names may be known here, and some still to be changed there.
Result<rdma::Payload> Names::LookupSteps(wire::LookupRequest q, ConstBytes bulk,
                                         rdma::CallOptions options) {
  wire::RecordReply at{.record = {.id = q.parent ? q.parent : wire::kRootId}};
  const std::string path = std::exchange(q.path, "");
  for (size_t from = 0; from < path.size();) {
    const size_t slash = std::min(path.find('/', from), path.size());
    q.name = path.substr(from, slash - from);
    from = slash + 1;
    if (q.name.empty()) continue;
    q.parent = at.record.id;
    bool here = false;
    PERIGEE_ASSIGN(auto found, Ask(Method::kMetaLookup, wire::Encode(q), bulk, options, &here));
    PERIGEE_ASSIGN(at, wire::Decode<wire::RecordReply>(found.header));
    at.parent = q.parent;
    at.name = q.name;
  }
  return rdma::Payload{.header = wire::Encode(at)};
}

Result<rdma::Payload> Names::Guard(Method method, std::string header, ConstBytes bulk,
                                   rdma::CallOptions options) {
  bool only_way = method == Method::kMetaOpenWrite || method == Method::kMetaReadInline;
  if (state_ == State::kAway && !(only_way && AwaitReturn()))
    return Status(Code::kUnavailable, "objectd is away");
  if (any_pending_) {
    wire::FileId id = FileOf(method, header);
    // A publish goes along when objectd is told of the file, and what is here opens without asking.
    if (id != 0 && method != Method::kMetaPublish && method != Method::kMetaGetAttr) AwaitTold(id);
    if (id != 0 && Waits(id))
      return Status(Code::kUnavailable, "the file's name is made at objectd first");
  }
  // Publishes have another way, too: the journal.
  bool patient = method == Method::kMetaPublish || method == Method::kMetaSetDurability ||
                 method == Method::kMetaGetAttr || method == Method::kMetaOpenWrite;
  if (patient) options.timeout = std::min(options.timeout, options_.patience);
  auto reply = objectd_->CallAndWait(method, std::move(header), bulk, options);
  bool silent = !reply.ok() && (reply.code() == Code::kUnavailable ||
                                (patient && reply.code() == Code::kDeadlineExceeded));
  if (silent) GoAway(reply.status());
  return reply;
}

void Names::Suspect(const Status& why) {
  if (state_ == State::kThere) GoAway(why);
}

void Names::GoAway(const Status& why) {
  std::lock_guard lock(mu_);
  GoAwayLocked(why);
}

void Names::GoAwayLocked(const Status& why) {
  why.Ignore();  // logged by the first
  const bool first = state_.exchange(State::kAway) == State::kThere;
  if (first) {
    log::Warn("names_go_on_here", {{"why", why}});
    away_since_ = work_->clock().Monotonic();
    ++absences_;
    DropHolds();
    JournalUnsettled();
    ListChangedNames();
    if (hooks_.went_away) hooks_.went_away();
  }
  held_back_ = false;
  changed_.NotifyAll();
  if (knocking_ || stopping_) return;
  knocking_ = work_->PostAfter(options_.knock_every, [this] { Knock(); }) != 0;
}

bool Names::AwaitReturn() {
  std::unique_lock lock(mu_);
  Nanos left = away_since_ + options_.patience - work_->clock().Monotonic();
  auto back = [this] { return state_ != State::kAway || stopping_.load(); };
  return changed_.WaitFor(lock, std::max<Nanos>(left, 0), back) && !stopping_;
}

void Names::Knock() {
  if (stopping_) return;
  auto there = objectd_->CallAndWait(Method::kMetaGetAttr,
                                     wire::Encode(wire::GetAttrRequest{.id = wire::kRootId}), {},
                                     {.timeout = kProbeTimeout});
  if (there.ok() && started_) {
    {
      std::unique_lock lock(mu_);
      changed_.Wait(lock, [this] { return !telling_ || stopping_.load(); });
      state_ = State::kReplaying;
      changed_.NotifyAll();
    }
    if (stopping_ || Replay()) return;
  }
  if (stopping_) return;
  (void)work_->PostAfter(options_.knock_every, [this] { Knock(); });
}

void Names::Note(Method method, std::string_view request, const Result<rdma::Payload>& reply,
                 Since since) {
  wire::FileId learn = 0;
  {
    std::lock_guard lock(mu_);
    BoundKnown();
    auto learnt = [&](auto message) {
      auto decoded = wire::Decode<decltype(message)>(reply->header);
      return decoded.ok() ? std::optional(std::move(*decoded)) : std::nullopt;
    };
    // What was changed since here, or at another call's request, is known better.
    auto older = [&](wire::FileId dir) {
      return state_ != State::kThere || since.absences != absences_ ||
             known_.ChangedSince(dir, since.clock);
    };
    switch (method) {
      case Method::kMetaLookup: {
        auto q = wire::Decode<wire::LookupRequest>(request);
        if (!q.ok() || older(q->parent)) break;
        if (!reply.ok()) {
          if (reply.code() == Code::kNotFound && q->path.empty()) Forget(q->parent, q->name);
          break;
        }
        if (auto r = learnt(wire::RecordReply())) {
          if (q->path.empty())
            known_.Learn(q->parent, q->name, r->record);
          else if (r->parent != 0 && !r->name.empty() && !older(r->parent))
            known_.Learn(r->parent, r->name, r->record);
        }
        break;
      }
      case Method::kMetaGetAttr:
      case Method::kMetaSetAttr:
        if (!reply.ok()) break;
        if (auto r = learnt(wire::RecordReply())) known_.LearnRecord(r->record);
        break;
      case Method::kMetaReadDir: {
        auto q = wire::Decode<wire::ReadDirRequest>(request);
        if (!q.ok() || !reply.ok() || older(q->dir)) break;
        if (auto r = learnt(wire::ReadDirReply())) LearnPage(*q, *r);
        break;
      }
      case Method::kMetaMkdir:
      case Method::kMetaCreate: {
        auto q = wire::Decode<wire::MakeRequest>(request);
        if (!q.ok() || !reply.ok() || q->parents) break;
        if (auto r = learnt(wire::RecordReply())) {
          q->id = r->record.id;
          NoteMade({.method = static_cast<uint64_t>(method),
                    .id = r->record.id,
                    .request = wire::Encode(*q)},
                   since);
          known_.Learn(q->parent, q->name, r->record);
          known_.Own(r->record.id);
          if (method == Method::kMetaMkdir)
            known_.MadeEmpty(r->record.id);
          else
            CountCreate(q->parent);
        }
        if (!known_.Whole(q->parent) && learning_.size() < 1024 &&
            learning_.insert(q->parent).second)
          learn = q->parent;
        break;
      }
      case Method::kMetaUnlink:
      case Method::kMetaRmdir: {
        auto q = wire::Decode<wire::RemoveRequest>(request);
        if (!q.ok() || !reply.ok()) break;
        if (auto r = learnt(wire::RecordReply())) {
          NoteMade({.method = static_cast<uint64_t>(method),
                    .id = r->record.id,
                    .request = std::string(request)},
                   since);
        }
        Forget(q->parent, q->name);
        break;
      }
      case Method::kMetaRename: {
        auto q = wire::Decode<wire::RenameRequest>(request);
        if (!q.ok() || !reply.ok()) break;
        auto r = learnt(wire::RenameReply());
        if (r && (q->flags & wire::kRenameExchange) == 0) {
          NoteMade({.method = static_cast<uint64_t>(method),
                    .id = r->moved.id,
                    .replaced = r->replaced ? r->replaced->id : 0,
                    .request = Journaled(*q),
                    .mode = r->moved.mode,
                    .uid = r->moved.uid,
                    .gid = r->moved.gid},
                   since);
          known_.Move(q->parent, q->name, q->new_parent, q->new_name, r->moved);
          break;
        }
        Forget(q->parent, q->name);
        Forget(q->new_parent, q->new_name);
        break;
      }
      case Method::kMetaStatFs:
        if (reply.ok()) statfs_ = reply->header;
        break;
      default:
        break;
    }
  }
  // A node that makes files in a directory will want to without objectd: it has to know which names
  // are taken.
  if (learn != 0) work_->Post([this, learn] { LearnDirectory(learn); }).Ignore();
}

void Names::LearnDirectory(wire::FileId dir) {
  wire::ReadDirRequest q{.dir = dir, .limit = kPage};
  {
    std::lock_guard lock(mu_);
    known_.BeginPages(dir);
  }
  bool tried = true;
  for (int page = 0; page < kPagesMax && !stopping_; ++page) {
    auto got = direct_.ReadDir(q);
    std::lock_guard lock(mu_);
    if (!got.ok() || state_ != State::kThere) {
      tried = false;
      break;
    }
    LearnPage(q, *got);
    if (got->end || got->items.empty()) {
      tried = false;
      break;
    }
    q.after = got->items.back().key;
  }
  std::lock_guard lock(mu_);
  known_.EndPages(dir);
  // Else too many names: it stays there, and is not tried again.
  if (!tried) learning_.erase(dir);
}

}  // namespace perigee::bufferd
