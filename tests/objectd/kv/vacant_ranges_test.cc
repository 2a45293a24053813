#include "objectd/kv/vacant_ranges.h"

#include <doctest/doctest.h>

#include <map>
#include <utility>

#include "base/random.h"
#include "objectd/kv/vacancy_reader.h"
#include "objectd/kv/write_set.h"

namespace perigee::objectd::kv {
namespace {

constexpr size_t kBytes = 1 << 20;

std::pair<std::string, std::string> Next(VacantRanges& ranges, std::string_view key, Position at) {
  auto found = ranges.Next(key, at);
  return found ? std::pair(found->begin, found->end) : std::pair<std::string, std::string>();
}

using Ends = std::pair<std::string, std::string>;

TEST_CASE("vacant ranges that touch become one, for views that are not older than either") {
  VacantRanges ranges(kBytes);
  ranges.Add({"d", "f"}, 5);
  ranges.Add({"k", "m"}, 9);
  CHECK(Next(ranges, "a", 5) == Ends("d", "f"));
  CHECK(Next(ranges, "e", 5) == Ends("d", "f"));
  CHECK(Next(ranges, "f", 9) == Ends("k", "m"));
  CHECK(Next(ranges, "f", 8) == Ends());
  CHECK(Next(ranges, "a", 4) == Ends());
  ranges.Add({"f", "l"}, 7);
  CHECK(Next(ranges, "a", 9) == Ends("d", "m"));
  CHECK(Next(ranges, "a", 8) == Ends());
}

TEST_CASE("a key that is put is no longer in a vacant range") {
  VacantRanges ranges(kBytes);
  ranges.Add({"d", "m"}, 5);
  ranges.Written("f");
  CHECK(Next(ranges, "a", 5) == Ends("d", "f"));
  CHECK(Next(ranges, "f", 5) == Ends(std::string("f\0", 2), "m"));
  ranges.Written("m");  // the end is not in it
  ranges.Written("d");
  CHECK(Next(ranges, "a", 5) == Ends(std::string("d\0", 2), "f"));
}

TEST_CASE("vacant ranges take a bounded amount of memory") {
  VacantRanges ranges(10'000);
  size_t most = 0;
  for (int i = 0; i < 1000; ++i) {
    std::string begin = std::to_string(10'000 + 2 * i);
    ranges.Add({begin, begin + "x"}, 1);
    CHECK(ranges.Next(begin, 1).has_value());  // the newest is always there
    size_t count = 0;
    for (auto at = ranges.Next("", 1); at; at = ranges.Next(at->end, 1)) ++count;
    most = std::max(most, count);
  }
  CHECK(most > 20);
  CHECK(most < 100);
}

// Keys of which some are deleted, as an engine holds them until it compacts.
class Engine final : public SnapshotReader {
 public:
  std::map<std::string, std::optional<std::string>, std::less<>> rows;
  uint64_t passed = 0;
  Position position_now = 1;

  Position position() const override { return position_now; }
  Result<std::optional<std::string>> Get(std::string_view) override {
    return Status(Code::kInternal, "not asked for here");
  }
  Result<std::vector<std::optional<std::string>>> GetMany(
      const std::vector<std::string>&) override {
    return Status(Code::kInternal, "not asked for here");
  }
  std::unique_ptr<Cursor> Walk(const Range& range, Direction direction) override {
    CHECK(direction == Direction::kForward);
    return std::make_unique<Walker>(*this, range);
  }

 private:
  class Walker final : public Cursor {
   public:
    Walker(Engine& engine, Range range)
        : engine_(engine), range_(std::move(range)), at_(engine.rows.lower_bound(range_.begin)) {
      Settle();
    }
    bool Valid() const override {
      return at_ != engine_.rows.end() && BeforeEnd(at_->first, range_.end);
    }
    std::string_view key() const override { return at_->first; }
    std::string_view value() const override { return *at_->second; }
    void Next() override {
      ++at_;
      Settle();
    }
    Status status() const override { return Status::Ok(); }
    uint64_t passed() const override { return passed_; }

   private:
    void Settle() {
      for (; Valid() && !at_->second; ++at_) {
        ++passed_;
        ++engine_.passed;
      }
    }
    Engine& engine_;
    const Range range_;
    decltype(rows)::iterator at_;
    uint64_t passed_ = 0;
  };
};

struct Fixture {
  Engine engine;
  VacantRanges ranges{kBytes};
  VacancyReader reader{engine, ranges, [this](const Range& range) { ranges.Add(range, 1); }};

  static std::string Key(uint64_t i) { return std::to_string(100'000 + i); }
  void Put(const std::string& key) {
    engine.rows[key] = "v" + key;
    ranges.Written(key);
  }
  static std::vector<std::string> Keys(SnapshotReader& reader, const Range& range, size_t most) {
    std::vector<std::string> keys;
    auto cursor = reader.Walk(range, Direction::kForward);
    for (; cursor->Valid() && keys.size() < most; cursor->Next()) {
      CHECK(cursor->value() == "v" + std::string(cursor->key()));
      keys.emplace_back(cursor->key());
    }
    CHECK(cursor->status().ok());
    return keys;
  }
};

TEST_CASE_FIXTURE(Fixture, "what one walk had to pass the next one leaves out, from anywhere") {
  for (uint64_t i = 0; i < 5000; ++i) engine.rows[Key(i)] = std::nullopt;
  Put(Key(5000));
  const std::vector<std::string> last = {Key(5000)};
  CHECK(Keys(reader, {"", "9"}, 10) == last);
  CHECK(engine.passed == 5000);
  CHECK(Keys(reader, {Key(2000), "9"}, 10) == last);
  CHECK(Keys(reader, {"", Key(3000)}, 10).empty());
  CHECK(engine.passed == 5000);
  Put(Key(700));
  CHECK(Keys(reader, {Key(1), "9"}, 10) == std::vector<std::string>{Key(700), Key(5000)});
  CHECK(engine.passed == 5000);
}

TEST_CASE_FIXTURE(Fixture, "a walk from before a vacant range goes on behind it") {
  for (uint64_t i = 0; i < 5000; ++i) engine.rows[Key(i)] = std::nullopt;
  Put(Key(5000));
  CHECK(Keys(reader, {Key(2000), "9"}, 1) == std::vector<std::string>{Key(5000)});
  CHECK(engine.passed == 3000);
  CHECK(Keys(reader, {Key(0), "9"}, 1) == std::vector<std::string>{Key(5000)});
  CHECK(engine.passed == 5000);
  CHECK(Keys(reader, {"", "9"}, 1) == std::vector<std::string>{Key(5000)});
  CHECK(engine.passed == 5000);
}

TEST_CASE_FIXTURE(Fixture, "walks find what is there, whatever was put and deleted between them") {
  const uint64_t seed = 1213;
  MESSAGE("seed ", seed);
  Random random(seed);
  constexpr uint64_t kKeys = 3000;
  for (uint64_t i = 0; i < kKeys; ++i) Put(Key(i));
  for (int round = 0; round < 3000; ++round) {
    const uint64_t at = random.Below(kKeys), count = random.OneIn(3) ? random.Below(600) : 0;
    for (uint64_t i = at; i < std::min(kKeys, at + count); ++i) engine.rows[Key(i)] = std::nullopt;
    if (random.OneIn(2)) Put(Key(random.Below(kKeys)));
    const uint64_t from = random.Below(kKeys), to = from + random.Below(kKeys - from);
    const Range range{Key(from), random.OneIn(4) ? "" : Key(to)};
    const size_t most = 1 + random.Below(50);
    CHECK(Keys(reader, range, most) == Keys(engine, range, most));
  }
}

}  // namespace
}  // namespace perigee::objectd::kv
