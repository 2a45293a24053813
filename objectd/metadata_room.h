#pragma once
// MetadataRoom: whether the namespace may grow. Its mirrors share drives with segments, which leave
// a reserve free for them; when half of that is gone nothing new is made, so that the other half is
// there for what makes room: deletes, their log and its compaction. A mirror that hits the end of
// its file system would be ejected, and without mirrors the store is down. Thread-safe.

#include <functional>
#include <mutex>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/disk.h"

namespace perigee::objectd {

class MetadataRoom {
 public:
  // dirs: where the mirrors are now.
  MetadataRoom(Disk& disk, std::function<std::vector<std::string>()> dirs)
      : disk_(disk), dirs_(std::move(dirs)) {}
  // kNoSpace names the directory. Asks the file systems ten times a second at most.
  Status Check();

 private:
  std::string Look() const;  // what is wrong; "" when there is room

  Disk& disk_;
  const std::function<std::vector<std::string>()> dirs_;
  std::mutex mu_;  // guards the two below
  Nanos looked_ = 0;
  std::string full_;
};

}  // namespace perigee::objectd
