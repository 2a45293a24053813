#include "objectd/kv/mem_store.h"

#include <algorithm>
#include <deque>
#include <mutex>
#include <set>

#include "base/event.h"
#include "base/random.h"
#include "objectd/kv/commit_window.h"
#include "objectd/kv/feed_index.h"
#include "objectd/kv/overlay_transaction.h"
#include "objectd/kv/versioned_map.h"

namespace perigee::objectd::kv {
namespace {

constexpr int kAttemptsMax = 64;
constexpr size_t kWindowBytesMax = 4 << 20;
constexpr Position kCrashGap = 1 << 20;

class MemStoreImpl final : public MemStore {
 public:
  explicit MemStoreImpl(MemStoreOptions options)
      : clock_(options.clock), window_(kWindowBytesMax, 0), feed_(options.feed_events_kept) {}

  Result<Position> Run(const Closure& closure) override;
  Status WaitDurable(Position position) override;
  Position VisiblePosition() override;
  Position DurablePosition() override;
  Result<FeedPage> ReadFeed(Position after, size_t limit) override;
  bool WaitFeed(Position seen_visible, Position seen_durable, Nanos timeout) override;
  void EndFeedWaits() override;

  void Crash() override;
  void FailConflicts(uint32_t one_in, uint64_t seed) override;
  void HoldDurability(bool hold) override;

 private:
  class View;
  class Walker;

  Result<Position> Commit(const OverlayTransaction& txn,
                          Position snapshot);  // kConflict: run again

  Clock* const clock_;
  std::mutex mu_;  // guards all below; never held while a closure runs
  CondVar moved_;
  VersionedMap data_;
  std::multiset<Position> snapshots_;  // of running transactions
  CommitWindow window_;
  FeedIndex feed_;
  std::deque<FeedEvent> events_;
  Position visible_ = 0, durable_ = 0;
  bool hold_ = false, feed_ended_ = false;
  uint32_t fail_one_in_ = 0;
  Random conflicts_{0};
};

// The state as of the moment it was made; keeps that state from being pruned.
class MemStoreImpl::View final : public SnapshotReader {
 public:
  explicit View(MemStoreImpl& store) : store_(store) {
    std::lock_guard lock(store_.mu_);
    position_ = store_.visible_;
    registered_ = store_.snapshots_.insert(position_);
  }
  ~View() override {
    std::lock_guard lock(store_.mu_);
    store_.snapshots_.erase(registered_);
  }
  View(const View&) = delete;
  View& operator=(const View&) = delete;

  Position position() const override { return position_; }
  Result<std::optional<std::string>> Get(std::string_view key) override {
    std::lock_guard lock(store_.mu_);
    return store_.data_.Get(key, position_);
  }
  Result<std::vector<std::optional<std::string>>> GetMany(
      const std::vector<std::string>& keys) override {
    std::lock_guard lock(store_.mu_);
    std::vector<std::optional<std::string>> out;
    out.reserve(keys.size());
    for (const std::string& key : keys) out.push_back(store_.data_.Get(key, position_));
    return out;
  }
  std::unique_ptr<Cursor> Walk(const Range& range, Direction direction) override;
  std::optional<KeyValue> First(const Range& range, Direction direction) {
    std::lock_guard lock(store_.mu_);
    return store_.data_.First(range, direction, position_);
  }

 private:
  MemStoreImpl& store_;
  Position position_ = 0;
  std::multiset<Position>::iterator registered_;
};

class MemStoreImpl::Walker final : public Cursor {
 public:
  Walker(View& view, const Range& range, Direction direction)
      : view_(view), left_(range), direction_(direction), at_(view.First(range, direction)) {}
  bool Valid() const override { return at_.has_value(); }
  std::string_view key() const override { return at_->first; }
  std::string_view value() const override { return at_->second; }
  void Next() override {
    if (direction_ == Direction::kForward) {
      left_.begin = at_->first + '\0';
    } else if (at_->first.empty()) {
      at_.reset();  // an end of "" would mean the end of the key space
      return;
    } else {
      left_.end = at_->first;
    }
    at_ = view_.First(left_, direction_);
  }
  Status status() const override { return Status::Ok(); }

