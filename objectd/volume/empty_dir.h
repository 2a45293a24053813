#pragma once
// May a directory be formatted? Only one that is absent or holds nothing. Blocks.

#include <string>

#include "base/disk.h"
#include "base/status.h"

namespace perigee::objectd {

// Without trailing slashes, so that one directory has one spelling in messages and files.
std::string CleanPath(std::string path);
// ok: absent, or empty but for lost+found and what a format that was cut off left there.
// kPreconditionFailed says what is in the way.
Status CheckFormattable(Disk& disk, const std::string& dir);
// Removes what is below `dir`, which stays. ok when it is absent.
Status ClearTree(Disk& disk, const std::string& dir);

}  // namespace perigee::objectd
