#pragma once
// DirectoryAttributes: what stat(2) says of a directory, for as long as the kernel may keep it.
//
// The kernel forgets them with every name that this mount makes there, and asks again when it next
// checks a permission. Of a new file only the times differ, and they are the file's own; after
// other changes bufferd is asked. What others change is seen as late as the kernel would see it.
// Thread-safe.

#include <sys/stat.h>

#include <mutex>
#include <optional>

#include "base/clock.h"
#include "rdma/wire/record.h"

namespace perigee::fuse {

class DirectoryAttributes {
 public:
  struct Asked {
    Nanos at = 0;
    uint64_t changes = 0;
  };
  struct Answer {
    struct stat st;
    Nanos valid;  // for so long from now on
  };
  explicit DirectoryAttributes(Clock& clock = RealClock::Get()) : clock_(clock) {}

  std::optional<Answer> Get() const;
  // Before bufferd is asked; and what it said, good for `keep` from then.
  Asked Ask() const;
  void Learn(const Asked& asked, const struct stat& st, Nanos keep);
  // This mount made `file` in it; it changed the directory, or names in it, in any other way.
  void Created(const wire::Record& file);
  void Changed();

 private:
  Clock& clock_;
  mutable std::mutex mu_;  // guards what follows
  uint64_t changes_ = 0;
  Nanos until_ = 0;
  struct stat st_ {};
};

}  // namespace perigee::fuse
