#include <algorithm>
#include <set>

#include "base/random.h"
#include "tests/objectd/meta/fixture.h"

using namespace perigee;
using namespace perigee::objectd;
using namespace perigee::objectd::test;

namespace {

struct Flat {
  Strings keys, prefixes;
  bool operator==(const Flat&) const = default;
};

// S3's definition, by brute force over all keys.
Flat Expected(const std::set<std::string>& keys, const ListQuery& q) {
  Flat flat;
  std::set<std::string> prefixes;
  size_t items = 0;
  for (const auto& key : keys) {
    if (!key.starts_with(q.prefix)) continue;
    size_t at = q.delimiter.empty() ? std::string::npos : key.find(q.delimiter, q.prefix.size());
    std::string item = at == std::string::npos ? key : key.substr(0, at + q.delimiter.size());
    if (item <= q.after || prefixes.contains(item)) continue;
    if (items++ == q.limit) break;
    if (at == std::string::npos)
      flat.keys.push_back(key);
    else
      prefixes.insert(item);
  }
  flat.prefixes.assign(prefixes.begin(), prefixes.end());
  return flat;
}

}  // namespace

TEST_CASE_FIXTURE(Fixture, "keys come in byte order, whatever the slashes") {
  Bucket("bucket");
  Strings keys = {"a",     "a!", "a/", "a//", "a//b", "a/b", "a/b!",
                  "a/b/c", "a0", "ab", "/",   "/a",   "A",   "\xc3\xa9"};
  for (const auto& key : keys) Must(Put("bucket", key, key.ends_with("/") ? "" : "x"));
  std::sort(keys.begin(), keys.end());
  CHECK(Keys("bucket") == keys);
  ListPage page = Must(ns->ListObjects("bucket", {.delimiter = "/"}));
  CHECK(page.common_prefixes == Strings{"/", "a/"});
  CHECK(Keys("bucket", {.prefix = "a/", .delimiter = "/"}) == Strings{"a/", "a/b", "a/b!"});
  CHECK(ns->ListObjects("nowhere", {}).code() == Code::kNotFound);
  CHECK(Must(ns->ListObjects("bucket", {.limit = 0})).truncated == false);
}

TEST_CASE_FIXTURE(Fixture, "pages join up to the whole listing") {
  Bucket("bucket");
  for (int i = 0; i < 25; ++i)
    Must(Put("bucket", "d" + std::to_string(i % 7) + "/k" + std::to_string(i)));
  for (const char* delimiter : {"", "/"}) {
    for (uint32_t limit : {1u, 2u, 3u, 10u}) {
      Strings seen;
      ListQuery q{.delimiter = delimiter, .limit = limit};
      while (true) {
        ListPage page = Must(ns->ListObjects("bucket", q));
        for (const auto& [key, record] : page.objects) seen.push_back(key);
        for (const auto& prefix : page.common_prefixes) seen.push_back(prefix);
        CHECK(page.objects.size() + page.common_prefixes.size() <= limit);
        if (!page.truncated) break;
        CHECK(page.next_after == seen.back());
        q.after = page.next_after;
      }
      CHECK(seen.size() == (*delimiter ? 7 : 25));
      CHECK(std::is_sorted(seen.begin(), seen.end()));
    }
  }
}

TEST_CASE_FIXTURE(Fixture, "listing skips what is not committed and what is no regular file") {
  auto b = Bucket("bucket");
  Create(b, "writing", 1, 1);
  Must(ns->Symlink({.parent = b, .name = "link", .symlink = "x"}));
  auto f = File(b, "f");
  Must(ns->Link({.id = f, .new_parent = b, .new_name = "g"}));
  CHECK(Keys("bucket") == Strings{"f", "g"});
}

TEST_CASE_FIXTURE(Fixture,
                  "paths longer than an S3 key, made through the mount, are listed and read") {
  auto b = Bucket("bucket");
  std::string key;
  wire::FileId dir = b;
  for (int i = 0; i < 10; ++i) {
    dir = Dir(dir, std::string(200, 'd'));
    key += std::string(200, 'd') + "/";
  }
  File(dir, "f", "deep");
  key += "f";
  CHECK(Must(Get("bucket", key)) == "deep");
  CHECK(Keys("bucket").back() == key);
  CHECK(Put("bucket", key).code() == Code::kTooLarge);
}

TEST_CASE_FIXTURE(Fixture, "any listing is what S3 defines, for random keys and queries") {
  const uint64_t seed = 4711;
  MESSAGE("seed ", seed);
  Random random(seed);
  Bucket("bucket");
  std::set<std::string> keys;
  auto random_text = [&](size_t most) {
    static const char kAlphabet[] = "ab/-";
    std::string s;
    for (size_t n = random.Below(most + 1); n > 0; --n) s.push_back(kAlphabet[random.Below(4)]);
    return s;
  };
  for (int i = 0; i < 120; ++i) {
    std::string key = random_text(7);
    if (key.empty()) continue;
    Must(Put("bucket", key, key.ends_with('/') && random.OneIn(2) ? "" : "x"));
    keys.insert(key);
  }
  const char* delimiters[] = {"", "/", "-", "a", "/a", "//", "b/"};
  for (int i = 0; i < 1500; ++i) {
    ListQuery q{.prefix = random_text(3),
                .delimiter = delimiters[random.Below(7)],
                .after = random_text(5),
                .limit = static_cast<uint32_t>(1 + random.Below(i % 3 ? 5 : 200))};
    ListPage page = Must(ns->ListObjects("bucket", q));
    Flat got;
    for (const auto& [key, record] : page.objects) got.keys.push_back(key);
    got.prefixes = page.common_prefixes;
    Flat expected = Expected(keys, q);
    INFO("prefix '" << q.prefix << "' delimiter '" << q.delimiter << "' after '" << q.after
                    << "' limit " << q.limit);
    CHECK(got.keys == expected.keys);
    CHECK(got.prefixes == expected.prefixes);
    ListQuery all = q;
    all.limit = 100000;
    Flat rest = Expected(keys, all);
    CHECK(page.truncated ==
          (rest.keys.size() + rest.prefixes.size() > got.keys.size() + got.prefixes.size()));
  }
}
