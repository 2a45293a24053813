#include "bufferd/budget.h"

#include "base/log.h"
#include "tiers/flush/evict_policy.h"

namespace perigee::bufferd {

Result<std::unique_ptr<Budget>> Budget::Create(Core& core, BudgetOptions options,
                                               std::function<void()> make_room) {
  PERIGEE_ASSIGN(SpaceInfo space, core.store->Space());
  if (options.budget_bytes == 0) options.budget_bytes = space.total_bytes / 5 * 4;
  if (options.reserve_bytes == 0)
    options.reserve_bytes = std::min<uint64_t>(1 << 30, space.total_bytes / 20);
  std::unique_ptr<Budget> budget(new Budget(core, options, std::move(make_room)));
  PERIGEE_TRY(budget->Poll());
  return budget;
}

Status Budget::Poll() {
  for (const FilePtr& file : core_.table->All()) {
    {
      std::lock_guard lock(file->mu);
      if (file->gone || (!file->Unsealed() && file->fills_in_flight == 0)) continue;
    }
    auto open = core_.store->Open(file->dir, file->burst, OpenMode::kRead);
    if (!open.ok()) {
      open.status().Ignore();  // evicted in between
      continue;
    }
    PERIGEE_ASSIGN(FileStat stat, StoreDir::Stat(**open));
    std::lock_guard lock(file->mu);
    if (!file->gone) file->SetAllocated(stat.allocated);
  }
  PERIGEE_ASSIGN(SpaceInfo space, core_.store->Space());
  free_ = space.free_bytes;
  short_ =
      space.free_bytes < options_.reserve_bytes ? options_.reserve_bytes - space.free_bytes : 0;
  bool low = short_ != 0 || used_bytes() > options_.budget_bytes;
  if (low_.exchange(low) != low) {
    log::Warn(low ? "burst_space_low" : "burst_space_enough",
              {{"used", used_bytes()},
               {"budget", options_.budget_bytes},
               {"free", space.free_bytes},
               {"reserve", options_.reserve_bytes}});
  }
  auto marks = tiers::WatermarksOf(options_.budget_bytes);
  if (tiers::BytesToEvict(used_bytes(), marks, short_) > 0) make_room_();
  return Status::Ok();
}

// A quarter of the reserve is left to the file system itself and to the journal.
bool Budget::Fits(uint64_t bytes) const {
  return used_bytes() + bytes <= options_.budget_bytes &&
         free_ >= bytes + options_.reserve_bytes / 4;
}

uint64_t Budget::ShortBytes() const {
  uint64_t waiting = waiting_;
  if (waiting == 0) return short_;
  uint64_t wanted = used_bytes() + waiting;
  return std::max<uint64_t>(short_,
                            wanted > options_.budget_bytes ? wanted - options_.budget_bytes : 0);
}

Status Budget::Admit(uint64_t bytes, Nanos deadline) {
  if (Fits(bytes)) return Status::Ok();
  waiting_ += bytes;
  Status admitted = WaitForRoom(bytes, deadline);
  waiting_ -= bytes;
  return admitted;
}

Status Budget::WaitForRoom(uint64_t bytes, Nanos deadline) {
  while (true) {
    PERIGEE_TRY(Poll());
    if (Fits(bytes)) return Status::Ok();
    // Whoever makes room tells; being asked is no progress, else this would spin.
    make_room_();
    Nanos left = deadline - core_.clock->Monotonic();
    if (left <= 0 || core_.stopping) {
      return Status(Code::kNoSpace, "burst buffer is full: " + std::to_string(used_bytes()) +
                                        " of " + std::to_string(options_.budget_bytes) +
                                        " bytes used, " + std::to_string(free_) +
                                        " free on the file system");
    }
    core_.table->WaitProgress(std::min<Nanos>(left, 100 * kMillisecond));
  }
}

}  // namespace perigee::bufferd
