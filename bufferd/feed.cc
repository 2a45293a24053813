#include "bufferd/feed.h"

#include "base/failpoint.h"
#include "base/log.h"

namespace perigee::bufferd {
namespace {

constexpr char kPositionName[] = "feed_position";
constexpr uint32_t kPage = 1024;
constexpr uint32_t kWaitMs = 10'000;
constexpr uint32_t kWaitDurableMs = 500;
constexpr Nanos kAwayRetry = kSecond;

}  // namespace

void ReleaseFeed::Start() {
  // A scheduler that is stopping runs nothing more, which is what is wanted then.
  poll_->Post([this] { Loop(); }).Ignore();
}

void ReleaseFeed::Loop() {
  if (core_.stopping) return;
  bool ok = Step(pending_.empty() ? kWaitMs : kWaitDurableMs);
  if (core_.stopping) return;
  if (ok)
    poll_->Post([this] { Loop(); }).Ignore();
  else
    (void)poll_->PostAfter(kAwayRetry, [this] { Loop(); });
}

// Where to read on from: the stored position, else now (everything older is found by reconciling).
bool ReleaseFeed::Begin() {
  auto stored = StoredPosition();
  if (stored.ok() && *stored) {
    next_ = *stored;
    return true;
  }
  if (!stored.ok()) log::Warn("feed_position_unreadable", {{"error", stored.status()}});
  auto now = core_.feed->Feed({.after = UINT64_MAX, .released_for = core_.node});
  if (!now.ok()) return false;
  next_ = now->visible;
  recovery_.FlagAll();
  recovery_.ReconcileAll();
  // What is being written is not flagged, but may have been released as well.
  for (const FilePtr& file : core_.table->All()) {
    {
      std::lock_guard lock(file->mu);
      if (file->needs_reconcile) continue;
    }
    Status s = recovery_.Released(file, Recovery::Release::kMaybe, *core_.meta);
    if (s.ok()) continue;
    next_.reset();
    return false;
  }
  StorePosition(*next_);
  return true;
}

bool ReleaseFeed::Step(uint32_t wait_ms) {
  if (!next_ && !Begin()) return false;
  auto reply = core_.feed->Feed(
      {.after = *next_, .limit = kPage, .wait_ms = wait_ms, .released_for = core_.node});
  if (!reply.ok()) {
    // A call waits there nearly always: nobody else may notice a quick start.
    if (core_.names && reply.status().Is(Code::kUnavailable)) core_.names->Suspect(reply.status());
    if (!reply.status().Is(Code::kResync)) return false;
    log::Warn("feed_lost", {{"effect", "every burst file is checked against the namespace"}});
    pending_.clear();
    next_.reset();
    StorePosition(std::nullopt);
    return true;
  }
  for (wire::Change& c : reply->changes)
    if (Ours(c)) pending_.push_back(std::move(c));
  bool moved = reply->next != *next_;
  next_ = reply->next;
  bool had = !pending_.empty();
  bool ok = Apply(reply->durable);
  if (pending_.empty() && (moved || had)) {
    PERIGEE_FAILPOINT(burst_feed_before_position);
    StorePosition(*next_);
  }
  return ok;
}

Result<std::optional<uint64_t>> ReleaseFeed::StoredPosition() const {
  PERIGEE_ASSIGN(auto stored, core_.index->GetValue(kPositionName));
  if (!stored || stored->size() != 8) return std::optional<uint64_t>();
  return std::optional(GetBe64(*stored));
}

void ReleaseFeed::StorePosition(std::optional<uint64_t> position) {
  std::string value;
  if (position) AppendBe64(&value, *position);
  if (Status s = core_.index->PutValue(kPositionName, value, Durable::kNo); !s.ok())
    log::Error("feed_position_not_saved", {{"error", s}});
}

// Of a copy that is in the object tier the namespace knows nothing: its name's removal tells.
bool ReleaseFeed::Ours(const wire::Change& change) const {
  return change.kind == wire::ChangeKind::kReleasedBurst
             ? change.node == core_.node
             : change.kind == wire::ChangeKind::kRemoved && core_.table->Current(change.id);
}

Status ReleaseFeed::Release(const wire::Change& change, client::MetaClient& objectd) {
  const bool named = change.kind == wire::ChangeKind::kReleasedBurst;
  FilePtr file = named ? core_.table->Find(change.burst) : core_.table->Current(change.id);
  if (!file) return Status::Ok();
  const auto release = named ? Recovery::Release::kDurable : Recovery::Release::kName;
  Status s = recovery_.Released(file, release, objectd);
  if (!s.ok() && !IsAway(s))
    log::Error("release_failed", {{"burst", HexEncode64(file->burst)}, {"error", s}});
  return s;
}

bool ReleaseFeed::Apply(uint64_t durable) {
  while (!pending_.empty() && pending_.front().position <= durable) {
    if (!Release(pending_.front(), *core_.feed).ok()) return false;
    pending_.pop_front();
  }
  return true;
}

// Reads on its own from the stored position, which is never ahead of what was applied.
Status ReleaseFeed::CatchUp(client::MetaClient& objectd) {
  PERIGEE_ASSIGN(auto stored, StoredPosition());
  if (!stored) return Status::Ok();  // everything is asked about
  wire::FeedRequest q{.after = *stored, .limit = kPage, .released_for = core_.node};
  while (true) {
    auto page = objectd.Feed(q);
    if (page.code() == Code::kResync) return Status::Ok();
    PERIGEE_TRY(page.status());
    for (const wire::Change& change : page->changes)
      if (Ours(change)) PERIGEE_TRY(Release(change, objectd));
    if (page->changes.empty() || page->next <= q.after) return Status::Ok();
    q.after = page->next;
  }
}

}  // namespace perigee::bufferd
