#include "objectd/kv/row_cache.h"

#include <doctest/doctest.h>

namespace perigee::objectd::kv {
namespace {

using Value = RowCache::Value;

constexpr size_t kBytes = 16 << 20;

void OfferTwice(RowCache* cache, const std::string& key, const Value& value, Position at) {
  cache->Offer(key, value, at);
  cache->Offer(key, value, at);
}

TEST_CASE("a row that is offered twice serves views from its position on") {
  RowCache cache(kBytes);
  cache.Offer("a", "1", 5);
  CHECK_FALSE(cache.Find("a", 5).has_value());
  cache.Offer("a", "1", 7);
  CHECK_FALSE(cache.Find("a", 6).has_value());
  CHECK(cache.Find("a", 7) == Value("1"));
  CHECK(cache.Find("a", 100) == Value("1"));
  OfferTwice(&cache, "absent", std::nullopt, 7);
  REQUIRE(cache.Find("absent", 7).has_value());
  CHECK_FALSE(cache.Find("absent", 7)->has_value());
}

TEST_CASE("a commit drops what it writes") {
  RowCache cache(kBytes);
  OfferTwice(&cache, "a", "1", 5);
  OfferTwice(&cache, "b", "1", 5);
  cache.Written("a", 6);
  CHECK_FALSE(cache.Find("a", 6).has_value());
  CHECK(cache.Find("b", 6) == Value("1"));
}

TEST_CASE("a reader that a commit has overtaken offers in vain") {
  RowCache cache(kBytes);
  OfferTwice(&cache, "a", "1", 5);
  cache.Written("a", 6);
  OfferTwice(&cache, "a", "1", 5);
  CHECK_FALSE(cache.Find("a", 6).has_value());
  OfferTwice(&cache, "a", "2", 6);
  CHECK(cache.Find("a", 6) == Value("2"));
}

TEST_CASE("large rows are left out, and the size of all is bounded") {
  RowCache cache(kBytes);
  OfferTwice(&cache, "large", std::string(4096, 'x'), 5);
  CHECK_FALSE(cache.Find("large", 5).has_value());
  const std::string value(1000, 'v');
  constexpr int kRows = 50000;
  size_t kept = 0;
  for (int i = 0; i < kRows; ++i) {
    OfferTwice(&cache, std::to_string(i), value, 5);
    CHECK(cache.Find("0", 5) == Value(value));  // in demand: it stays
  }
  for (int i = 0; i < kRows; ++i) kept += cache.Find(std::to_string(i), 5).has_value();
  CHECK(kept > 1000);
  CHECK(kept * value.size() <= kBytes);
}

TEST_CASE("a commit drops also rows that nobody has found for long") {
  RowCache cache(kBytes);
  OfferTwice(&cache, "old", "1", 5);
  for (int i = 0; i < 9000; ++i) OfferTwice(&cache, std::to_string(i), std::string(1000, 'v'), 5);
  cache.Written("old", 6);
  CHECK_FALSE(cache.Find("old", 6).has_value());
}

}  // namespace
}  // namespace perigee::objectd::kv
