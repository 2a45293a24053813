#pragma once
// Store conformance: random transactions against std::map. Included by store_conformance.h.
// RapidCheck prints the seed of a failure and shrinks it.

#include <rapidcheck.h>

#include <map>
#include <string>
#include <vector>

#include "tests/objectd/kv/store_conformance.h"

namespace perigee::objectd::kv::testing {

struct ModelOp {
  uint8_t kind;   // see Apply
  uint8_t key;    // index into ModelKey
  uint8_t other;  // end of a scan, or a value
};

// Keys on both sides of every border inside the engine, with short common prefixes.
inline std::string ModelKey(uint8_t n) {
  static const char* const kFirst[] = {"A", "E", "G", "W", "X", "Y"};
  std::string key = kFirst[n % 6];
  for (uint8_t left = n / 6 % 8; left != 0; left /= 2) key += left % 2 ? 'a' : 'b';
  return key;
}

using Model = std::map<std::string, std::string>;

inline void ModelAdd(Model& model, const std::string& key, uint64_t by, bool max) {
  uint64_t value = model.contains(key) ? GetLe<uint64_t>(AsBytes(model[key]).data()) : 0;
  model[key] = Le64(max ? std::max(value, by) : value + by);
}

inline std::vector<KeyValue> ModelScan(const Model& model, const Range& range, size_t limit,
                                       bool forward) {
  std::vector<KeyValue> out;
  if (!range.end.empty() && range.end <= range.begin) return out;
  auto begin = model.lower_bound(range.begin);
  auto end = range.end.empty() ? model.end() : model.lower_bound(range.end);
  std::vector<KeyValue> all(begin, end);
  if (!forward) std::reverse(all.begin(), all.end());
  all.resize(std::min(all.size(), limit));
  return all;
}

// Does one operation to both; values are 8 bytes throughout, so that atomic operations fit
// anywhere.
inline void Apply(const ModelOp& op, Transaction& txn, Model& model) {
  std::string key = ModelKey(op.key);
  switch (op.kind % 7) {
    case 0:
      txn.Put(key, Le64(op.other));
      model[key] = Le64(op.other);
      return;
    case 1:
      txn.Delete(key);
      model.erase(key);
      return;
    case 2:
    case 3: {
      bool max = op.kind % 7 == 3;
      max ? txn.AtomicMax(key, op.other) : txn.AtomicAdd(key, op.other);
      ModelAdd(model, key, op.other, max);
      return;
    }
    case 4: {
      auto got = txn.Get(key, ReadMode::kConflict);
      RC_ASSERT(got.ok());
      RC_ASSERT(got->has_value() == model.contains(key));
      if (got->has_value()) RC_ASSERT(**got == model[key]);
      return;
    }
    default: {
      bool forward = op.kind % 7 == 5;
      Range range{key, op.other % 5 == 0 ? "" : ModelKey(op.other)};
      size_t limit = 1 + op.other % 9;
      auto got = txn.Scan(range, limit, forward ? Direction::kForward : Direction::kBackward,
                          ReadMode::kConflict);
      RC_ASSERT(got.ok());
      RC_ASSERT(*got == ModelScan(model, range, limit, forward));
      return;
    }
  }
}

}  // namespace perigee::objectd::kv::testing

namespace rc {
template <>
struct Arbitrary<perigee::objectd::kv::testing::ModelOp> {
  static Gen<perigee::objectd::kv::testing::ModelOp> arbitrary() {
    using perigee::objectd::kv::testing::ModelOp;
    return gen::build<ModelOp>(gen::set(&ModelOp::kind), gen::set(&ModelOp::key),
                               gen::set(&ModelOp::other));
  }
};
inline void showValue(const perigee::objectd::kv::testing::ModelOp& op, std::ostream& os) {
  os << int{op.kind} << ":" << int{op.key} << ":" << int{op.other};
}
}  // namespace rc

namespace perigee::objectd::kv::testing {

TEST_CASE_TEMPLATE_DEFINE("random transactions leave what a sorted map has", F, conform_model) {
  // Transactions of a few operations each; every third fails and must leave nothing; now and then a
  // restart.
  F f;
  Store* store = &f.Open(kFeedDefault);
  int n = 0;
  bool held = rc::check([&] {
    const auto transactions =
        *rc::gen::resize(F::kModelSize, rc::gen::arbitrary<std::vector<std::vector<ModelOp>>>());
    MustRun(*store, [](Transaction& txn) -> Status {
      PERIGEE_ASSIGN(auto left, txn.Scan({"", ""}, kTransactionKeysMax, Direction::kForward,
                                         ReadMode::kConflict));
      for (const auto& [key, value] : left) txn.Delete(key);
      return Status::Ok();
    });
    Model model;
    for (const auto& ops : transactions) {
      if (++n % 7 == 0) {
        RC_ASSERT(store->WaitDurable(store->VisiblePosition()).ok());
        if (n % 490 == 0) store = &f.Reopen();
      }
      Model after = model;
      bool fails = n % 3 == 0;
      Status st = store
                      ->Run([&](Transaction& txn) {
                        after = model;
                        for (const ModelOp& op : ops) Apply(op, txn, after);
                        return fails ? Status(Code::kCancelled, "on purpose") : Status::Ok();
                      })
                      .status();
      RC_ASSERT(st.Is(fails ? Code::kCancelled : Code::kOk));
      if (!fails) model = after;
    }
    std::vector<KeyValue> expected(model.begin(), model.end());
    RC_ASSERT(ScanNow(*store, {"", ""}) == expected);
  });
  CHECK(held);
}

}  // namespace perigee::objectd::kv::testing
