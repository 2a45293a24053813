#include "objectd/kv/feed_index.h"

#include <algorithm>
#include <string>

namespace perigee::objectd::kv {
namespace {

constexpr uint64_t kMarksPerRetention = 64;

}  // namespace

FeedIndex::FeedIndex(uint64_t events_kept) : events_kept_(std::max<uint64_t>(1, events_kept)) {}

void FeedIndex::Restore(Position low_water, uint64_t events_total, std::vector<Mark> marks,
                        std::vector<Gap> gaps) {
  low_water_ = low_water;
  events_total_ = events_total;
  marks_.assign(marks.begin(), marks.end());
  gaps_.assign(gaps.begin(), gaps.end());
}

FeedIndex::Step FeedIndex::Commit(Position position, size_t events) {
  Step step;
  if (events == 0) return step;
  events_total_ += events;
  uint64_t interval = std::max<uint64_t>(1, events_kept_ / kMarksPerRetention);
  // Also the first one ever: without a mark nothing could be trimmed up to it.
  if (marks_.empty() || events_total_ - marks_.back().events_total >= interval) {
    marks_.push_back({position, events_total_});
    step.added = marks_.back();
  }
  Position trim_to = 0;
  for (const Mark& mark : marks_) {
    if (events_total_ - mark.events_total < events_kept_) break;
    trim_to = mark.position;
  }
  if (trim_to > low_water_) RaiseLowWater(trim_to, &step);
  return step;
}

FeedIndex::Step FeedIndex::AddGap(Gap gap) {
  Step step;
  gaps_.push_back(gap);
  if (gaps_.size() > kGapsMax) RaiseLowWater(gaps_.front().resumed, &step);
  return step;
}

void FeedIndex::RaiseLowWater(Position to, Step* step) {
  low_water_ = to;
  step->low_water = to;
  while (!marks_.empty() && marks_.front().position <= to) {
    step->marks_gone.push_back(marks_.front().position);
    marks_.pop_front();
  }
  while (!gaps_.empty() && gaps_.front().resumed <= to) {
    step->gaps_gone.push_back(gaps_.front().last);
    gaps_.pop_front();
  }
}

Status FeedIndex::Check(Position after, Position visible) const {
  if (after < low_water_)
    return Status(Code::kResync, "events at this position are no longer kept");
  if (after > visible) return Status(Code::kResync, "this position is ahead of the store");
  if (Lost(after)) return Status(Code::kResync, "commits up to this position were lost in a crash");
  return Status::Ok();
}

bool FeedIndex::Lost(Position position) const {
  for (const Gap& gap : gaps_) {
    if (position > gap.last && position < gap.resumed) return true;
  }
  return false;
}

bool FeedPageBuilder::Add(Position position, std::string_view event) {
  if (page_.events.size() >= limit_ && position != next_) {
    full_ = true;
    return false;
  }
  page_.events.push_back({position, std::string(event)});
  next_ = position;
  return true;
}

FeedPage FeedPageBuilder::Finish(Position visible, Position durable) && {
  page_.next = full_ ? next_ : visible;
  page_.visible = visible;
  page_.durable = durable;
  return std::move(page_);
}

}  // namespace perigee::objectd::kv
