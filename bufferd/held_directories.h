#pragma once
// HeldDirectories: the directories that objectd lets this node hold (kMetaHoldDirectory), with the
// names that may be in each: what is not among them is not there. And which directories are worth
// asking for. Its owner guards it by a lock.

#include <string>
#include <unordered_map>
#include <unordered_set>

#include "base/clock.h"
#include "rdma/wire/meta.h"

namespace perigee::bufferd {

struct HeldDirectory {
  uint64_t number = 0;  // of this time that it is held
  bool asked = true;    // for, and its names are being learnt: nothing is answered from it
  wire::Record record;  // as it was granted; times of the last change here
  std::string path;     // "bucket/a/b"
  std::unordered_set<std::string> names;
  Nanos used = 0;  // last
  // Files made here, and calls that had to wait until objectd was told of one.
  uint64_t made = 0, waited = 0;
};

class HeldDirectories {
 public:
  static constexpr size_t kDirsMax = 32;
  static constexpr size_t kNamesMax = 1 << 18;  // of all directories together
  static constexpr int kCreatesInARow = 8;      // within kRow
  static constexpr Nanos kRow = 10 * kSecond;
  static constexpr Nanos kBarred = 10 * kSecond;          // one that was not worth it
  static constexpr Nanos kBarredTooMany = 600 * kSecond;  // learning its names costs too much

  bool empty() const { return held_.empty(); }
  // Held, and its names known; null otherwise.
  HeldDirectory* Find(wire::FileId dir) {
    HeldDirectory* held = FindAny(dir);
    return held && !held->asked ? held : nullptr;
  }
  HeldDirectory* FindAny(wire::FileId dir) {
    auto it = held_.find(dir);
    return it == held_.end() ? nullptr : &it->second;
  }
  std::unordered_map<wire::FileId, HeldDirectory>& all() { return held_; }

  // objectd made a file there for this node. Not null: it is worth holding, and to be asked for.
  HeldDirectory* CountCreate(wire::FileId dir, Nanos now);
  // False: too many; the directory is then to be given up.
  bool AddName(HeldDirectory* held, const std::string& name);
  void Drop(wire::FileId dir);
  void Bar(wire::FileId dir, Nanos now, Nanos time = kBarred);
  void Clear();

 private:
  static constexpr size_t kRowsMax = 1024;
  struct Row {
    int creates = 0;
    Nanos since = 0;
    Nanos barred = 0;  // until then
  };
  Row* RowOf(wire::FileId dir);

  std::unordered_map<wire::FileId, HeldDirectory> held_;
  std::unordered_map<wire::FileId, Row> rows_;
  size_t names_ = 0;
  uint64_t next_number_ = 1;
};

}  // namespace perigee::bufferd
