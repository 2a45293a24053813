#pragma once
// VacancyReader: a view whose forward walks leave out the ranges that are known to be vacant, and
// learn of others from the deleted keys they pass. Thread rule: thread-safe.

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "objectd/kv/snapshot_reader.h"
#include "objectd/kv/vacant_ranges.h"

namespace perigee::objectd::kv {

class VacancyReader final : public SnapshotReader {
 public:
  // So many deleted keys in a row are dearer to pass than to begin a walk behind them.
  static constexpr uint64_t kPassedMin = 64;
  // The view holds nothing in the range, which has an end.
  using Learn = std::function<void(const Range& vacant)>;

  VacancyReader(SnapshotReader& view, VacantRanges& known, Learn learn)
      : view_(view), known_(known), learn_(std::move(learn)) {}
  Position position() const override { return view_.position(); }
  Result<std::optional<std::string>> Get(std::string_view key) override { return view_.Get(key); }
  Result<std::vector<std::optional<std::string>>> GetMany(
      const std::vector<std::string>& keys) override {
    return view_.GetMany(keys);
  }
  std::unique_ptr<Cursor> Walk(const Range& range, Direction direction) override;

 private:
  SnapshotReader& view_;
  VacantRanges& known_;
  const Learn learn_;
};

}  // namespace perigee::objectd::kv
