#pragma once
// Namespace calls. Served by objectd; bufferd sends them for itself and forwards those of its local
// clients (the mount and the Python module speak to bufferd only), stamping `caller` from the
// socket's peer credentials.
//
// Names are single components without '/'. On this door a directory hides an object of the same
// name. Times are wall-clock ns; 0 in a request means "now, by objectd's clock" unless said
// otherwise. Errors are those of POSIX: kNotFound, kAlreadyExists, kNotDirectory, kIsDirectory,
// kNotEmpty, kCrossDevice (other bucket), kPermissionDenied, kInvalidArgument, kTooLarge (name over
// 255 bytes), kStale (id no longer exists). Calls that change something promise visibility, not
// durability, unless `sync` is asked for or said here.

#include "rdma/wire/record.h"

namespace perigee::wire {

struct Caller {
  bool enforce = false;  // true: check permission bits for this user; false: the kernel did
  uint32_t uid = 0, gid = 0;
  std::vector<uint32_t> groups;
  NodeId node = 0;  // that asks, where it holds a directory the call is about (kMetaHoldDirectory)
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.enforce);
    v(2, s.uid);
    v(3, s.gid);
    v(4, s.groups);
    v(5, s.node);
    v.Rest(s.unknown);
  }
};

struct Empty {
  Unknown unknown;
  static void Fields(auto& s, auto& v) { v.Rest(s.unknown); }
};

struct RecordReply {
  Record record;
  FileId parent = 0;  // where known (GetAttr by id: the first link)
  std::string name;
  bool delegated = false;  // as asked for by GetAttrRequest::delegate_to
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.record);
    v(2, s.parent);
    v(3, s.name);
    v(4, s.delegated);
    v.Rest(s.unknown);
  }
};

struct LookupRequest {  // -> RecordReply. kMetaLookup. `path` instead of parent+name walks from
                        // parent ("a/b/c")
  Caller caller;
  FileId parent = kRootId;
  std::string name;
  std::string path;
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.caller);
    v(2, s.parent);
    v(3, s.name);
    v(4, s.path);
    v.Rest(s.unknown);
  }
};

struct GetAttrRequest {  // -> RecordReply. kStale when the id is gone
  FileId id = 0;
  // This node asks for a delegation: it may act on the answer, without asking again, until the file
  // is recalled (kBurstRecall) or the node's term is over (kMetaRenewDelegations). Given for files
  // with one name and settled content only.
  NodeId delegate_to = 0;
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.id);
    v(2, s.delegate_to);
    v.Rest(s.unknown);
  }
};

// -> Empty. The node's delegations hold for another kDelegationTerm, counted from before this call.
struct RenewDelegationsRequest {
  NodeId node = 0;
  bool none_held = false;  // it has given up all that were granted until now
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.node);
    v(2, s.none_held);
    v.Rest(s.unknown);
  }
};
inline constexpr int64_t kDelegationTermNanos = 2'000'000'000;

// -> HoldDirectoryReply. The node asks to hold a directory: until that is taken back
// (kBurstTakeDirectory) or its term is over, names that are not in the directory come into it by
// this node alone, and whoever reads its names elsewhere asks this node first. So the node may make
// files there without asking, and tell of them by kMetaApply. Each call renews the term of all that
// the node holds: kDelegationTerm, counted from before the call. kStale: what it held is taken
// back, unheard; nothing is granted before it has given up everything.
struct HoldDirectoryRequest {
  NodeId node = 0;
  FileId dir = 0;  // 0: only the term is renewed
  int64_t at = 0;  // by the node's wall clock
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.node);
    v(2, s.dir);
    v(3, s.at);
    v.Rest(s.unknown);
  }
};
struct HoldDirectoryReply {
  bool granted = false;  // false: not now; others make use of it
  Record record;         // the directory's
  std::string path;      // "bucket/a/b"
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.granted);
    v(2, s.record);
    v(3, s.path);
    v.Rest(s.unknown);
  }
};

// -> Empty. kMetaReleaseDirectories. Everything that was made there is told.
struct ReleaseDirectoriesRequest {
  NodeId node = 0;
  std::vector<FileId> dirs;
  bool all = false;  // and what an earlier process of the node held
  int64_t at = 0;    // what was asked for later than this stays: the call may come late
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.node);
    v(2, s.dirs);
    v(3, s.all);
    v(4, s.at);
    v.Rest(s.unknown);
  }
};

