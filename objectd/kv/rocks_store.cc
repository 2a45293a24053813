#include "objectd/kv/rocks_store.h"

#include <rocksdb/snapshot.h>

#include <atomic>
#include <set>

#include "base/event.h"
#include "base/failpoint.h"
#include "base/log.h"
#include "objectd/kv/mirror_copy.h"
#include "objectd/kv/mirror_set.h"
#include "objectd/kv/op_gate.h"
#include "objectd/kv/overlay_transaction.h"
#include "objectd/kv/rocks_open.h"
#include "objectd/kv/row_cache.h"
#include "objectd/kv/sequencer.h"
#include "objectd/kv/vacancy_reader.h"

namespace perigee::objectd::kv {
namespace {

constexpr int kAttemptsMax = 64;
constexpr int kFollowRoundsMax = 32;
constexpr size_t kVacantBytesMax = 256 << 10;
constexpr Position kFollowLagMax = 256;  // commits behind that are worth holding in memory

size_t RowBytes(const RocksStoreOptions& options) { return options.memory_bytes / 8; }

class RocksStoreImpl final : public RocksStore {
 public:
  RocksStoreImpl(const RocksStoreOptions& options, std::shared_ptr<RocksEngine> engine,
                 OpenedMirrors opened)
      : options_(options),
        metrics_(KvMetrics::Of(options.metrics)),
        engine_(std::move(engine)),
        mirrors_({options.membership, options.clock, options.late_after, metrics_},
                 std::move(opened.mirrors), opened.head.position),
        rows_(RowBytes(options)),
        sequencer_(mirrors_, rows_, vacant_, std::move(opened.feed), opened.head) {
    mirrors_.Start();
  }
  ~RocksStoreImpl() override { Stop(); }

  Result<Position> Run(const Closure& closure) override;
  Status WaitDurable(Position position) override;
  Position VisiblePosition() override { return mirrors_.visible(); }
  Position DurablePosition() override { return mirrors_.durable(); }
  Result<FeedPage> ReadFeed(Position after, size_t limit) override;
  bool WaitFeed(Position seen_visible, Position seen_durable, Nanos timeout) override;
  void EndFeedWaits() override { mirrors_.EndFeedWaits(); }
  Status AddMirror(MirrorPlace place) override;
  Status EjectMirror(uint64_t drive_id, const std::string& reason) override;
  std::vector<uint64_t> InSync() override { return mirrors_.InSync(); }
  void Reclaim() override;
  void Stop() override;

 private:
  Status JoinMirror(const MirrorPlace& place);

