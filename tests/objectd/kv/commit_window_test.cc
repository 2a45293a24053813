#include "objectd/kv/commit_window.h"

#include <doctest/doctest.h>

#include "objectd/kv/feed_index.h"

namespace perigee::objectd::kv {
namespace {

ReadSet Key(std::string key) { return {{std::move(key)}, {}}; }

TEST_CASE("the window validates against commits after the snapshot only") {
  CommitWindow window(1 << 20, 0);
  window.Add(1, {"a", "b"});
  window.Add(2, {"b", "m"});
  CHECK(window.Validate(Key("a"), 1).ok());
  CHECK(window.Validate(Key("a"), 0).Is(Code::kConflict));
  CHECK(window.Validate(Key("b"), 1).Is(Code::kConflict));
  CHECK(window.Validate({{}, {{"c", "m"}}}, 0).ok());
  CHECK(window.Validate({{}, {{"c", "n"}}}, 0).Is(Code::kConflict));
  CHECK(window.Validate({{}, {{"c", ""}}}, 1).Is(Code::kConflict));
  CHECK(window.Validate({{}, {{"", ""}}}, 2).ok());
  CHECK(window.LastWrite("b") == 2);
  CHECK_FALSE(window.LastWrite("c").has_value());
}

TEST_CASE("a snapshot older than the window conflicts, unless nothing was read") {
  CommitWindow window(2000, 0);
  for (Position p = 1; p <= 100; ++p) window.Add(p, {"key" + std::to_string(p), "hot"});
  CHECK(window.floor() > 50);
  CHECK(window.floor() < 100);
  CHECK(window.Validate(Key("untouched"), window.floor() - 1).Is(Code::kConflict));
  CHECK(window.Validate(Key("untouched"), window.floor()).ok());
  CHECK(window.Validate({}, 0).ok());
  // The hot key was written in forgotten commits and in remembered ones: its last write must have
  // survived.
  CHECK(window.LastWrite("hot") == 100);
  CHECK(window.Validate(Key("hot"), 99).Is(Code::kConflict));
  CHECK_FALSE(window.LastWrite("key1").has_value());
  window.Reset(500);
  CHECK(window.Validate(Key("hot"), 499).Is(Code::kConflict));
  CHECK(window.Validate(Key("hot"), 500).ok());
}

TEST_CASE("the feed index keeps about 64 marks however many events are kept") {
  FeedIndex feed(6400);
  size_t marks = 0, gone = 0;
  Position low = 0;
  for (Position p = 1; p <= 20'000; ++p) {
    FeedIndex::Step step = feed.Commit(p, 1);
    marks += step.added.has_value();
    gone += step.marks_gone.size();
    if (step.low_water) low = *step.low_water;
  }
  CHECK(marks - gone <= 66);
  CHECK(low <= 20'000 - 6400);
  CHECK(low >= 20'000 - 6400 - 200);
  CHECK(feed.Check(low - 1, 20'000).Is(Code::kResync));
  CHECK(feed.Check(low, 20'000).ok());
}

TEST_CASE("gaps are bounded by giving up the oldest part of the feed") {
  FeedIndex feed(1000);
  Position at = 1;
  FeedIndex::Step step;
  for (size_t i = 0; i < FeedIndex::kGapsMax + 1; ++i, at += 100) step = feed.AddGap({at, at + 50});
  CHECK(step.low_water == Position{51});
  CHECK(step.gaps_gone == std::vector<Position>{1});
  CHECK(feed.Check(50, at).Is(Code::kResync));
  CHECK(feed.Check(101, at).ok());
  CHECK(feed.Check(102, at).Is(Code::kResync));
  CHECK(feed.Check(151, at).ok());
}

}  // namespace
}  // namespace perigee::objectd::kv
