#pragma once
// The conformance suite of Store: what every engine must do. An engine's test file defines a
// fixture
//   struct F {
//     static constexpr int kModelSize;         // how long random histories get, 100 at most
//     Store& Open(uint64_t feed_events_kept);  // a new, empty store
//     Store& Reopen();                         // the same store after a crash or restart: durable
//     commits are there
//   };
// and says PERIGEE_STORE_CONFORMANCE(F). Parts: this file (transactions), feed_conformance.h,
// model_conformance.h.

#include <doctest/doctest.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "base/bytes.h"
#include "objectd/kv/key_space.h"
#include "objectd/kv/store.h"

namespace perigee::objectd::kv::testing {

inline constexpr uint64_t kFeedDefault = 1000;

inline std::string Le64(uint64_t v) {
  std::string s(8, '\0');
  PutLe(reinterpret_cast<uint8_t*>(s.data()), v);
  return s;
}

inline Position MustRun(Store& store, const Store::Closure& closure) {
  Result<Position> at = store.Run(closure);
  INFO(at.status().ToString());
  REQUIRE(at.ok());
  return *at;
}

inline Position PutNow(Store& store, std::string_view key, std::string_view value) {
  return MustRun(store, [&](Transaction& txn) {
    txn.Put(key, value);
    return Status::Ok();
  });
}

inline Position EmitNow(Store& store, std::string_view event) {
  return MustRun(store, [&](Transaction& txn) {
    txn.Emit(event);
    return Status::Ok();
  });
}

inline std::optional<std::string> GetNow(Store& store, std::string_view key) {
  std::optional<std::string> out;
  MustRun(store, [&](Transaction& txn) -> Status {
    PERIGEE_ASSIGN(out, txn.Get(key, ReadMode::kSnapshot));
    return Status::Ok();
  });
  return out;
}

inline std::vector<KeyValue> ScanNow(Store& store, const Range& range, size_t limit = 1000,
                                     Direction direction = Direction::kForward) {
  std::vector<KeyValue> out;
  MustRun(store, [&](Transaction& txn) -> Status {
    PERIGEE_ASSIGN(out, txn.Scan(range, limit, direction, ReadMode::kSnapshot));
    return Status::Ok();
  });
  return out;
}

inline std::string KeysOf(const std::vector<KeyValue>& pairs) {
  std::string out;
  for (const auto& [key, value] : pairs) out += key + "=" + value + " ";
  return out;
}

// Runs `body` as a transaction; `meanwhile` commits after the first run's body and before its
// commit. Returns how often the body ran.
inline int RunsWhile(Store& store, const Store::Closure& body,
                     const std::function<void()>& meanwhile) {
  int runs = 0;
  MustRun(store, [&](Transaction& txn) -> Status {
    ++runs;
    PERIGEE_TRY(body(txn));
    txn.Put("z/committed", "yes");
    if (runs == 1) meanwhile();
    return Status::Ok();
  });
  return runs;
}

inline Store::Closure Reads(std::string key, ReadMode mode) {
  return [=](Transaction& txn) { return txn.Get(key, mode).status(); };
}

inline Store::Closure Scans(Range range, size_t limit, Direction direction, ReadMode mode) {
  return [=](Transaction& txn) { return txn.Scan(range, limit, direction, mode).status(); };
}

inline void AddNow(Store& store, std::string_view key, int64_t by) {
  MustRun(store, [&](Transaction& txn) {
    txn.AtomicAdd(key, by);
    return Status::Ok();
  });
}

TEST_CASE_TEMPLATE_DEFINE(
    "a commit is visible to later transactions, a failed closure commits nothing", F,
    conform_commit) {
  F f;
  Store& store = f.Open(kFeedDefault);
  CHECK_FALSE(GetNow(store, "a").has_value());
  Position first = PutNow(store, "a", "1");
  Position second = PutNow(store, "b", "");
  CHECK(second > first);
  CHECK(GetNow(store, "a") == "1");
  CHECK(GetNow(store, "b") == "");
  Result<Position> failed = store.Run([](Transaction& txn) {
    txn.Put("a", "2");
    txn.Delete("b");
    return Status(Code::kNotEmpty, "changed its mind");
  });
  CHECK(failed.status().Is(Code::kNotEmpty));
  CHECK(GetNow(store, "a") == "1");
  MustRun(store, [](Transaction& txn) {
    txn.Delete("b");
    txn.Delete("never there");
    return Status::Ok();
  });
  CHECK_FALSE(GetNow(store, "b").has_value());
}

TEST_CASE_TEMPLATE_DEFINE("a transaction reads the state of its start, whatever commits meanwhile",
                          F, conform_snapshot) {
  F f;
  Store& store = f.Open(kFeedDefault);
  PutNow(store, "a", "old");
  PutNow(store, "b", "old");
  MustRun(store, [&](Transaction& txn) -> Status {
    PERIGEE_ASSIGN(auto a, txn.Get("a", ReadMode::kSnapshot));
    CHECK(a == "old");
    PutNow(store, "a", "new");
    PutNow(store, "b", "new");
    PutNow(store, "c", "new");
    PERIGEE_ASSIGN(auto many, txn.GetMany({"b", "a", "c"}, ReadMode::kSnapshot));
    CHECK(many[0] == "old");
    CHECK(many[1] == "old");
    CHECK_FALSE(many[2].has_value());
    PERIGEE_ASSIGN(auto all, txn.Scan({"", ""}, 10, Direction::kForward, ReadMode::kSnapshot));
    CHECK(KeysOf(all) == "a=old b=old ");
    return Status::Ok();
  });
  CHECK(GetNow(store, "b") == "new");
}

TEST_CASE_TEMPLATE_DEFINE("reads see the transaction's own writes, in scans of both directions too",
                          F, conform_own_writes) {
  F f;
  Store& store = f.Open(kFeedDefault);
  for (const char* key : {"b", "d", "f", "h"}) PutNow(store, key, "0");
  PutNow(store, "n", Le64(40));
  MustRun(store, [&](Transaction& txn) -> Status {
    txn.Put("a", "1");
    txn.Put("d", "1");
    txn.Put("e", "1");
    txn.Delete("f");
    txn.Put("i", "1");
    txn.Delete("i");
    txn.AtomicAdd("n", 2);
    txn.AtomicMax("o", 7);
    auto scan = [&](Range range, size_t limit, Direction direction) {
      auto pairs = txn.Scan(range, limit, direction, ReadMode::kConflict);
      REQUIRE(pairs.ok());
      return KeysOf(*pairs);
    };
    Range letters{"a", "k"};
    CHECK(scan(letters, 10, Direction::kForward) == "a=1 b=0 d=1 e=1 h=0 ");
    CHECK(scan(letters, 10, Direction::kBackward) == "h=0 e=1 d=1 b=0 a=1 ");
    CHECK(scan(letters, 3, Direction::kForward) == "a=1 b=0 d=1 ");
    CHECK(scan(letters, 2, Direction::kBackward) == "h=0 e=1 ");
    CHECK(scan({"b", "e"}, 10, Direction::kForward) == "b=0 d=1 ");
    CHECK(scan({"e", "b"}, 10, Direction::kForward).empty());
    CHECK(scan(letters, 0, Direction::kForward).empty());
    CHECK(scan({"l", ""}, 10, Direction::kForward) == "n=" + Le64(42) + " o=" + Le64(7) + " ");
    CHECK(scan({"l", ""}, 1, Direction::kBackward) == "o=" + Le64(7) + " ");
    PERIGEE_ASSIGN(auto many, txn.GetMany({"f", "n", "h", "e", "o"}, ReadMode::kSnapshot));
    CHECK_FALSE(many[0].has_value());
    CHECK(many[1] == Le64(42));
    CHECK(many[2] == "0");
    CHECK(many[3] == "1");
    CHECK(many[4] == Le64(7));
    PERIGEE_ASSIGN(auto gone, txn.Get("f", ReadMode::kConflict));
    CHECK_FALSE(gone.has_value());
    return Status::Ok();
  });
  CHECK(KeysOf(ScanNow(store, {"a", "k"})) == "a=1 b=0 d=1 e=1 h=0 ");
}

TEST_CASE_TEMPLATE_DEFINE(
    "a changed key fails the commit of who read it for conflicts, and only that", F,
    conform_key_conflicts) {
  F f;
  Store& store = f.Open(kFeedDefault);
  PutNow(store, "k", "0");
  auto change = [&] { PutNow(store, "k", "1"); };
  CHECK(RunsWhile(store, Reads("k", ReadMode::kConflict), change) == 2);
  CHECK(RunsWhile(store, Reads("k", ReadMode::kSnapshot), change) == 1);
  CHECK(RunsWhile(store, Reads("other", ReadMode::kConflict), change) == 1);
  CHECK(RunsWhile(
            store,
            [](Transaction& txn) {
              return txn.GetMany({"x", "k"}, ReadMode::kConflict).status();
            },
            change) == 2);
  CHECK(RunsWhile(
            store,
            [](Transaction& txn) {
              txn.ConflictOn("k");
              return Status::Ok();
            },
            change) == 2);
  // An absent key that appears, and a present one that goes.
  CHECK(RunsWhile(store, Reads("new", ReadMode::kConflict), [&] { PutNow(store, "new", ""); }) ==
        2);
  auto erase = [&] {
    MustRun(store, [](Transaction& txn) {
      txn.Delete("new");
      return Status::Ok();
    });
  };
  CHECK(RunsWhile(store, Reads("new", ReadMode::kConflict), erase) == 2);
  // Blind writes never conflict; the later commit wins.
  CHECK(RunsWhile(
            store,
            [](Transaction& txn) {
              txn.Put("k", "late");
              return Status::Ok();
            },
            change) == 1);
  CHECK(GetNow(store, "k") == "late");
}

TEST_CASE_TEMPLATE_DEFINE("a conflict scan covers what it walked over, phantoms included", F,
                          conform_phantoms) {
  F f;
  Store& store = f.Open(kFeedDefault);
  for (const char* key : {"d/b", "d/d", "d/f", "d/h"}) PutNow(store, key, "");
  Range dir{"d/", "d0"};
  int n = 0;
  auto insert = [&](std::string key) {
    return [&store, key, &n] { PutNow(store, key, std::to_string(++n)); };
  };
  auto forward = Direction::kForward, backward = Direction::kBackward;
  auto conflict = ReadMode::kConflict;
  CHECK(RunsWhile(store, Scans(dir, 10, forward, conflict), insert("d/c")) == 2);
  CHECK(RunsWhile(store, Scans(dir, 10, forward, conflict), insert("d/z")) == 2);
  CHECK(RunsWhile(store, Scans(dir, 10, backward, conflict), insert("d/")) == 2);
  CHECK(RunsWhile(store, Scans(dir, 10, forward, conflict), insert("d0")) == 1);
  CHECK(RunsWhile(store, Scans(dir, 10, forward, conflict), insert("c")) == 1);
  CHECK(RunsWhile(store, Scans(dir, 10, forward, ReadMode::kSnapshot), insert("d/g")) == 1);
  // Now: d/ d/b d/c d/d d/f d/g d/h d/z. A limited scan stops at the last pair it returned.
  CHECK(RunsWhile(store, Scans(dir, 2, forward, conflict), insert("d/b")) == 2);
  CHECK(RunsWhile(store, Scans(dir, 2, forward, conflict), insert("d/a")) == 2);
  CHECK(RunsWhile(store, Scans(dir, 2, forward, conflict), insert("d/bb")) == 1);
  CHECK(RunsWhile(store, Scans(dir, 2, backward, conflict), insert("d/h")) == 2);
  CHECK(RunsWhile(store, Scans(dir, 2, backward, conflict), insert("d/i")) == 2);
  CHECK(RunsWhile(store, Scans(dir, 2, backward, conflict), insert("d/gg")) == 1);
  CHECK(RunsWhile(store, Scans({"y", ""}, 10, forward, conflict), insert("zz")) == 2);
}

TEST_CASE_TEMPLATE_DEFINE("atomic operations commute, and count as changes for readers", F,
                          conform_atomics) {
  F f;
  Store& store = f.Open(kFeedDefault);
  auto add = [](Transaction& txn) {
    txn.AtomicAdd("n", 5);
    return Status::Ok();
  };
  CHECK(RunsWhile(store, add, [&] { AddNow(store, "n", -2); }) == 1);
  CHECK(GetNow(store, "n") == Le64(3));
  auto max = [](Transaction& txn) {
    txn.AtomicMax("m", 9);
    return Status::Ok();
  };
  auto bigger = [&] {
    MustRun(store, [](Transaction& txn) {
      txn.AtomicMax("m", 12);
      return Status::Ok();
    });
  };
  CHECK(RunsWhile(store, max, bigger) == 1);
  CHECK(GetNow(store, "m") == Le64(12));
  CHECK(RunsWhile(store, Reads("n", ReadMode::kConflict), [&] { AddNow(store, "n", 1); }) == 2);
  // Below zero it wraps, as two's complement does.
  AddNow(store, "minus", -1);
  CHECK(GetNow(store, "minus") == Le64(~uint64_t{0}));
  MustRun(store, [](Transaction& txn) {
    txn.AtomicAdd("mixed", 4);
    txn.AtomicMax("mixed", 10);
    txn.AtomicAdd("mixed", 1);
    txn.Put("put", Le64(5));
    txn.AtomicAdd("put", 1);
    txn.AtomicAdd("dropped", 1);
    txn.Delete("dropped");
    txn.Delete("reborn");
    txn.AtomicMax("reborn", 2);
    return Status::Ok();
  });
  CHECK(GetNow(store, "mixed") == Le64(11));
  CHECK(GetNow(store, "put") == Le64(6));
  CHECK_FALSE(GetNow(store, "dropped").has_value());
  CHECK(GetNow(store, "reborn") == Le64(2));
  // After a plain write the operation starts from what was written.
  PutNow(store, "n", Le64(100));
  AddNow(store, "n", 1);
  CHECK(GetNow(store, "n") == Le64(101));
  PutNow(store, "text", "hello");
  CHECK(store
            .Run([](Transaction& txn) {
              txn.AtomicAdd("text", 1);
              return Status::Ok();
            })
            .status()
            .Is(Code::kCorrupt));
  CHECK(store
            .Run([](Transaction& txn) {
              txn.Put("t", "hello");
              txn.AtomicAdd("t", 1);
              return Status::Ok();
            })
            .status()
            .Is(Code::kInvalidArgument));
}

TEST_CASE_TEMPLATE_DEFINE("the limits refuse the commit whole", F, conform_limits) {
  F f;
  Store& store = f.Open(kFeedDefault);
  auto outcome = [&](const std::function<void(Transaction&)>& body) {
    return store
        .Run([&](Transaction& txn) {
          txn.Put("witness", "x");
          body(txn);
          return Status::Ok();
        })
        .status()
        .code();
  };
  std::string key_max(kKeyBytesMax, 'k'), value_max(kValueBytesMax, 'v');
  CHECK(outcome([&](Transaction& t) { t.Put(key_max + "k", ""); }) == Code::kTooLarge);
  CHECK(outcome([&](Transaction& t) { t.Put("v", value_max + "v"); }) == Code::kTooLarge);
  CHECK(outcome([&](Transaction& t) { t.AtomicAdd(key_max + "k", 1); }) == Code::kTooLarge);
  CHECK(outcome([&](Transaction& t) {
          for (int i = 0; i < 16; ++i) t.Put("big" + std::to_string(i), value_max);
        }) == Code::kTooLarge);
  CHECK(outcome([&](Transaction& t) { t.Emit(std::string(kTransactionBytesMax, 'e')); }) ==
        Code::kTooLarge);
  CHECK(outcome([&](Transaction& t) {
          for (size_t i = 0; i < kTransactionKeysMax; ++i) t.Put("many" + std::to_string(i), "");
        }) == Code::kTooLarge);
  CHECK(outcome([&](Transaction& t) { t.Put("", "empty key"); }) == Code::kInvalidArgument);
  CHECK(outcome([&](Transaction& t) { t.Put(std::string("A\0h", 3), "mine"); }) ==
        Code::kInvalidArgument);
  CHECK(outcome([&](Transaction& t) { t.Delete("Feed"); }) == Code::kInvalidArgument);
  CHECK_FALSE(GetNow(store, "witness").has_value());
  // At the limits all is well; rewriting a key counts once.
  CHECK(outcome([&](Transaction& t) {
          t.Put(key_max, "k");
          t.Put("v", value_max);
          for (int i = 0; i < 100; ++i) t.Put("v", value_max);
          for (size_t i = 3; i < kTransactionKeysMax; ++i) t.Put("many" + std::to_string(i), "");
        }) == Code::kOk);
  CHECK(GetNow(store, key_max) == "k");
  CHECK(GetNow(store, "v") == value_max);
  CHECK(ScanNow(store, PrefixRange("many"), 5000).size() == kTransactionKeysMax - 3);
}

TEST_CASE_TEMPLATE_DEFINE("keys compare as bytes across all owners, inline values included", F,
                          conform_order) {
  F f;
  Store& store = f.Open(kFeedDefault);
  std::vector<std::string> keys = {
      std::string("\0", 1),   "A",  "A\x01",     "AA", "E\xff", "G",    "W\xff\xff", "X",
      std::string("X\0a", 3), "Xb", "X\xff\xff", "Y",  "\x7f",  "\x80", "\xff\xff"};
  MustRun(store, [&](Transaction& txn) {
    for (auto key = keys.rbegin(); key != keys.rend(); ++key) txn.Put(*key, "value of " + *key);
    txn.Emit("hidden from scans");
    return Status::Ok();
  });
  auto check = [&](const std::vector<KeyValue>& pairs, std::vector<std::string> expected) {
    REQUIRE(pairs.size() == expected.size());
    for (size_t i = 0; i < pairs.size(); ++i) {
      CHECK(pairs[i].first == expected[i]);
      CHECK(pairs[i].second == "value of " + expected[i]);
    }
  };
  std::vector<std::string> reversed(keys.rbegin(), keys.rend());
  check(ScanNow(store, {"", ""}), keys);
  check(ScanNow(store, {"", ""}, 1000, Direction::kBackward), reversed);
  check(ScanNow(store, PrefixRange("X")), {"X", std::string("X\0a", 3), "Xb", "X\xff\xff"});
  check(ScanNow(store, {"W", "Xb"}), {"W\xff\xff", "X", std::string("X\0a", 3)});
  check(ScanNow(store, {"Xa", "Z"}, 2, Direction::kBackward), {"Y", "X\xff\xff"});
  check(ScanNow(store, PrefixRange("\xff")), {"\xff\xff"});
  for (const std::string& key : keys) CHECK(GetNow(store, key) == "value of " + key);
}

TEST_CASE_TEMPLATE_DEFINE("threads that count under conflicts lose no update", F, conform_threads) {
  F f;
  Store& store = f.Open(kFeedDefault);
  constexpr int kThreads = 4, kEach = 50;
  std::atomic<int> failures{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < kEach; ++i) {
        Result<Position> at = store.Run([&](Transaction& txn) -> Status {
          PERIGEE_ASSIGN(auto stored, txn.Get("count", ReadMode::kConflict));
          txn.Put("count", std::to_string(stored ? std::stoi(*stored) + 1 : 1));
          txn.AtomicAdd("atomic", 1);
          return Status::Ok();
        });
        bool ok = at.ok() && (i % 10 != 0 || store.WaitDurable(*at).ok());
        if (!ok) ++failures;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(failures == 0);
  CHECK(GetNow(store, "count") == std::to_string(kThreads * kEach));
  CHECK(GetNow(store, "atomic") == Le64(kThreads * kEach));
}

TEST_CASE_TEMPLATE_DEFINE("a transaction that loses every race ends in a conflict", F,
                          conform_starved) {
  F f;
  Store& store = f.Open(kFeedDefault);
  int runs = 0;
  Result<Position> at = store.Run([&](Transaction& txn) -> Status {
    PERIGEE_TRY(txn.Get("k", ReadMode::kConflict).status());
    PutNow(store, "k", std::to_string(++runs));
    txn.Put("k", "never");
    return Status::Ok();
  });
  CHECK(at.status().Is(Code::kConflict));
  CHECK(runs > 1);
  CHECK(GetNow(store, "k") == std::to_string(runs));
}

TEST_CASE_TEMPLATE_DEFINE("ids are never used twice, across reopening too", F, conform_ids) {
  F f;
  std::string counter = "A/ids";
  uint64_t last = 0;
  {
    IdAllocator ids(f.Open(kFeedDefault), counter, 10);
    for (int i = 0; i < 25; ++i) {
      Result<uint64_t> id = ids.Next();
      REQUIRE(id.ok());
      CHECK(*id == last + 1);  // ranges that join on leave no hole
      last = *id;
    }
    Result<uint64_t> range = ids.NextRange(100);
    REQUIRE(range.ok());
    CHECK(*range > last);
    last = *range + 99;
    CHECK(ids.NextRange(0).status().Is(Code::kInvalidArgument));
  }
  Store& store = f.Reopen();
  IdAllocator one(store, counter, 10), two(store, counter, 10);
  std::vector<uint64_t> seen;
  for (int i = 0; i < 15; ++i) {
    for (IdAllocator* ids : {&one, &two}) {
      Result<uint64_t> id = ids->Next();
      REQUIRE(id.ok());
      CHECK(*id > last);
      seen.push_back(*id);
    }
  }
  std::sort(seen.begin(), seen.end());
  CHECK(std::adjacent_find(seen.begin(), seen.end()) == seen.end());

  PutNow(store, counter, Le64(~uint64_t{0} - 3));
  IdAllocator end(store, counter, 10);
  CHECK(end.Next().status().Is(Code::kNoSpace));
}

}  // namespace perigee::objectd::kv::testing

#include "tests/objectd/kv/feed_conformance.h"
#include "tests/objectd/kv/model_conformance.h"

#define PERIGEE_STORE_CONFORMANCE(F)                   \
  TEST_CASE_TEMPLATE_INVOKE(conform_commit, F);        \
  TEST_CASE_TEMPLATE_INVOKE(conform_snapshot, F);      \
  TEST_CASE_TEMPLATE_INVOKE(conform_own_writes, F);    \
  TEST_CASE_TEMPLATE_INVOKE(conform_key_conflicts, F); \
  TEST_CASE_TEMPLATE_INVOKE(conform_phantoms, F);      \
  TEST_CASE_TEMPLATE_INVOKE(conform_atomics, F);       \
  TEST_CASE_TEMPLATE_INVOKE(conform_limits, F);        \
  TEST_CASE_TEMPLATE_INVOKE(conform_order, F);         \
  TEST_CASE_TEMPLATE_INVOKE(conform_threads, F);       \
  TEST_CASE_TEMPLATE_INVOKE(conform_starved, F);       \
  TEST_CASE_TEMPLATE_INVOKE(conform_ids, F);           \
  TEST_CASE_TEMPLATE_INVOKE(conform_feed_order, F);    \
  TEST_CASE_TEMPLATE_INVOKE(conform_feed_trimming, F); \
  TEST_CASE_TEMPLATE_INVOKE(conform_watermarks, F);    \
  TEST_CASE_TEMPLATE_INVOKE(conform_wait_feed, F);     \
  TEST_CASE_TEMPLATE_INVOKE(conform_feed_reopen, F);   \
  TEST_CASE_TEMPLATE_INVOKE(conform_model, F)