// -> ApplyReply. kMetaApply: changes that a node made in directories it holds, in order, in one
// commit: all of them or, with the first one's error, none. `through` goes into that commit: what
// comes again, late, with that number or a lower one is made already, and is not looked at.
// kPreconditionFailed: it is not told up to `after`; what was is lost. Without changes: what is
// told is durable on return.
inline constexpr size_t kApplyOpsMax = 64;
inline constexpr size_t kApplyBytesMax = 256 << 10;
struct ApplyOp {
  uint64_t method = 0;        // kMetaCreate with an id, kMetaPublish, kMetaSetAttr
  std::string request;        // encoded
  uint64_t inline_bytes = 0;  // of the call's bulk, after those of the ops before
  int64_t at = 0;  // when it was made, by the node's clock: "now" of the call; 0: objectd's
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.method);
    v(2, s.request);
    v(3, s.inline_bytes);
    v(4, s.at);
    v.Rest(s.unknown);
  }
};
struct ApplyRequest {
  NodeId node = 0;
  std::vector<ApplyOp> ops;
  // The node's journal of changes, which numbers them: told up to here with these (0: no further),
  // and up to `after` before.
  uint64_t journal = 0;
  uint64_t through = 0;
  uint64_t after = 0;
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.node);
    v(2, s.ops);
    v(3, s.journal);
    v(4, s.through);
    v(5, s.after);
    v.Rest(s.unknown);
  }
};
struct ApplyReply {
  uint64_t through = 0;  // up to where that journal is told
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.through);
    v.Rest(s.unknown);
  }
};

struct ReadDirRequest {  // -> ReadDirReply; `after` is the last component key got ("" to start)
  Caller caller;
  FileId dir = 0;
  std::string after;
  uint32_t limit = 1024;
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.caller);
    v(2, s.dir);
    v(3, s.after);
    v(4, s.limit);
    v.Rest(s.unknown);
  }
};
struct DirItem {
  std::string key;   // component as stored: directories end in '/'
  std::string name;  // as the mount shows it
  Record record;
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.key);
    v(2, s.name);
    v(3, s.record);
    v.Rest(s.unknown);
  }
};
struct ReadDirReply {
  std::vector<DirItem> items;
  bool end = false;
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.items);
    v(2, s.end);
    v.Rest(s.unknown);
  }
};

struct MakeRequest {  // -> RecordReply. kMetaMkdir, kMetaSymlink (target), kMetaMknod (kind, rdev),
                      // kMetaCreate (writer)
  Caller caller;
  FileId parent = 0;
  std::string name;
  uint32_t mode = 0;
  uint32_t uid = 0, gid = 0;
  std::string symlink;
  FileKind kind = FileKind::kFile;
  uint64_t rdev = 0;
  std::optional<WriterInfo> writer;  // kMetaCreate: the burst file that is being written
  bool parents =
      false;  // kMetaMkdir by path: name may hold '/' and missing parents are made; existing: ok
  // kMetaCreate, kMetaMkdir: the new id, from ReserveIds; 0: objectd takes one. The call may then
  // be repeated: an id that exists is answered with its record, wherever it is by now.
  FileId id = 0;
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.caller);
    v(2, s.parent);
    v(3, s.name);
    v(4, s.mode);
    v(5, s.uid);
    v(6, s.gid);
    v(7, s.symlink);
    v(8, s.kind);
    v(9, s.rdev);
    v(10, s.writer);
    v(11, s.parents);
    v(12, s.id);
    v.Rest(s.unknown);
  }
};

struct RemoveRequest {  // -> RecordReply (the record as it was). kMetaUnlink, kMetaRmdir
  Caller caller;
  FileId parent = 0;
  std::string name;
  FileId id = 0;  // not 0: only this one is removed; kStale when the name is another's
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.caller);
    v(2, s.parent);
    v(3, s.name);
    v(4, s.id);
    v.Rest(s.unknown);
  }
};

