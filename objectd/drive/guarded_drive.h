#pragma once
// GuardedDrive: a drive of this process whose hanging costs its callers little.
//
// Calls run on threads of the drive's own, and callers wait for them until the watch says that the
// drive hangs: then they get kUnavailable, as from an offline drive, and what was not begun is not
// done. What was begun may still end, in any way. The drive is offline until it has ended all of
// it. Space and StoredSuperblock wait for a second only, and fail while it lags. Foreground reads
// run on their callers' threads, kReadsMax at a time; while the drive lags, those beyond fail, so
// that they are made up for by other drives.
//
// WriteShard returns before the device is done with the bytes only where `owner` keeps them.
// Thread-safe; blocks. Stop and destruction wait for the device.

#include <memory>

#include "objectd/drive/drive.h"
#include "objectd/drive/drive_watch.h"

namespace perigee::objectd {

inline constexpr uint32_t kGuardedReadsMax = 8;

std::unique_ptr<Drive> GuardDrive(std::unique_ptr<Drive> drive, std::shared_ptr<DriveWatch> watch);

}  // namespace perigee::objectd
