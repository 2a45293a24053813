#include "objectd/drive/drive_watch.h"

#include <algorithm>
#include <utility>

namespace perigee::objectd {

void DriveWatch::Start() {
  std::lock_guard lock(mu_);
  thread_ = CreateThreadPool({.name = "drive-watch", .threads = 1});
  looked_ = thread_->clock().Monotonic();
  thread_->PostAfter(kLookEvery, [this] { LookAgain(); });
}

void DriveWatch::Stop() {
  if (thread_) thread_->Stop();
}

void DriveWatch::LookAgain() {
  const Nanos now = thread_->clock().Monotonic();
  Look(std::min(now - std::exchange(looked_, now), 2 * kLookEvery));
  thread_->PostAfter(kLookEvery, [this] { LookAgain(); });
}

void DriveWatch::Add(Watched* drive) {
  std::lock_guard lock(mu_);
  drives_[drive] = {};
}

void DriveWatch::Remove(Watched* drive) {
  std::lock_guard lock(mu_);
  drives_.erase(drive);
}

void DriveWatch::Look(Nanos passed) {
  std::lock_guard lock(mu_);
  size_t late = 0, alive = 0;
  for (auto& [drive, state] : drives_) {
    const uint64_t oldest = drive->OldestCall();
    state.waited = oldest != 0 && oldest == state.oldest ? state.waited + passed : 0;
    state.oldest = oldest;
    if (state.told == Answers::kNever) continue;
    ++alive;
    if (state.waited >= kLagsAfter) ++late;
  }
  const bool theirs = late < alive && late <= std::max<size_t>(alive / 3, 1);
  const bool of_node = which_ == Drives::kOfOneNode;
  for (auto& [drive, state] : drives_) {
    Answers now = Answers::kSoon;
    if (state.told == Answers::kNever)
      now = state.oldest == 0 ? Answers::kSoon : Answers::kNever;
    else if ((theirs && state.waited >= kHangsAfter) ||
             (of_node && state.waited >= kNodeHangsAfter))
      now = Answers::kNever;
    else if (theirs && state.waited >= kLagsAfter)
      now = Answers::kLate;
    if (std::exchange(state.told, now) != now) drive->Became(now);
  }
}

}  // namespace perigee::objectd
