#include "objectd/kv/sequencer.h"

namespace perigee::objectd::kv {
namespace {

constexpr size_t kWindowBytesMax = 4 << 20;
constexpr size_t kCountersMax = 4096;
constexpr int kBaseRoundsMax = 16;

}  // namespace

Sequencer::Sequencer(MirrorSet& mirrors, RowCache& rows, VacantRanges& vacant, FeedIndex feed,
                     Head head)
    : mirrors_(mirrors),
      rows_(rows),
      vacant_(vacant),
      window_(kWindowBytesMax, head.position),
      feed_(std::move(feed)),
      head_(head) {}

Result<Position> Sequencer::Commit(const OverlayTransaction& txn, Position snapshot) {
  Bases bases;
  for (int round = 0; round < kBaseRoundsMax; ++round) {
    std::vector<std::string> missing;
    Position last = 0;
    {
      std::lock_guard lock(mu_);
      PERIGEE_TRY(window_.Validate(txn.reads(), snapshot));
      missing = MissingBases(txn.writes(), bases);
      if (missing.empty()) return Assign(txn.writes(), bases);
      last = head_.position;
    }
    PERIGEE_TRY(ReadBases(missing, last, &bases));
  }
  return Status(Code::kConflict, "counters changed faster than they could be read");
}

const std::optional<std::string>* Sequencer::FindBase(const std::string& key,
                                                      const Bases& bases) const {
  auto counter = counters_.find(key);
  if (counter != counters_.end()) return &counter->second;
  auto base = bases.find(key);
  if (base == bases.end() || base->second.at < window_.floor()) return nullptr;
  std::optional<Position> written = window_.LastWrite(key);
  if (written && *written > base->second.at) return nullptr;
  return &base->second.value;
}

std::vector<std::string> Sequencer::MissingBases(const WriteSet& writes, const Bases& bases) const {
  std::vector<std::string> missing;
  for (const auto& [key, write] : writes.keys) {
    if (write.effect == KeyWrite::Effect::kModify && FindBase(key, bases) == nullptr)
      missing.push_back(key);
  }
  return missing;
}

Status Sequencer::ReadBases(const std::vector<std::string>& keys, Position at_least, Bases* bases) {
  PERIGEE_TRY(mirrors_.WaitVisible(at_least));
  PERIGEE_ASSIGN(std::shared_ptr<RocksView> view, mirrors_.AcquireView());
  Result<std::vector<std::optional<std::string>>> values = view->GetMany(keys);
  if (!values.ok()) {
    if (mirrors_.ReadFailed(*view)) return Status(Code::kConflict, "the mirror read was lost");
    return values.status();
  }
  for (size_t i = 0; i < keys.size(); ++i)
    (*bases)[keys[i]] = {view->position(), std::move((*values)[i])};
  return Status::Ok();
}

Result<Position> Sequencer::Assign(const WriteSet& writes, const Bases& bases) {
  CommitContent content;
  for (const auto& [key, write] : writes.keys) {
    std::optional<std::string> base;
    if (write.effect == KeyWrite::Effect::kModify) base = *FindBase(key, bases);
    PERIGEE_ASSIGN(std::optional<std::string> value, ApplyWrite(write, std::move(base)));
    content.writes.emplace_back(key, std::move(value));
  }
  // From here on nothing fails.
  Position position = head_.position + 1;
  content.feed = feed_.Commit(position, writes.events.size());
  content.events = writes.events;
  content.head = {position, head_.position, feed_.events_total()};
  auto batch = std::make_shared<NumberedBatch>(NumberedBatch{position, EncodeBatch(content)});
  head_ = content.head;
  std::vector<std::string> keys;
  keys.reserve(content.writes.size());
  for (auto& [key, value] : content.writes) {
    rows_.Written(key, position);
    if (value) vacant_.Written(key);
    Remember(key, value, writes.keys.find(key)->second.effect == KeyWrite::Effect::kModify);
    keys.push_back(std::move(key));
  }
  window_.Add(position, std::move(keys));
  mirrors_.Enqueue(std::move(batch));
  return position;
}

void Sequencer::Remember(const std::string& key, const std::optional<std::string>& value,
                         bool counter) {
  auto it = counters_.find(key);
  if (it != counters_.end()) {
    if (counter) {
      it->second = value;
    } else {
      counters_.erase(it);
    }
  } else if (counter) {
    if (counters_.size() >= kCountersMax) counters_.clear();
    counters_.emplace(key, value);
  }
}

Position Sequencer::LastPosition() {
  std::lock_guard lock(mu_);
  return head_.position;
}

Status Sequencer::CheckFeed(Position after, Position visible) {
  std::lock_guard lock(mu_);
  return feed_.Check(after, visible);
}

bool Sequencer::Lost(Position position) {
  std::lock_guard lock(mu_);
  return feed_.Lost(position);
}

void Sequencer::NoteVacant(const Range& range, Position at) {
  std::lock_guard lock(mu_);
  if (window_.Validate({.keys = {}, .ranges = {range}}, at).ok()) vacant_.Add(range, at);
}

void Sequencer::BetweenCommits(const std::function<void(Position last)>& fn) {
  std::lock_guard lock(mu_);
  fn(head_.position);
}

}  // namespace perigee::objectd::kv