 private:
  View& view_;
  Range left_;
  Direction direction_;
  std::optional<KeyValue> at_;
};

std::unique_ptr<Cursor> MemStoreImpl::View::Walk(const Range& range, Direction direction) {
  return std::make_unique<Walker>(*this, range, direction);
}

Result<Position> MemStoreImpl::Run(const Closure& closure) {
  for (int attempt = 0; attempt < kAttemptsMax; ++attempt) {
    View view(*this);
    OverlayTransaction txn(view, clock_);
    PERIGEE_TRY(closure(txn));
    PERIGEE_TRY(txn.Finish());
    Result<Position> done = Commit(txn, view.position());
    if (done.ok() || !done.status().Is(Code::kConflict)) return done;
  }
  return Status(Code::kConflict, "transaction lost every race of " + std::to_string(kAttemptsMax));
}

Result<Position> MemStoreImpl::Commit(const OverlayTransaction& txn, Position snapshot) {
  std::lock_guard lock(mu_);
  if (feed_.Lost(snapshot)) return Status(Code::kConflict, "what was read was lost in a crash");
  if (txn.writes().empty()) return snapshot;
  if (fail_one_in_ != 0 && conflicts_.OneIn(fail_one_in_))
    return Status(Code::kConflict, "injected");
  PERIGEE_TRY(window_.Validate(txn.reads(), snapshot));

  std::vector<std::pair<std::string, std::optional<std::string>>> resolved;
  for (const auto& [key, write] : txn.writes().keys) {
    std::optional<std::string> base;
    if (write.effect == KeyWrite::Effect::kModify) base = data_.Get(key, visible_);
    PERIGEE_ASSIGN(std::optional<std::string> value, ApplyWrite(write, std::move(base)));
    resolved.emplace_back(key, std::move(value));
  }
  Position position = ++visible_;
  std::vector<std::string> keys;
  keys.reserve(resolved.size());
  for (auto& [key, value] : resolved) {
    data_.Set(key, position, std::move(value));
    keys.push_back(std::move(key));
  }
  window_.Add(position, std::move(keys));
  for (const std::string& event : txn.writes().events) events_.push_back({position, event});
  FeedIndex::Step step = feed_.Commit(position, txn.writes().events.size());
  if (step.low_water) {
    while (!events_.empty() && events_.front().position <= *step.low_water) events_.pop_front();
  }
  // What a crash would go back to must stay, too.
  data_.Prune(std::min(snapshots_.empty() ? visible_ : *snapshots_.begin(), durable_));
  moved_.NotifyAll();
  return position;
}

Status MemStoreImpl::WaitDurable(Position position) {
  std::unique_lock lock(mu_);
  while (hold_ && position > durable_ && !feed_.Lost(position)) moved_.Wait(lock);
  if (feed_.Lost(position)) return Status(Code::kUnavailable, "the commit was lost in a crash");
  if (position <= durable_) return Status::Ok();
  if (position > visible_) return Status(Code::kInvalidArgument, "no commit has this position yet");
  durable_ = visible_;
  moved_.NotifyAll();
  return Status::Ok();
}

Position MemStoreImpl::VisiblePosition() {
  std::lock_guard lock(mu_);
  return visible_;
}

Position MemStoreImpl::DurablePosition() {
  std::lock_guard lock(mu_);
  return durable_;
}

Result<FeedPage> MemStoreImpl::ReadFeed(Position after, size_t limit) {
  std::lock_guard lock(mu_);
  if (after == kFeedEnd) return FeedPageBuilder(visible_, 0).Finish(visible_, durable_);
  PERIGEE_TRY(feed_.Check(after, visible_));
  FeedPageBuilder page(after, limit);
  auto at = std::upper_bound(events_.begin(), events_.end(), after,
                             [](Position p, const FeedEvent& e) { return p < e.position; });
  while (at != events_.end() && page.Add(at->position, at->event)) ++at;
  return std::move(page).Finish(visible_, durable_);
}

bool MemStoreImpl::WaitFeed(Position seen_visible, Position seen_durable, Nanos timeout) {
  std::unique_lock lock(mu_);
  moved_.WaitFor(lock, timeout,
                 [&] { return visible_ > seen_visible || durable_ > seen_durable || feed_ended_; });
  return !feed_ended_;
}

void MemStoreImpl::EndFeedWaits() {
  std::lock_guard lock(mu_);
  feed_ended_ = true;
  moved_.NotifyAll();
}

void MemStoreImpl::Crash() {
  std::lock_guard lock(mu_);
  if (visible_ == durable_) return;
  data_.DropAfter(durable_);
  while (!events_.empty() && events_.back().position > durable_) events_.pop_back();
  // Positions that were handed out are not used again, so that who holds one can be told.
  Position resumed = visible_ + kCrashGap;
  feed_.AddGap({durable_, resumed});
  visible_ = durable_ = resumed;
  window_.Reset(resumed);
  moved_.NotifyAll();
}

void MemStoreImpl::FailConflicts(uint32_t one_in, uint64_t seed) {
  std::lock_guard lock(mu_);
  fail_one_in_ = one_in;
  conflicts_ = Random(seed);
}

void MemStoreImpl::HoldDurability(bool hold) {
  std::lock_guard lock(mu_);
  hold_ = hold;
  moved_.NotifyAll();
}

}  // namespace

std::unique_ptr<MemStore> MemStore::Create(MemStoreOptions options) {
  return std::make_unique<MemStoreImpl>(options);
}

}  // namespace perigee::objectd::kv