inline constexpr uint32_t kRenameNoReplace = 1;
inline constexpr uint32_t kRenameExchange = 2;
// Not made (kPreconditionFailed) where it would replace durable content that is in a burst buffer
// alone by content that goes with a node's power: kBurstSync of what is moved, then without this.
inline constexpr uint32_t kRenameCareful = 4;
struct RenameRequest {  // -> RenameReply
  Caller caller;
  FileId parent = 0;
  std::string name;
  FileId new_parent = 0;
  std::string new_name;
  uint32_t flags = 0;
  // Not 0: only this one is moved (kStale when the name is another's), and only `replaced` is
  // replaced (kAlreadyExists when another has the new name).
  FileId id = 0;
  FileId replaced = 0;
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.caller);
    v(2, s.parent);
    v(3, s.name);
    v(4, s.new_parent);
    v(5, s.new_name);
    v(6, s.flags);
    v(7, s.id);
    v(8, s.replaced);
    v.Rest(s.unknown);
  }
};
struct RenameReply {
  Record moved;
  std::optional<Record> replaced;
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.moved);
    v(2, s.replaced);
    v.Rest(s.unknown);
  }
};

struct LinkRequest {  // -> RecordReply
  Caller caller;
  FileId id = 0;
  FileId new_parent = 0;
  std::string new_name;
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.caller);
    v(2, s.id);
    v(3, s.new_parent);
    v(4, s.new_name);
    v.Rest(s.unknown);
  }
};

struct SetAttrRequest {  // -> RecordReply. Size is set through bufferd
  Caller caller;
  FileId id = 0;
  bool set_mode = false, set_uid = false, set_gid = false, set_atime = false, set_mtime = false;
  uint32_t mode = 0, uid = 0, gid = 0;
  int64_t atime = 0, mtime = 0;  // 0: now
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.caller);
    v(2, s.id);
    v(3, s.set_mode);
    v(4, s.set_uid);
    v(5, s.set_gid);
    v(6, s.set_atime);
    v(7, s.set_mtime);
    v(8, s.mode);
    v(9, s.uid);
    v(10, s.gid);
    v(11, s.atime);
    v(12, s.mtime);
    v.Rest(s.unknown);
  }
};

struct XattrRequest {  // -> RecordReply. flags: XATTR_CREATE 1, XATTR_REPLACE 2
  Caller caller;
  FileId id = 0;
  std::string name;
  std::string value;
  uint32_t flags = 0;
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.caller);
    v(2, s.id);
    v(3, s.name);
    v(4, s.value);
    v(5, s.flags);
    v.Rest(s.unknown);
  }
};

// -> RecordReply. Sets record.writer. kStale: id gone, or expect_generation is not the committed
// one; kBusy: another node writes.
struct OpenWriteRequest {
  Caller caller;
  FileId id = 0;
  uint64_t expect_generation = 0;  // of the committed version; 0 when there is none
  NodeId node = 0;
  BurstId burst = 0;
  bool truncate = false;  // O_TRUNC: nothing of the old content is needed
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.caller);
    v(2, s.id);
    v(3, s.expect_generation);
    v(4, s.node);
    v(5, s.burst);
    v(6, s.truncate);
    v.Rest(s.unknown);
  }
};

// -> RecordReply. Commits what (node, burst) holds as generation `generation`, visible at every
// door on return. Inline when `has_inline` (the bytes are the call's bulk, at most the inline
// limit), else layout burst. Idempotent by generation.
struct PublishRequest {
  FileId id = 0;
  NodeId node = 0;
  BurstId burst = 0;
  uint64_t generation = 0;  // == writer.generation; the writer then moves on to generation + 1
  uint64_t size = 0;
  int64_t mtime = 0;
  Durability durability = Durability::kUnsynced;
  bool has_inline = false;
  bool sync = false;  // return when the commit is durable (fsync); inline content is then kObject
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.id);
    v(2, s.node);
    v(3, s.burst);
    v(4, s.generation);
    v(5, s.size);
    v(6, s.mtime);
    v(7, s.durability);
    v(8, s.has_inline);
    v(9, s.sync);
    v.Rest(s.unknown);
  }
};

