#pragma once
// Evictor: drops clean burst files, by unlink only, when the budget asks (used longest ago first)
// or on command. What is not in the object tier, pinned, open for writing, or being fetched stays.
// Readers of a whole file keep their descriptors; its space comes back when the last is closed.
// Thread-safe.

#include <string>

#include "bufferd/budget.h"
#include "bufferd/core.h"

namespace perigee::bufferd {

class Evictor {
 public:
  explicit Evictor(Core& core) : core_(core) {}
  void SetBudget(Budget* budget) { budget_ = budget; }  // before Start
  // Evicts in the background until below the low watermark.
  void Wake();
  // False, and why, when it has to stay.
  bool Evict(const FilePtr& file, std::string* why);

 private:
  void Run();

  Core& core_;
  Budget* budget_ = nullptr;
  std::atomic<bool> armed_{false};
};

}  // namespace perigee::bufferd
