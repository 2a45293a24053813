#pragma once
// KnownNames: what this node has seen of the namespace's names and records: all there is to go by
// while objectd is away.
//
// A name is known to exist, known to be absent (its directory is known whole: listed to its end, or
// made here), or unknown. What others change is not seen, so all of it is as of the last look.
// Its owner bounds it (kKnownMax) by forgetting everything while objectd is there, and guards it by
// a lock.

#include <atomic>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "rdma/wire/meta.h"

namespace perigee::bufferd {

class KnownNames {
 public:
  static constexpr size_t kKnownMax = 32768;

  struct Known {
    wire::Record record;
    wire::FileId parent = 0;  // 0: no name of it is known
    std::string name;
    bool own = false;  // this node made it
  };
  enum class Answer { kExists, kAbsent, kUnknown };

  Answer Find(wire::FileId parent, const std::string& name, const Known** known) const;
  const Known* Get(wire::FileId id) const;  // null: unknown
  // Of a directory that is known whole, by stored component; nothing when it is not.
  std::optional<std::vector<wire::DirItem>> List(wire::FileId dir) const;
  bool Whole(wire::FileId dir) const;
  // "bucket/a/b"; empty when a directory on the way is unknown.
  std::string PathOf(wire::FileId dir) const;
  wire::FileId BucketOf(wire::FileId id) const;  // 0: unknown

  // Names of `dir` were learnt or forgotten since clock() was `then`: an answer that was asked for
  // before that may tell less than is known. clock() needs no lock.
  uint64_t clock() const { return clock_; }
  bool ChangedSince(wire::FileId dir, uint64_t then) const;
  // Between the two, names of `dir` that are learnt or forgotten are not learnt from pages.
  void BeginPages(wire::FileId dir) { directories_[dir].newer.emplace(); }
  void EndPages(wire::FileId dir);

  void Learn(wire::FileId parent, const std::string& name, const wire::Record& record);
  void LearnRecord(const wire::Record& record);  // of an id whose name may be unknown
  void LearnPage(const wire::ReadDirRequest& asked, const wire::ReadDirReply& page);
  // Of record.id, from the one name to the other.
  void Move(wire::FileId parent, const std::string& name, wire::FileId new_parent,
            const std::string& new_name, const wire::Record& record);
  void Own(wire::FileId id);         // this node made it; stays so wherever it is moved
  void MadeEmpty(wire::FileId dir);  // known whole, with nothing in it
  void Forget(wire::FileId parent, const std::string& name);
  // What has the name, if anything, is not known any more.
  void Doubt(wire::FileId parent, const std::string& name);
  void Clear();
  size_t size() const { return known_.size(); }

 private:
  struct Directory {
    std::map<std::string, wire::FileId> names;
    bool whole = false;
    std::string listed;  // the last key of the pages seen in a row since the first
    bool listing = false;
    uint64_t changed = 0;  // the clock then
    std::optional<std::set<std::string>> newer;
  };
  void Changed(Directory* dir, const std::string& name);
  void Drop(wire::FileId parent, const std::string& name);

  std::unordered_map<wire::FileId, Known> known_;
  std::unordered_map<wire::FileId, Directory> directories_;
  std::atomic<uint64_t> clock_{0};
  uint64_t cleared_ = 0;
};

}  // namespace perigee::bufferd