struct EndWriteRequest {  // -> RecordReply. Clears record.writer when it is this one (sealed, or
                          // the create was given up)
  FileId id = 0;
  NodeId node = 0;
  BurstId burst = 0;
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.id);
    v(2, s.node);
    v(3, s.burst);
    v.Rest(s.unknown);
  }
};
inline constexpr size_t kEndWritesMax = 64;
struct WriterOf {
  FileId id = 0;
  BurstId burst = 0;
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.id);
    v(2, s.burst);
    v.Rest(s.unknown);
  }
};
// EndWrite for many, in one commit. One that fails by itself does not fail the others.
struct EndWritesRequest {  // -> EndWritesReply; kInvalidArgument over kEndWritesMax
  NodeId node = 0;
  std::vector<WriterOf> writes;
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.node);
    v(2, s.writes);
    v.Rest(s.unknown);
  }
};
struct EndWritesReply {
  std::vector<Code> codes;  // of each, in order
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.codes);
    v.Rest(s.unknown);
  }
};

// -> RecordReply. burst -> blobs, one transaction, durable on return. kStale unless the committed
// version is exactly (node, burst, generation); the caller's blobs are then garbage and their
// intent is left to expire.
struct CommitFlushRequest {
  FileId id = 0;
  NodeId node = 0;
  BurstId burst = 0;
  uint64_t generation = 0;
  std::vector<Extent> extents;  // at most kExtentsInsideMax, else list_id
  uint64_t list_id = 0;
  std::vector<uint64_t> intents;  // of the leases the blobs were written under
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.id);
    v(2, s.node);
    v(3, s.burst);
    v(4, s.generation);
    v(5, s.extents);
    v(6, s.list_id);
    v(7, s.intents);
    v.Rest(s.unknown);
  }
};

// -> RecordReply. Raises the committed version's durability (kLocal, kPartner); releases `previous`
// when it can.
struct SetDurabilityRequest {
  FileId id = 0;
  NodeId node = 0;
  BurstId burst = 0;
  uint64_t generation = 0;
  Durability durability = Durability::kLocal;
  bool sync = false;
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.id);
    v(2, s.node);
    v(3, s.burst);
    v(4, s.generation);
    v(5, s.durability);
    v(6, s.sync);
    v.Rest(s.unknown);
  }
};

// -> RecordReply. The burst file of the committed version is lost (unsynced before a power cut; by
// `generation` 0: of the first, which was not committed yet): the previous version is committed
// again, or, without one, the file is removed (kNotFound is then the reply).
struct FallBackRequest {
  FileId id = 0;
  NodeId node = 0;
  BurstId burst = 0;
  uint64_t generation = 0;
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.id);
    v(2, s.node);
    v(3, s.burst);
    v(4, s.generation);
    v.Rest(s.unknown);
  }
};

struct ReadInlineRequest {  // -> Empty, the bytes are the reply's bulk
  FileId id = 0;
  uint64_t generation = 0;
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.id);
    v(2, s.generation);
    v.Rest(s.unknown);
  }
};

struct GetExtentsRequest {  // -> GetExtentsReply; of a long list, from `offset` on
  uint64_t list_id = 0;
  uint64_t offset = 0;
  uint32_t limit = 256;
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.list_id);
    v(2, s.offset);
    v(3, s.limit);
    v.Rest(s.unknown);
  }
};
struct GetExtentsReply {
  std::vector<Extent> extents;
  bool end = false;
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.extents);
    v(2, s.end);
    v.Rest(s.unknown);
  }
};

struct StatFsReply {  // request: Empty
  uint64_t total_bytes = 0, free_bytes = 0, files = 0;
  uint64_t inline_bytes_max = 0;
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.total_bytes);
    v(2, s.free_bytes);
    v(3, s.files);
    v(4, s.inline_bytes_max);
    v.Rest(s.unknown);
  }
};

struct ReserveIdsRequest {  // -> ReserveIdsReply; durable before the reply
  uint32_t count = 1024;
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.count);
    v.Rest(s.unknown);
  }
};
struct ReserveIdsReply {
  FileId first = 0;
  uint32_t count = 0;
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.first);
    v(2, s.count);
    v.Rest(s.unknown);
  }
};

