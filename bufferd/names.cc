#include "bufferd/names.h"

#include <algorithm>

#include "base/bytes.h"
#include "base/log.h"
#include "bufferd/core.h"

namespace perigee::bufferd {

using wire::Method;

namespace {

constexpr char kOpPrefix[] = "op/";
constexpr Nanos kProbeTimeout = kSecond;
constexpr Nanos kReplayTimeout = 5 * kSecond;
constexpr size_t kHoldBackOps = 64;  // so few are soon done: changes wait for them
constexpr Nanos kHoldBack = 100 * kMillisecond;
constexpr size_t kForgetEvery = 256;
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

std::string OpName(uint64_t sequence) { return kOpPrefix + HexEncode64(sequence); }

}  // namespace

class Names::Calls final : public rdma::Channel {
 public:
  explicit Calls(Names& names) : names_(names) {}
  void Call(Method method, std::string header, ConstBytes bulk, rdma::CallOptions options,
            Done done) override {
    done(CallAndWait(method, std::move(header), bulk, options));
  }
  Result<rdma::Payload> CallAndWait(Method method, std::string header, ConstBytes bulk,
                                    rdma::CallOptions options) override {
    bool here = false;
    return names_.Ask(method, std::move(header), bulk, options, &here);
  }
  bool Healthy() const override { return names_.objectd_->Healthy(); }
  std::string Describe() const override { return names_.objectd_->Describe(); }
  void Close() override { names_.objectd_->Close(); }

 private:
  Names& names_;
};

class Names::Guarded final : public rdma::Channel {
 public:
  explicit Guarded(Names& names) : names_(names) {}
  void Call(Method method, std::string header, ConstBytes bulk, rdma::CallOptions options,
            Done done) override {
    done(CallAndWait(method, std::move(header), bulk, options));
  }
  Result<rdma::Payload> CallAndWait(Method method, std::string header, ConstBytes bulk,
                                    rdma::CallOptions options) override {
    return names_.Guard(method, std::move(header), bulk, options);
  }
  bool Healthy() const override { return names_.objectd_->Healthy(); }
  std::string Describe() const override { return names_.objectd_->Describe(); }
  void Close() override { names_.objectd_->Close(); }

