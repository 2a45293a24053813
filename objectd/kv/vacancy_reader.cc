#include "objectd/kv/vacancy_reader.h"

#include "objectd/kv/write_set.h"

namespace perigee::objectd::kv {
namespace {

// Walks the parts of a range between the vacant ones.
class VacancyCursor final : public Cursor {
 public:
  VacancyCursor(SnapshotReader& view, VacantRanges& known, const VacancyReader::Learn& learn,
                const Range& range)
      : view_(view), known_(known), learn_(learn), left_(range), vacant_from_(range.begin) {
    if (OpenPart()) Settle();
  }
  bool Valid() const override { return part_ != nullptr && part_->Valid(); }
  std::string_view key() const override { return part_->key(); }
  std::string_view value() const override { return part_->value(); }
  void Next() override {
    vacant_from_.assign(part_->key()).push_back('\0');
    part_->Next();
    Settle();
  }
  Status status() const override { return part_ ? part_->status() : Status::Ok(); }
  uint64_t passed() const override { return passed_ + (part_ ? part_->passed() : 0); }

 private:
  // The walk up to the next vacant range, if anything is left.
  bool OpenPart() {
    while (!IsEmpty(left_)) {
      vacant_ = known_.Next(left_.begin, view_.position());
      if (vacant_ && vacant_->begin <= left_.begin) {
        left_.begin = std::move(vacant_->end);
        continue;
      }
      if (vacant_ && !BeforeEnd(vacant_->begin, left_.end)) vacant_.reset();
      if (part_) passed_ += part_->passed();
      part_ = view_.Walk({left_.begin, vacant_ ? vacant_->begin : left_.end}, Direction::kForward);
      return true;
    }
    return false;
  }

  // Makes part_ stand on a pair, or invalid at the end or at an error.
  void Settle() {
    while (!part_->Valid()) {
      if (Status st = part_->status(); !st.ok()) return;
      if (!vacant_) return LearnUpTo(left_.end);
      left_.begin = std::move(vacant_->end);
      vacant_.reset();
      if (!OpenPart()) return LearnUpTo(left_.end);
    }
    LearnUpTo(part_->key());
  }

  // Nothing is between the pair before and `end`.
  void LearnUpTo(std::string_view end) {
    const uint64_t all = passed();
    if (all - learned_ >= VacancyReader::kPassedMin && vacant_from_ < end)
      learn_({vacant_from_, std::string(end)});
    learned_ = all;
  }

  SnapshotReader& view_;
  VacantRanges& known_;
  const VacancyReader::Learn& learn_;
  Range left_;                   // begins where part_ does
  std::optional<Range> vacant_;  // behind part_; none: part_ goes to the end of left_
  std::unique_ptr<Cursor> part_;
  std::string vacant_from_;  // nothing is between this and part_'s pair
  uint64_t passed_ = 0;      // by the parts before
  uint64_t learned_ = 0;     // of passed(): before vacant_from_
};

}  // namespace

std::unique_ptr<Cursor> VacancyReader::Walk(const Range& range, Direction direction) {
  if (direction == Direction::kBackward) return view_.Walk(range, direction);
  return std::make_unique<VacancyCursor>(view_, known_, learn_, range);
}

}  // namespace perigee::objectd::kv
