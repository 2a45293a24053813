#include "client/blob/drive_pace.h"

#include <algorithm>
#include <vector>

#include "base/bytes.h"
#include "base/log.h"

namespace perigee::client {

namespace {
constexpr Nanos kPatienceOfUsual = 4;
constexpr uint64_t kReadsBetweenMedians = 16;
// For how long a drive is read around: a try every now and then must not cost much.
constexpr Nanos kSlowOfTook = 10;
constexpr Nanos kSlowMax = 10 * kSecond;
}  // namespace

void DrivePace::Post(uint64_t drive, Task read) {
  {
    std::lock_guard lock(mu_);
    Drive& d = drives_[drive];
    if (d.posted >= kReadsMax) {
      d.waiting.push_back(std::move(read));
      return;
    }
    ++d.posted;
  }
  Start(drive, std::move(read));
}

// It is counted as posted.
void DrivePace::Start(uint64_t drive, Task read) {
  auto run = [self = shared_from_this(), drive, read = std::move(read)] { self->Run(drive, read); };
  if (!pool_->Post(run).ok()) run();
}

void DrivePace::Run(uint64_t drive, const Task& read) {
  const Nanos begun = clock_->Monotonic();
  {
    std::lock_guard lock(mu_);
    drives_[drive].begun.insert(begun);
  }
  read();
  const Nanos now = clock_->Monotonic();
  Task next;
  {
    std::lock_guard lock(mu_);
    Drive& d = drives_[drive];
    d.begun.erase(d.begun.find(begun));
    if (now - begun >= patience_) MarkSlow(drive, d, now, now - begun);
    Learn(d, now - begun);
    if (d.waiting.empty()) {
      --d.posted;
    } else {
      next = std::move(d.waiting.front());
      d.waiting.pop_front();
    }
  }
  if (next) Start(drive, std::move(next));
}

void DrivePace::Learn(Drive& drive, Nanos took) {
  drive.usual =
      drive.usual == 0 ? std::max<Nanos>(took, 1) : drive.usual + (took - drive.usual) / 8;
  if (learnt_++ % kReadsBetweenMedians != 0) return;
  std::vector<Nanos> usual;
  for (const auto& [id, d] : drives_)
    if (d.usual > 0) usual.push_back(d.usual);
  auto median = usual.begin() + static_cast<ptrdiff_t>(usual.size() / 2);
  std::nth_element(usual.begin(), median, usual.end());
  patience_ = std::clamp(*median * kPatienceOfUsual, kPatienceMin, kPatienceMax);
}

void DrivePace::MarkSlow(uint64_t id, Drive& drive, Nanos now, Nanos took) {
  if (now >= drive.slow_until)
    log::Warn("drive_slow", {{"drive", HexEncode64(id)},
                             {"took_ms", took / kMillisecond},
                             {"waited_for_ms", patience_ / kMillisecond},
                             {"remedy",
                              "what is on it is computed from the others meanwhile; look "
                              "at the drive, or its node's network, if this goes on"}});
  drive.slow_until = now + std::min(took * kSlowOfTook, kSlowMax);
}

bool DrivePace::Slow(uint64_t drive) {
  const Nanos now = clock_->Monotonic();
  std::lock_guard lock(mu_);
  auto found = drives_.find(drive);
  if (found == drives_.end()) return false;
  Drive& d = found->second;
  if (!d.begun.empty() && now - *d.begun.begin() >= patience_)
    MarkSlow(drive, d, now, now - *d.begun.begin());
  return now < d.slow_until;
}

Nanos DrivePace::Patience() const {
  std::lock_guard lock(mu_);
  return patience_;
}

}  // namespace perigee::client
