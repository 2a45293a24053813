#include "objectd/kv/rocks_view.h"

#include <rocksdb/db.h>
#include <rocksdb/perf_context.h>

#include <algorithm>

#include "objectd/kv/key_space.h"
#include "objectd/kv/write_set.h"

namespace perigee::objectd::kv {
namespace {

enum class Family { kMain, kInline };

// The key space in order, without the store's own keys.
struct Section {
  Range range;
  Family family;
};

const std::vector<Section>& Sections() {
  static const std::vector<Section> sections = [] {
    std::string own{static_cast<char>(KeySpace::kStore), '\0'};
    Range feed = PrefixRange(std::string(1, static_cast<char>(KeySpace::kFeed)));
    Range inline_values = PrefixRange(std::string(1, static_cast<char>(KeySpace::kInline)));
    return std::vector<Section>{{{"", own}, Family::kMain},
                                {{PrefixRange(own).end, feed.begin}, Family::kMain},
                                {{feed.end, inline_values.begin}, Family::kMain},
                                {inline_values, Family::kInline},
                                {{inline_values.end, ""}, Family::kMain}};
  }();
  return sections;
}

Range Intersect(const Range& a, const Range& b) {
  Range out{std::max(a.begin, b.begin), a.end};
  if (a.end.empty() || (!b.end.empty() && b.end < a.end)) out.end = b.end;
  return out;
}

// Deleted keys that iterators passed on this thread.
uint64_t PassedOnThread() { return rocksdb::get_perf_context()->internal_delete_skipped_count; }

// Walks one section after the other; each has an iterator with hard bounds.
class SectionCursor final : public Cursor {
 public:
  SectionCursor(RocksView& view, const Range& range, Direction direction)
      : view_(view), direction_(direction) {
    if (!IsEmpty(range)) {
      for (const Section& section : Sections()) {
        Range part = Intersect(section.range, range);
        if (!IsEmpty(part)) left_.push_back({std::move(part), section.family});
      }
    }
    // Taken from the back.
    if (direction == Direction::kForward) std::reverse(left_.begin(), left_.end());
    const uint64_t before = PassedOnThread();
    Settle();
    passed_ = PassedOnThread() - before;
  }
  bool Valid() const override { return it_ != nullptr; }
  std::string_view key() const override { return it_->key().ToStringView(); }
  std::string_view value() const override { return it_->value().ToStringView(); }
  void Next() override {
    const uint64_t before = PassedOnThread();
    direction_ == Direction::kForward ? it_->Next() : it_->Prev();
    Settle();
    passed_ += PassedOnThread() - before;
  }
  Status status() const override { return status_; }
  uint64_t passed() const override { return passed_; }

 private:
  // Makes it_ stand on a pair, or null at the end or at an error.
  void Settle() {
    while (it_ == nullptr || !it_->Valid()) {
      if (it_ != nullptr && !it_->status().ok()) {
        status_ = view_.Failed(
            FromRocks(it_->status(), "scan the metadata mirror in " + view_.mirror()->place().dir));
        it_.reset();
        return;
      }
      it_.reset();
      if (left_.empty()) return;
      at_ = std::move(left_.back());
      left_.pop_back();
      OpenSection();
    }
  }

  void OpenSection() {
    lower_ = at_.range.begin;
    upper_ = at_.range.end;
    rocksdb::ReadOptions options;
    options.snapshot = view_.snapshot();
    options.iterate_lower_bound = &lower_;
    if (!at_.range.end.empty()) options.iterate_upper_bound = &upper_;
    const RocksHandles& handles = view_.mirror()->handles();
    it_.reset(handles.db->NewIterator(
        options, at_.family == Family::kMain ? handles.main : handles.inline_values));
    direction_ == Direction::kForward ? it_->SeekToFirst() : it_->SeekToLast();
  }