 private:
  Names& names_;
};

Names::Names(std::shared_ptr<rdma::Channel> objectd, BurstIndex* index, Scheduler* work,
             NamesOptions options)
    : objectd_(std::move(objectd)),
      direct_(objectd_, {.timeout = kReplayTimeout, .durable_timeout = 2 * kReplayTimeout}),
      index_(index),
      work_(work),
      options_(options),
      calls_(std::make_shared<Calls>(*this)),
      guarded_(std::make_shared<Guarded>(*this)) {}

Names::~Names() { Stop(); }

void Names::Stop() {
  stopping_ = true;
  std::lock_guard lock(mu_);
  changed_.NotifyAll();
}

Status Names::Start(NamesHooks hooks) {
  hooks_ = std::move(hooks);
  std::unique_lock lock(mu_);
  PERIGEE_TRY(index_->ForEachValue(
      kOpPrefix, [this](const std::string& name, std::string_view value) -> Status {
        PERIGEE_ASSIGN(NameOp op, DecodeOp(value));
        auto sequence = std::stoull(name.substr(sizeof kOpPrefix - 1), nullptr, 16);
        next_op_ = sequence + 1;
        auto method = static_cast<Method>(op.method);
        if (method == Method::kMetaCreate || method == Method::kMetaMkdir) pending_.insert(op.id);
        ops_.emplace_back(sequence, std::move(op));
        return Status::Ok();
      }));
  any_pending_ = !pending_.empty();
  started_ = true;
  if (ops_.empty()) return Status::Ok();
  log::Info("names_wait", {{"changes", ops_.size()}});
  // What they made is known again, as far as each tells.
  for (const auto& [sequence, op] : ops_) {
    auto method = static_cast<Method>(op.method);
    if (method != Method::kMetaCreate && method != Method::kMetaMkdir) continue;
    auto q = wire::Decode<wire::MakeRequest>(op.request);
    if (!q.ok()) continue;
    bool directory = method == Method::kMetaMkdir;
    wire::Record record{.id = op.id,
                        .kind = directory ? wire::FileKind::kDirectory : wire::FileKind::kFile,
                        .mode = q->mode,
                        .uid = q->uid,
                        .gid = q->gid};
    record.writer = q->writer;
    known_.Learn(q->parent, q->name, record);
    if (directory) known_.MadeEmpty(op.id);
  }
  for (const auto& [sequence, op] : ops_) {
    if (static_cast<Method>(op.method) != Method::kMetaRename) continue;
    auto q = wire::Decode<wire::RenameRequest>(op.request);
    const KnownNames::Known* moved = known_.Get(op.id);
    if (!q.ok() || !moved) continue;
    wire::Record record = moved->record;
    known_.Forget(moved->parent, std::string(moved->name));
    known_.Learn(q->new_parent, q->new_name, record);
  }
  for (const auto& [sequence, op] : ops_) {
    auto method = static_cast<Method>(op.method);
    const KnownNames::Known* removed = known_.Get(op.id);
    if (removed && (method == Method::kMetaUnlink || method == Method::kMetaRmdir))
      known_.Forget(removed->parent, std::string(removed->name));
  }
  lock.unlock();
  GoAway(Status(Code::kUnavailable, "changes of names of an earlier run come first"));
  return Status::Ok();
}

uint64_t Names::waiting() const {
  std::lock_guard lock(mu_);
  return ops_.size();
}

bool Names::Waits(wire::FileId id) const {
  if (!any_pending_) return false;
  std::lock_guard lock(mu_);
  return pending_.contains(id);
}

wire::FileId Names::TakeId() {
  wire::FileId id = 0;
  bool low;
  {
    std::lock_guard lock(mu_);
    if (next_id_ < ids_end_) id = next_id_++;
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
    if (method != Method::kMetaSync || state_ == State::kThere)
      return Guard(method, std::move(header), bulk, options);
    // As durable as the journal: what it holds is made there in order.
    PERIGEE_TRY(index_->Sync());
    return rdma::Payload{.header = wire::Encode(wire::Empty{})};
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
  for (int attempt = 0; attempt < 3 && !stopping_; ++attempt) {
    if (state_ == State::kThere) {
      rdma::CallOptions patient = options;
      patient.timeout = std::min(options.timeout, options_.patience);
      auto reply = objectd_->CallAndWait(method, header, bulk, patient);
      if (reply.ok() || !Away(reply.status())) {
        Note(method, header, reply);
        return reply;
      }
      away = std::move(reply).TakeStatus();
      GoAway(away);
    }
    Answer answer;
    {
      std::unique_lock lock(mu_);
      if (!Reads(method)) {
        changed_.WaitFor(lock, kHoldBack, [this] { return !held_back_ || stopping_.load(); });
      }
      if (state_ == State::kThere) continue;
      answer = Here(method, header);
      if (answer.way == Way::kCannot && state_ == State::kReplaying && !Reads(method)) {
        changed_.WaitFor(lock, options_.patience,
                         [this] { return state_ != State::kReplaying || stopping_.load(); });
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
    if (state_ == State::kAway) {
      if (!AwaitReturn()) return away;
      continue;
    }
    auto reply = objectd_->CallAndWait(method, header, bulk, {.timeout = options_.patience});
    if (!reply.ok() && Away(reply.status())) GoAway(reply.status());
    return reply;
  }
  return away;
}

Result<rdma::Payload> Names::Guard(Method method, std::string header, ConstBytes bulk,
                                   rdma::CallOptions options) {
  bool only_way = method == Method::kMetaOpenWrite || method == Method::kMetaReadInline;
  if (state_ == State::kAway && !(only_way && AwaitReturn()))
    return Status(Code::kUnavailable, "objectd is away");
  if (any_pending_) {
    if (wire::FileId id = FileOf(method, header); id != 0 && Waits(id))
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

void Names::GoAway(const Status& why) {
  why.Ignore();  // logged by the first
  {
    std::lock_guard lock(mu_);
    if (state_ == State::kThere) {
      log::Warn("names_go_on_here", {{"why", why}});
      away_since_ = work_->clock().Monotonic();
      if (hooks_.went_away) hooks_.went_away();
    }
    state_ = State::kAway;
    held_back_ = false;
    changed_.NotifyAll();
    if (knocking_ || stopping_) return;
    knocking_ = true;
  }
  if (work_->PostAfter(options_.knock_every, [this] { Knock(); }) == 0) {
    std::lock_guard lock(mu_);
    knocking_ = false;
  }
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
      std::lock_guard lock(mu_);
      state_ = State::kReplaying;
      changed_.NotifyAll();
    }
    if (Replay()) return;
  }
  if (stopping_) return;
  (void)work_->PostAfter(options_.knock_every, [this] { Knock(); });
}

// True once objectd has everything, and is asked again.
bool Names::Replay() {
  // Nothing of the journal is forgotten before it is durable there.
  auto forget = [&]() -> Status {
    if (made_.empty()) return Status::Ok();
    PERIGEE_TRY(direct_.Sync());
    for (uint64_t sequence : made_) PERIGEE_TRY(index_->RemoveValue(OpName(sequence)));
    made_.clear();
    return Status::Ok();
  };
  auto fail = [&](const Status& why) {
    log::Info("names_wait_on", {{"why", why}});
    std::lock_guard lock(mu_);
    // A full object tier is there, all the same.
    if (IsAway(why)) state_ = State::kAway;
    held_back_ = false;
    changed_.NotifyAll();
    return false;
  };
  size_t done = 0;
  while (true) {
    std::unique_lock lock(mu_);
    if (stopping_) return false;
    if (state_ == State::kAway) return false;  // another call found it silent
    if (ops_.empty() && made_.empty()) {
      state_ = State::kThere;
      held_back_ = false;
      knocking_ = false;
      changed_.NotifyAll();
      lock.unlock();
      log::Info("names_caught_up", {{"changes", done}});
      hooks_.caught_up();
      return true;
    }
    if (ops_.size() <= kHoldBackOps) held_back_ = true;
    if (ops_.empty() || made_.size() >= kForgetEvery) {
      lock.unlock();
      if (Status s = forget(); !s.ok()) return fail(s);
      continue;
    }
    auto [sequence, op] = ops_.front();
    lock.unlock();
    if (Status s = Make(op); !s.ok()) return fail(s);
    ++done;
    made_.push_back(sequence);
    lock.lock();
    ops_.pop_front();
    pending_.erase(op.id);
    any_pending_ = !pending_.empty();
  }
}

void Names::Note(Method method, std::string_view request, const Result<rdma::Payload>& reply) {
  wire::FileId learn = 0;
  {
    std::lock_guard lock(mu_);
    if (state_ == State::kThere && known_.size() >= KnownNames::kKnownMax) known_.Clear();
    auto learnt = [&](auto message) {
      auto decoded = wire::Decode<decltype(message)>(reply->header);
      return decoded.ok() ? std::optional(std::move(*decoded)) : std::nullopt;
    };
    switch (method) {
      case Method::kMetaLookup: {
        auto q = wire::Decode<wire::LookupRequest>(request);
        if (!q.ok()) break;
        if (!reply.ok()) {
          if (reply.code() == Code::kNotFound && q->path.empty()) known_.Forget(q->parent, q->name);
          break;
        }
        if (auto r = learnt(wire::RecordReply())) {
          if (q->path.empty())
            known_.Learn(q->parent, q->name, r->record);
          else if (r->parent != 0 && !r->name.empty())
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
        if (!q.ok() || !reply.ok()) break;
        if (auto r = learnt(wire::ReadDirReply())) known_.LearnPage(*q, *r);
        break;
      }
      case Method::kMetaMkdir:
      case Method::kMetaCreate: {
        auto q = wire::Decode<wire::MakeRequest>(request);
        if (!q.ok() || !reply.ok() || q->parents) break;
        if (auto r = learnt(wire::RecordReply())) {
          known_.Learn(q->parent, q->name, r->record);
          if (method == Method::kMetaMkdir) known_.MadeEmpty(r->record.id);
        }
        if (!known_.Whole(q->parent) && learning_.size() < 1024 &&
            learning_.insert(q->parent).second)
          learn = q->parent;
        break;
      }
      case Method::kMetaUnlink:
      case Method::kMetaRmdir: {
        auto q = wire::Decode<wire::RemoveRequest>(request);
        if (q.ok() && reply.ok()) known_.Forget(q->parent, q->name);
        break;
      }
      case Method::kMetaRename: {
        auto q = wire::Decode<wire::RenameRequest>(request);
        if (!q.ok() || !reply.ok()) break;
        auto r = learnt(wire::RenameReply());
        bool directory = r && r->moved.kind == wire::FileKind::kDirectory;
        if (!directory) known_.Forget(q->parent, q->name);
        if (q->flags & wire::kRenameExchange)
          known_.Forget(q->new_parent, q->new_name);
        else if (r)
          known_.Learn(q->new_parent, q->new_name, r->moved);
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
  for (int page = 0; page < kPagesMax && !stopping_; ++page) {
    auto got = direct_.ReadDir(q);
    if (!got.ok()) {
      std::lock_guard lock(mu_);
      learning_.erase(dir);
      return;
    }
    std::lock_guard lock(mu_);
    if (state_ != State::kThere) return;
    known_.LearnPage(q, *got);
    if (got->end || got->items.empty()) {
      learning_.erase(dir);
      return;
    }
    q.after = got->items.back().key;
  }
  // Too many names: it stays in `learning_`, and is not tried again.
}

}  // namespace perigee::bufferd
