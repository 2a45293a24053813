#include "objectd/volume/drive_opener.h"

#include <algorithm>

#include "base/log.h"

namespace perigee::objectd {
namespace {

constexpr Nanos kLookEvery = 20 * kMillisecond;

template <class T>
bool Answered(std::future<T>& call, Nanos within) {
  return call.wait_for(std::chrono::nanoseconds(within)) != std::future_status::timeout;
}

DriveOpener::Opened OpenWanted(const DriveOpener::Wanted& wanted, const DriveOptions& options,
                               const DriveDeps& deps) {
  auto superblock = ReadSuperblock(*deps.disk, wanted.dir);
  if (!superblock.ok()) {
    return Status(Code::kNotFound, superblock.code() == Code::kNotFound
                                       ? "the directory holds no drive"
                                       : superblock.status().message());
  }
  if (superblock->drive_id != wanted.drive_id || superblock->cluster_id != wanted.cluster_id)
    return Status(Code::kNotFound, "another drive is there");
  return Drive::Open(wanted.dir, wanted.cluster_id, options, deps);
}

}  // namespace

// Until all have answered, or those that have not let the others wait for too long. As DriveWatch:
// a third at most, or one of two.
template <class T>
void DriveOpener::AwaitMost(Calls<T>& calls, Nanos patience) const {
  std::optional<Nanos> since;
  while (true) {
    size_t silent = 0;
    std::future<T>* first = nullptr;
    for (auto& [dir, call] : calls) {
      if (Answered(call, 0)) continue;
      if (silent++ == 0) first = &call;
    }
    if (silent == 0) return;
    const Nanos now = RealClock::Get().Monotonic();
    if (silent < calls.size() && silent <= std::max<size_t>(calls.size() / 3, 1)) {
      if (!since) since = now;
      if (now - *since >= patience) return;
    } else {
      since.reset();
    }
    (void)Answered(*first, kLookEvery);
  }
}

void DriveOpener::LeaveBehind(const std::string& dir) const {
  log::Error("drive_silent",
             {{"dir", dir},
              {"effect", "left out; it is back when its device answers"},
              {"remedy", "have the device answer or fail; then perigee drive replace " + dir}});
}

std::map<std::string, Result<Superblock>> DriveOpener::Superblocks(
    const std::vector<std::string>& dirs) {
  Calls<Result<Superblock>> calls;
  for (const std::string& dir : dirs)
    calls[dir] = Begin([disk = deps_.disk, dir] { return ReadSuperblock(*disk, dir); });
  AwaitMost(calls, patience_.superblock);
  std::map<std::string, Result<Superblock>> found;
  std::lock_guard lock(mu_);
  for (auto& [dir, call] : calls) {
    if (Answered(call, 0)) {
      found.emplace(dir, call.get());
      continue;
    }
    LeaveBehind(dir);
    superblocks_[dir] = std::move(call);
  }
  return found;
}

std::future<DriveOpener::Opened> DriveOpener::BeginOpen(const Wanted& wanted) const {
  return Begin(
      [wanted, options = options_, deps = deps_] { return OpenWanted(wanted, options, deps); });
}

std::vector<std::optional<DriveOpener::Opened>> DriveOpener::Open(
    const std::vector<Wanted>& wanted) {
  Calls<Opened> calls;
  for (const Wanted& one : wanted)
    if (!one.dir.empty() && !Silent(one.dir)) calls[one.dir] = BeginOpen(one);
  AwaitMost(calls, patience_.open);
  std::vector<std::optional<Opened>> opened(wanted.size());
  std::lock_guard lock(mu_);
  for (size_t i = 0; i < wanted.size(); ++i) {
    auto call = calls.find(wanted[i].dir);
    if (wanted[i].dir.empty()) opened[i] = Status(Code::kNotFound, "it has no directory");
    if (call == calls.end()) continue;
    if (Answered(call->second, 0)) {
      opened[i] = call->second.get();
      continue;
    }
    LeaveBehind(wanted[i].dir);
    opening_[wanted[i].dir] = std::move(call->second);
  }
  return opened;
}

std::optional<DriveOpener::Opened> DriveOpener::Return(const Wanted& wanted) {
  std::future<Opened> call;
  {
    std::lock_guard lock(mu_);
    if (auto asked = superblocks_.find(wanted.dir); asked != superblocks_.end()) {
      if (!Answered(asked->second, 0)) return std::nullopt;
      asked->second.get().status().Ignore();  // looked at again
      superblocks_.erase(asked);
    }
    auto begun = opening_.find(wanted.dir);
    call = begun == opening_.end() ? BeginOpen(wanted) : std::move(begun->second);
    if (begun != opening_.end()) opening_.erase(begun);
  }
  if (Answered(call, patience_.again)) return call.get();
  std::lock_guard lock(mu_);
  opening_[wanted.dir] = std::move(call);
  return std::nullopt;
}

bool DriveOpener::Silent(const std::string& dir) const {
  std::lock_guard lock(mu_);
  return superblocks_.contains(dir) || opening_.contains(dir);
}

}  // namespace perigee::objectd
