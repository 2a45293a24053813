#pragma once
// DriveOpener: finds and opens the drives of a process, each on a thread of its own: a device may
// hang.
//
// One that answers nothing while most of the others have answered is left behind. What was asked of
// it goes on, and keeps its thread; Return looks whether it came to something. Where many are
// silent it is the machine: all are waited for. In memory everything runs on the caller's thread (a
// simulation has one at a time). Not thread-safe, but for Silent. Blocks; the destructor waits for
// what was begun.

#include <future>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "objectd/drive/drive.h"
#include "objectd/drive/superblock.h"

namespace perigee::objectd {

// With a device, after most of the others have answered.
struct DrivePatience {
  Nanos superblock = 10 * kSecond;
  Nanos open = 30 * kSecond;  // an index may have to catch up with its segments
  Nanos again = kSecond;      // with one alone
};

class DriveOpener {
 public:
  struct Wanted {
    std::string dir;  // one for each; empty: none is known
    uint64_t drive_id = 0;
    uint64_t cluster_id = 0;
  };
  // kNotFound: not the wanted drive, as told.
  using Opened = Result<std::unique_ptr<Drive>>;

  DriveOpener(DriveOptions options, DriveDeps deps, DrivePatience patience)
      : options_(options), deps_(deps), patience_(patience) {}

  // By directory; without those that are silent.
  std::map<std::string, Result<Superblock>> Superblocks(const std::vector<std::string>& dirs);
  // In order; nothing: it is silent, or was.
  std::vector<std::optional<Opened>> Open(const std::vector<Wanted>& wanted);
  // One that was lost, or silent: as above.
  std::optional<Opened> Return(const Wanted& wanted);
  // Something that was asked of the drive there has not been answered yet.
  bool Silent(const std::string& dir) const;

 private:
  template <class T>
  using Calls = std::map<std::string, std::future<T>>;

  template <class Fn>
  auto Begin(Fn fn) const {
    return std::async(deps_.disk->engine() == "memory" && !deps_.watch ? std::launch::deferred
                                                                       : std::launch::async,
                      std::move(fn));
  }
  template <class T>
  void AwaitMost(Calls<T>& calls, Nanos patience) const;
  std::future<Opened> BeginOpen(const Wanted& wanted) const;
  void LeaveBehind(const std::string& dir) const;

  const DriveOptions options_;
  const DriveDeps deps_;
  const DrivePatience patience_;
  mutable std::mutex mu_;  // guards which calls there are
  Calls<Result<Superblock>> superblocks_;
  Calls<Opened> opening_;
};

// What to say of a drive that could not be had.
inline constexpr char kSilentDrive[] = "its device does not answer";

}  // namespace perigee::objectd