  const RocksStoreOptions options_;
  const KvMetrics metrics_;
  const std::shared_ptr<RocksEngine> engine_;
  MirrorSet mirrors_;
  RowCache rows_;
  VacantRanges vacant_{kVacantBytesMax};
  Sequencer sequencer_;
  OpGate gate_;
  std::atomic<bool> stopping_{false}, adding_{false};
  Event stopped_;
};

void RocksStoreImpl::Reclaim() {
  OpGate::Pass pass(gate_);
  Status entered = pass.entered();
  if (entered.ok()) mirrors_.Reclaim();
}

Result<Position> RocksStoreImpl::Run(const Closure& closure) {
  OpGate::Pass pass(gate_);
  PERIGEE_TRY(pass.entered());
  for (int attempt = 0; attempt < kAttemptsMax; ++attempt) {
    if (attempt > 0) KvMetrics::Count(metrics_.conflicts);
    PERIGEE_ASSIGN(std::shared_ptr<RocksView> view, mirrors_.AcquireView());
    VacancyReader walker(*view, vacant_, [&](const Range& range) {
      sequencer_.NoteVacant(range, view->position());
    });
    CachedReader reader(walker, rows_);
    OverlayTransaction txn(reader, options_.clock);
    Status outcome = closure(txn);
    // What the closure made of a failed read means nothing when another mirror can be read.
    if (!view->failure().ok() && mirrors_.ReadFailed(*view)) {
      outcome.Ignore();
      continue;
    }
    PERIGEE_TRY(std::move(outcome));
    PERIGEE_TRY(txn.Finish());
    if (txn.writes().empty()) return view->position();
    PERIGEE_FAILPOINT(kv_commit_before);
    PERIGEE_TRY(mirrors_.WaitRoom());
    Result<Position> position = sequencer_.Commit(txn, view->position());
    if (position.status().Is(Code::kConflict)) {
      // What it lost to may not be visible yet: on the same snapshot it would only lose again.
      PERIGEE_TRY(mirrors_.WaitVisible(sequencer_.LastPosition()));
      continue;
    }
    PERIGEE_TRY(position.status());
    PERIGEE_TRY(mirrors_.WaitVisible(*position));
    PERIGEE_FAILPOINT(kv_commit_after);
    KvMetrics::Count(metrics_.commits);
    return *position;
  }
  return Status(Code::kConflict, "transaction lost every race of " + std::to_string(kAttemptsMax));
}

Status RocksStoreImpl::WaitDurable(Position position) {
  OpGate::Pass pass(gate_);
  PERIGEE_TRY(pass.entered());
  if (sequencer_.Lost(position))
    return Status(Code::kUnavailable, "the commit was lost in a crash");
  return mirrors_.WaitDurable(position);
}

Result<FeedPage> RocksStoreImpl::ReadFeed(Position after, size_t limit) {
  OpGate::Pass pass(gate_);
  PERIGEE_TRY(pass.entered());
  for (;;) {
    // Before the check: what is trimmed in between is in the view, or refused.
    PERIGEE_ASSIGN(std::shared_ptr<RocksView> view, mirrors_.AcquireView());
    Position visible = view->position();
    FeedPageBuilder page(after, after == kFeedEnd ? 0 : limit);
    if (after != kFeedEnd) {
      PERIGEE_TRY(sequencer_.CheckFeed(after, visible));
      Status st = view->ReadEvents(after, page);
      if (!view->failure().ok() && mirrors_.ReadFailed(*view)) {
        st.Ignore();  // another mirror can be read
        continue;
      }
      PERIGEE_TRY(std::move(st));
    }
    return std::move(page).Finish(visible, std::min(visible, mirrors_.durable()));
  }
}

bool RocksStoreImpl::WaitFeed(Position seen_visible, Position seen_durable, Nanos timeout) {
  OpGate::Pass pass(gate_);
  return pass.entered().ok() && mirrors_.WaitMoved(seen_visible, seen_durable, timeout);
}

Status RocksStoreImpl::EjectMirror(uint64_t drive_id, const std::string& reason) {
  OpGate::Pass pass(gate_);
  PERIGEE_TRY(pass.entered());
  return mirrors_.Eject(drive_id, reason);
}

Status RocksStoreImpl::AddMirror(MirrorPlace place) {
  OpGate::Pass pass(gate_);
  PERIGEE_TRY(pass.entered());
  if (options_.membership == nullptr) {
    return Status(Code::kInvalidArgument, "nobody records who is in sync");
  }
  if (mirrors_.Has(place.drive_id)) return Status(Code::kAlreadyExists, "that drive has a mirror");
  if (adding_.exchange(true)) return Status(Code::kBusy, "another mirror is being added");
  Status st = JoinMirror(place);
  adding_ = false;
  return st.With("add a metadata mirror in " + place.dir);
}

Status RocksStoreImpl::JoinMirror(const MirrorPlace& place) {
  PERIGEE_TRY(mirrors_.WaitClosed(place.drive_id));
  PERIGEE_TRY(ClearMirrorDir(place.dir));
  PERIGEE_ASSIGN(std::shared_ptr<RocksMirror> target,
                 RocksMirror::Open(engine_, place, RocksEngine::Mode::kFresh));
  PERIGEE_ASSIGN(std::shared_ptr<RocksView> view, mirrors_.AcquireView());
  std::shared_ptr<RocksMirror> source = view->mirror();
  FileDeletionPause pause(source);
  PERIGEE_TRY(pause.status());
  PERIGEE_TRY(CopySnapshot(*view, *target, &stopping_).status);
  WalFollower follower(*source, *target, view->position(),
                       view->snapshot()->GetSequenceNumber() + 1);
  view.reset();

  // First from the log, which costs no memory, until little is missing; then commits are held for
  // it in a queue, and the log is read up to where the queue begins.
  for (int round = 0; round < kFollowRoundsMax && !stopping_; ++round) {
    Position visible = mirrors_.visible();
    if (visible - follower.have() <= kFollowLagMax) break;
    PERIGEE_TRY(follower.FollowTo(visible).status);
  }
  Position last = 0;
  MirrorSet::MemberRef member;
  sequencer_.BetweenCommits([&](Position at) {
    last = at;
    member = mirrors_.Attach(target);
  });
  auto catch_up = [&]() -> Status {
    PERIGEE_TRY(mirrors_.WaitVisible(last));
    PERIGEE_TRY(follower.FollowTo(last).status);
    PERIGEE_TRY(target->Sync());
    PERIGEE_TRY(mirrors_.Join(member, last));
    return mirrors_.Admit(member);
  };
  Status st = catch_up();
  if (!st.ok()) mirrors_.Drop(member);
  return st;
}

void RocksStoreImpl::Stop() {
  if (stopping_.exchange(true)) return stopped_.Wait();
  gate_.Close();
  mirrors_.Interrupt();
  gate_.WaitEmpty();
  mirrors_.Stop();
  stopped_.Set();
}

Status CheckOptions(const RocksStoreOptions& options) {
  if (options.mirrors.empty()) return Status(Code::kInvalidArgument, "a store needs a mirror");
  if (options.mirrors.size() > 1 && options.membership == nullptr) {
    return Status(Code::kInvalidArgument, "several mirrors need a record of who is in sync");
  }
  std::set<uint64_t> drives;
  std::set<std::string> dirs;
  for (const MirrorPlace& place : options.mirrors) {
    if (!drives.insert(place.drive_id).second || !dirs.insert(place.dir).second) {
      return Status(Code::kInvalidArgument, "two mirrors in one place: " + place.dir);
    }
  }
  return Status::Ok();
}

}  // namespace

Result<std::unique_ptr<RocksStore>> RocksStore::Open(RocksStoreOptions options) {
  PERIGEE_TRY(CheckOptions(options));
  if (options.clock == nullptr) options.clock = &RealClock::Get();
  auto engine = std::make_shared<RocksEngine>(options.memory_bytes - RowBytes(options), options.env);
  PERIGEE_ASSIGN(OpenedMirrors opened, OpenMirrors(options, engine));
  return std::unique_ptr<RocksStore>(
      std::make_unique<RocksStoreImpl>(options, std::move(engine), std::move(opened)));
}

}  // namespace perigee::objectd::kv
