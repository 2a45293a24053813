#pragma once
// A Store that does something else between what a closure read and its commit: the races of tests,
// without threads.

#include <functional>
#include <utility>

#include "objectd/kv/store.h"

namespace perigee::objectd::test {

class HookStore final : public kv::Store {
 public:
  explicit HookStore(kv::Store& inner) : inner_(inner) {}
  // Runs the hook once, between the next closure and its commit (`skip`: that many closures later).
  // `runs` counts closures from now on.
  void Arm(std::function<void()> hook, int skip = 0) {
    hook_ = std::move(hook);
    skip_ = skip;
    runs = 0;
  }
  // The same between the next closure's snapshot and all that it does.
  void ArmBefore(std::function<void()> hook) { before_ = std::move(hook); }
  int runs = 0;

  Result<kv::Position> Run(const Closure& closure) override {
    return inner_.Run([&](kv::Transaction& txn) -> Status {
      if (before_) std::exchange(before_, nullptr)();
      Status outcome = closure(txn);
      ++runs;
      if (hook_ && runs > skip_) std::exchange(hook_, nullptr)();
      return outcome;
    });
  }
  Status WaitDurable(kv::Position position) override { return inner_.WaitDurable(position); }
  kv::Position VisiblePosition() override { return inner_.VisiblePosition(); }
  kv::Position DurablePosition() override { return inner_.DurablePosition(); }
  Result<kv::FeedPage> ReadFeed(kv::Position after, size_t limit) override {
    return inner_.ReadFeed(after, limit);
  }
  bool WaitFeed(kv::Position visible, kv::Position durable, Nanos timeout) override {
    return inner_.WaitFeed(visible, durable, timeout);
  }
  void EndFeedWaits() override { inner_.EndFeedWaits(); }

 private:
  kv::Store& inner_;
  std::function<void()> hook_, before_;
  int skip_ = 0;
};

}  // namespace perigee::objectd::test
