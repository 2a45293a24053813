#include "objectd/memory_plan.h"

#include <algorithm>

namespace perigee::objectd {
namespace {

constexpr uint64_t kMiB = 1 << 20;
constexpr uint64_t kRest = 40 * kMiB;  // 28 MiB idle; 10,000 connections and threads at work

constexpr MemoryPlan Divide(uint64_t limit, size_t drives) {
  MemoryPlan plan;
  plan.store = std::clamp(limit / 7, 12 * kMiB, 2048 * kMiB);
  plan.index_per_drive = std::clamp(limit / 8 / drives, 2 * kMiB, 16 * kMiB);
  const uint64_t taken = kRest + plan.store + plan.index_per_drive * drives;
  // With many drives and little memory the limit does not hold: below this nothing would move.
  const uint64_t left = std::max(limit - std::min(limit, taken), 48 * kMiB);
  plan.s3_documents = left / 10;
  plan.s3_bodies = left * 3 / 10;
  plan.transfers = left - plan.s3_documents - plan.s3_bodies;
  return plan;
}

constexpr bool Fits(uint64_t limit, size_t drives) {
  const MemoryPlan plan = Divide(limit, drives);
  return kRest + plan.store + plan.index_per_drive * drives + plan.s3_documents + plan.s3_bodies +
             plan.transfers <=
         limit;
}
static_assert(Fits(kMemoryLeast, 1) && Fits(kMemoryLeast, 10) && Fits(512 * kMiB, 6) &&
              Fits(512 * kMiB, 64) && Fits(4096 * kMiB, 24));

}  // namespace

MemoryPlan PlanMemory(uint64_t limit, size_t drives) { return Divide(limit, drives); }

}  // namespace perigee::objectd