// The change feed. One event for each entry that a commit changed, in commit order.
enum class ChangeKind : uint8_t { kPut = 0, kRemoved = 1, kReleasedBurst = 2 };
struct Change {
  uint64_t position = 0;
  ChangeKind kind = ChangeKind::kPut;
  FileId parent = 0;
  std::string name;  // component key: directories end in '/'
  std::string path;  // full key as of the commit
  FileId id = 0;
  uint64_t generation = 0;
  NodeId node =
      0;  // kReleasedBurst: this node may drop this burst file, once `durable` >= position
  BurstId burst = 0;
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.position);
    v(2, s.kind);
    v(3, s.parent);
    v(4, s.name);
    v(5, s.path);
    v(6, s.id);
    v(7, s.generation);
    v(8, s.node);
    v(9, s.burst);
    v.Rest(s.unknown);
  }
};
struct FeedRequest {   // -> FeedReply. Waits up to wait_ms for something new. kResync: `after` is
                       // older than what is kept
  uint64_t after = 0;  // position; ~0: only tell the watermarks
  uint32_t limit = 1024;
  uint32_t wait_ms = 0;
  NodeId released_for = 0;  // not 0: only kReleasedBurst of this node, and kRemoved
  uint64_t seen_durable =
      0;  // of the last reply: the wait also ends when durable passes `after` for the first time
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.after);
    v(2, s.limit);
    v(3, s.wait_ms);
    v(4, s.released_for);
    v(5, s.seen_durable);
    v.Rest(s.unknown);
  }
};
struct FeedReply {
  std::vector<Change> changes;
  uint64_t next = 0;     // read on from here
  uint64_t visible = 0;  // watermarks
  uint64_t durable = 0;
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.changes);
    v(2, s.next);
    v(3, s.visible);
    v(4, s.durable);
    v.Rest(s.unknown);
  }
};

struct SyncReply {        // to Empty, kMetaSync: all that was visible is durable
  uint64_t instance = 0;  // of the namespace's server, another after each of its starts
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.instance);
    v.Rest(s.unknown);
  }
};

// Where a node is reached from; see rdma/node_address.h.
struct NodeDoors {
  std::string machine;               // whose processes reach its local address
  std::vector<std::string> network;  // for the others: "tls:10.0.0.7:9012", the best first
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.machine);
    v(2, s.network);
    v.Rest(s.unknown);
  }
};

struct RegisterNodeRequest {  // -> RegisterNodeReply. bufferd, at start and on reconnect
  NodeId node = 0;
  std::string address;  // on its own machine: "local:/run/perigee/bufferd.sock"
  std::string name;
  // Grows with each start of the node; leases of earlier ones end when it registers. 0: unknown.
  uint64_t incarnation = 0;
  NodeDoors doors;  // empty: of a time when a node had its address alone
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.node);
    v(2, s.address);
    v(3, s.name);
    v(4, s.incarnation);
    v(5, s.doors);
    v.Rest(s.unknown);
  }
};
struct RegisterNodeReply {
  uint64_t inline_bytes_max = 0;
  uint64_t cluster_id = 0;
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.inline_bytes_max);
    v(2, s.cluster_id);
    v.Rest(s.unknown);
  }
};

// Another node wants to write the file: ends the write of a writer that is gone. -> RecordReply.
// kBusy: it may be there.
struct ReclaimWriterRequest {
  FileId id = 0;
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.id);
    v.Rest(s.unknown);
  }
};
// To WriterOf: does the node's buffer still write, or begin to write, this file in that burst file?
struct BurstWritesReply {
  bool writes = true;
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.writes);
    v.Rest(s.unknown);
  }
};

struct GetNodeRequest {  // -> GetNodeReply. Where a node registered itself; kNotFound
  NodeId node = 0;
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.node);
    v.Rest(s.unknown);
  }
};
struct GetNodeReply {
  std::string address;
  std::string name;
  NodeDoors doors;
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.address);
    v(2, s.name);
    v(3, s.doors);
    v.Rest(s.unknown);
  }
};

struct CreateBucketRequest {  // -> RecordReply
  std::string name;
  uint32_t uid = 0, gid = 0, mode = 0644;
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.name);
    v(2, s.uid);
    v(3, s.gid);
    v(4, s.mode);
    v.Rest(s.unknown);
  }
};

}  // namespace perigee::wire