  RocksView& view_;
  const Direction direction_;
  std::vector<Section> left_;
  Section at_;
  rocksdb::Slice lower_, upper_;  // into at_; the iterator keeps pointers
  std::unique_ptr<rocksdb::Iterator> it_;
  Status status_;
  uint64_t passed_ = 0;
};

}  // namespace

RocksView::RocksView(std::shared_ptr<RocksMirror> mirror, const rocksdb::Snapshot* snapshot)
    : mirror_(std::move(mirror)), snapshot_(snapshot) {}

RocksView::~RocksView() {
  failure_.Ignore();  // whoever read got it, too
  mirror_->db()->ReleaseSnapshot(snapshot_);
}

Result<std::shared_ptr<RocksView>> RocksView::Take(std::shared_ptr<RocksMirror> mirror) {
  const rocksdb::Snapshot* snapshot = mirror->db()->GetSnapshot();
  if (snapshot == nullptr) return Status(Code::kInternal, "RocksDB gave no snapshot");
  std::shared_ptr<RocksView> view(new RocksView(std::move(mirror), snapshot));
  PERIGEE_ASSIGN(std::optional<std::string> bytes, view->Get(HeadKey()));
  if (!bytes) return Status(Code::kCorrupt, "the metadata mirror lost its head");
  PERIGEE_ASSIGN(Head head, DecodeHead(*bytes));
  view->position_ = head.position;
  return view;
}

Result<std::optional<std::string>> RocksView::Get(std::string_view key) {
  rocksdb::ReadOptions options;
  options.snapshot = snapshot_;
  std::string value;
  rocksdb::Slice slice(key.data(), key.size());
  rocksdb::Status status = mirror_->db()->Get(options, mirror_->FamilyOf(key), slice, &value);
  if (status.IsNotFound()) return std::optional<std::string>();
  if (!status.ok())
    return Failed(FromRocks(status, "read the metadata mirror in " + mirror_->place().dir));
  return std::optional<std::string>(std::move(value));
}

Result<std::vector<std::optional<std::string>>> RocksView::GetMany(
    const std::vector<std::string>& keys) {
  std::vector<std::optional<std::string>> out(keys.size());
  if (keys.empty()) return out;
  std::vector<rocksdb::ColumnFamilyHandle*> families;
  std::vector<rocksdb::Slice> slices;
  for (const std::string& key : keys) {
    families.push_back(mirror_->FamilyOf(key));
    slices.emplace_back(key);
  }
  std::vector<rocksdb::PinnableSlice> values(keys.size());
  std::vector<rocksdb::Status> statuses(keys.size());
  rocksdb::ReadOptions options;
  options.snapshot = snapshot_;
  mirror_->db()->MultiGet(options, keys.size(), families.data(), slices.data(), values.data(),
                          statuses.data());
  for (size_t i = 0; i < keys.size(); ++i) {
    if (statuses[i].IsNotFound()) continue;
    if (!statuses[i].ok()) {
      return Failed(FromRocks(statuses[i], "read the metadata mirror in " + mirror_->place().dir));
    }
    out[i] = values[i].ToString();
  }
  return out;
}

std::unique_ptr<Cursor> RocksView::Walk(const Range& range, Direction direction) {
  return std::make_unique<SectionCursor>(*this, range, direction);
}

Status RocksView::ReadEvents(Position after, FeedPageBuilder& page) {
  std::string begin = EventKey(after + 1, 0);
  std::string end = PrefixRange(begin.substr(0, 1)).end;
  rocksdb::Slice lower(begin), upper(end);
  rocksdb::ReadOptions options;
  options.snapshot = snapshot_;
  options.iterate_lower_bound = &lower;
  options.iterate_upper_bound = &upper;
  std::unique_ptr<rocksdb::Iterator> it(
      mirror_->db()->NewIterator(options, mirror_->handles().main));
  for (it->SeekToFirst(); it->Valid(); it->Next()) {
    PERIGEE_ASSIGN(Position position, PositionOfKey(it->key().ToStringView()));
    if (!page.Add(position, it->value().ToStringView())) break;
  }
  if (it->status().ok()) return Status::Ok();
  return Failed(FromRocks(it->status(), "read the feed in " + mirror_->place().dir));
}

Status RocksView::Failed(Status status) {
  std::lock_guard lock(mu_);
  if (failure_.ok()) failure_ = status;
  return status;
}

Status RocksView::failure() const {
  std::lock_guard lock(mu_);
  return failure_;
}

}  // namespace perigee::objectd::kv
