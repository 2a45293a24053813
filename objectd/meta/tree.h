#pragma once
// Tree: one attempt of a transaction over the namespace's rows. It keeps what belongs together in
// step: an entry, the index, links, a directory's liveness and times, the file count, content that
// loses its last user, and the change feed. What an operation means, and who may do it, is decided
// by the callers (posix_ops.cc, s3_objects.cc, ...).
//
// Names of a directory that a node holds (directory_holds.h) are not known here before that node
// was asked: unless it is the one that calls, the attempt fails, and blocked() says what for. The
// attempt is then made again with what was told.
//
// Read modes: a caller that writes because of what it read reads with kConflict; writes here add
// the conflict reads they need themselves. Errors: kStale (an id is gone), kCorrupt (rows
// contradict each other), those of the store. Thread rule: belongs to the thread that runs the
// closure.

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "objectd/kv/store.h"
#include "objectd/meta/directory_holds.h"
#include "objectd/meta/keys.h"
#include "objectd/meta/path_cache.h"
#include "objectd/meta/record_summary.h"
#include "rdma/wire/meta.h"

namespace perigee::objectd {

// A name and what it names.
struct Node {
  Place place;
  wire::Record record;
  bool linked = false;  // the record is in the inode table; entries refer to it

  bool is_directory() const { return record.kind == wire::FileKind::kDirectory; }
};

// Through which door a name goes away: an implicit directory that loses its last entry vanishes
// with an S3 delete, and becomes explicit when emptied through the mount.
enum class Door { kMount, kS3 };

// Survives the loss of a node's page cache.
bool IsSafe(const wire::Version& version);

class Tree {
 public:
  // Who asks, and the directories whose holders have told all since the call began.
  struct Asker {
    const DirectoryHolds* holds = nullptr;  // null: nobody holds any
    wire::NodeId node = 0;                  // 0: none that could hold one
    uint64_t ended = 0;                     // holds->ended() before the attempt began
    std::set<wire::FileId> told;
  };
  struct Blocked {
    wire::FileId dir = 0;  // 0: nobody is asked, the attempt only began too early
    bool keep = false;     // its names are only read
  };
  Tree(kv::Transaction& txn, PathCache& paths, int64_t now, const Asker& asker)
      : txn_(txn), paths_(paths), now_(now), asker_(asker) {}
  const std::optional<Blocked>& blocked() const { return blocked_; }
  kv::Transaction& txn() { return txn_; }
  int64_t now() const { return now_; }
  void SetNow(int64_t now) { now_ = now; }  // of what comes next

  // ---- Reading (tree_read.cc)
  Result<std::optional<Node>> Find(wire::FileId dir, std::string_view component, kv::ReadMode mode);
  // By a POSIX name: a directory hides an object of the same name.
  Result<std::optional<Node>> FindName(wire::FileId dir, const std::string& name,
                                       kv::ReadMode mode);
  // kStale when the id is gone.
  Result<Node> ById(wire::FileId id, kv::ReadMode mode);
  // The bucket of a live directory (0: the root's). kStale when it is gone, kNotDirectory when the
  // id is a file's.
  Result<wire::FileId> LiveDirectory(wire::FileId dir, kv::ReadMode mode);
  // At most `limit` entries of `dir` from component `from` on and below `end` ("": no end); records
  // resolved.
  Result<std::vector<Node>> List(wire::FileId dir, std::string_view from, std::string_view end,
                                 size_t limit);
  // The same as stored, for who needs a little of each: component by keys::EntryComponent, record
  // by Summarize.
  Result<std::vector<kv::KeyValue>> ListRows(wire::FileId dir, std::string_view from,
                                             std::string_view end, size_t limit);
  Result<RecordSummary> Summarize(std::string_view value);
  // Whether nothing is in `dir`, under conflict reads. Looks beside `near` first.
  Result<bool> IsEmpty(wire::FileId dir, std::string_view near);
  // Puts what the time rows know into a directory's record.
  Status MergeTimes(wire::Record* directory);
  Status MergeTimes(std::vector<wire::Record*> directories);
  // "bucket/a/" of a directory; "" of the root.
  Result<std::string> PathOf(wire::FileId dir);
  // Conflict-reads the way from `dir` up to the root. kInvalidArgument when `moving` is on it.
  Status CheckNoCycle(wire::FileId dir, wire::FileId moving);

