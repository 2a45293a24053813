#include "fuse/directory_attributes.h"

#include <tuple>

#include "fuse/attributes.h"

namespace perigee::fuse {

static bool Before(const timespec& a, const timespec& b) {
  return std::tie(a.tv_sec, a.tv_nsec) < std::tie(b.tv_sec, b.tv_nsec);
}

std::optional<DirectoryAttributes::Answer> DirectoryAttributes::Get() const {
  std::lock_guard lock(mu_);
  const Nanos left = until_ - clock_.Monotonic();
  if (left <= 0) return std::nullopt;
  return Answer{st_, left};
}

DirectoryAttributes::Asked DirectoryAttributes::Ask() const {
  std::lock_guard lock(mu_);
  return {clock_.Monotonic(), changes_};
}

void DirectoryAttributes::Learn(const Asked& asked, const struct stat& st, Nanos keep) {
  std::lock_guard lock(mu_);
  if (asked.changes != changes_) return;  // said before or after the change: nobody knows
  st_ = st;
  until_ = asked.at + keep;
}

void DirectoryAttributes::Created(const wire::Record& file) {
  const struct stat made = StatOf(file);
  std::lock_guard lock(mu_);
  ++changes_;
  if (Before(st_.st_mtim, made.st_ctim)) st_.st_mtim = made.st_ctim;
  if (Before(st_.st_ctim, made.st_ctim)) st_.st_ctim = made.st_ctim;
}

void DirectoryAttributes::Changed() {
  std::lock_guard lock(mu_);
  ++changes_;
  until_ = 0;
}

}  // namespace perigee::fuse