  // ---- Writing (tree_write.cc)
  // The record changed in place. kKeep: to those who were delegated the file it means the same as
  // before, or nobody can have been: it has a writer, who was waited for.
  enum class Delegated { kRecall, kKeep };
  Status Update(const Node& node, Delegated delegated = Delegated::kRecall);
  // A new record at a free place. `bucket` is that of place.dir (a bucket's own id for the
  // directory of a bucket).
  Status Insert(const Place& place, const wire::Record& record, wire::FileId bucket);
  // One more name for a file; node is updated.
  Status AddLink(Node* node, const Place& place);
  // Takes one name away; with the last one the record and its content go.
  Status Remove(const Node& node);
  // Moving is taking nodes off their places and putting each at its new one.
  Status TakeOff(const Node& node);
  Status PutAt(Node* node, const Place& place);
  // After removals from `dir`: what becomes of an implicit directory.
  Status Settle(wire::FileId dir, std::string_view gone_component, Door door);
  void Touch(wire::FileId dir, std::string_view component);

  // ---- Content (tree_content.cc)
  Status ReleaseVersion(wire::FileId id, const wire::Version& version);
  // What `from` held becomes `to`'s, by another generation.
  Status MoveVersion(wire::FileId from, wire::Version* version, wire::FileId to,
                     uint64_t generation);
  // A rename is about to replace `target` by `moved`, which the loss of a node's page cache would
  // leave without content: what of `target` is durable becomes its previous version. `target` is
  // removed next. What is in a burst buffer alone goes with it; kPreconditionFailed if `careful`.
  Status KeepReplaced(Node* target, wire::Record* moved, bool careful);
  // kReleasedBurst for each burst file that `before` names and `after` (null: nothing) does not.
  Status EmitReleased(const wire::Record& before, const wire::Record* after);
  // Releases all content of a record.
  Status ReleaseAll(const wire::Record& record);

  // Files that were there before, and of which a node may know what holds no longer.
  std::vector<wire::FileId> TakeChanged() { return std::move(changed_); }

 private:
  Status MayRead(wire::FileId dir);
  Status MayInsert(wire::FileId dir);
  Status Block(wire::FileId dir, bool keep);
  Result<std::optional<Node>> FindStored(wire::FileId dir, std::string_view component,
                                         kv::ReadMode mode);
  Result<Node> Resolve(Place place, std::string_view value, kv::ReadMode mode);
  // The row that an entry's value refers to; nothing when the record is in the value.
  Result<std::optional<std::string>> Referred(std::string_view value, kv::ReadMode mode);
  Result<uint64_t> Moves();
  Status Store(const Node& node);
  Status Hide(const Place& directory);
  Status Emit(wire::ChangeKind kind, const Place& place, const wire::Record& record);
  void Count(wire::FileId id, int64_t by);

  kv::Transaction& txn_;
  PathCache& paths_;
  int64_t now_;
  const Asker& asker_;
  std::optional<Blocked> blocked_;
  std::vector<wire::FileId> changed_;
  std::optional<uint64_t> moves_;
  bool reshaped_ = false;  // this attempt moved, made or removed directories: nothing it computes
                           // goes to the cache
};

// The etag of a version written through the mount.
std::string MountEtag(wire::FileId id, uint64_t generation);
// The change feed's event: EncodeRow(Change), position unset. docs/formats/change.md.
std::string EncodeChange(const wire::Change& change);
Result<wire::Change> DecodeChange(std::string_view event);

}  // namespace perigee::objectd
