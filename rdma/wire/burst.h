#pragma once
// The burst buffer's calls: the mount, the Python module and the CLI on its node; objectd and other
// nodes for reading.
//
// A handle is an open of a burst file; it belongs to the connection and is released with it.
// Descriptors travel beside the reply (`local` only). Whoever holds one does its I/O on the file
// itself. A call with a handle that its connection does not have: kStale (client/buffer then opens
// the file again by id).

#include "rdma/wire/meta.h"

namespace perigee::wire {

enum class Access : uint8_t { kRead = 0, kWrite = 1 };  // kWrite: and read
// How the opener may use the file.
enum class OpenKind : uint8_t {
  kDescriptor =
      0,  // wholly resident, or being written: use the descriptor directly (the mount: passthrough)
  kCached = 1,  // not resident: call Ensure for a range before reading it from the descriptor
};

// Opens by id (mount) or by path (Python). The record is validated with the namespace in this call.
// kStale: `burst` was given and is no longer the burst file that serves this id (the mount then
// makes a new node).
struct BurstOpenRequest {
  Caller caller;
  FileId id = 0;
  std::string path;  // "bucket/key", when id is 0
  Access access = Access::kRead;
  bool truncate = false;
  bool want_writable_fd =
      false;                  // kWrite: a read-write descriptor; else read-only, for BACKING_OPEN
  BurstId expect_burst = 0;   // 0: any
  uint32_t wait_fill_ms = 0;  // wait so long for residency before answering kCached
  // A reader by id that keeps handles wants a delegation; `known_page`: the page it has mapped.
  bool want_delegation = false;
  uint64_t known_page = 0;
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.caller);
    v(2, s.id);
    v(3, s.path);
    v(4, s.access);
    v(5, s.truncate);
    v(6, s.want_writable_fd);
    v(7, s.expect_burst);
    v(8, s.wait_fill_ms);
    v(9, s.want_delegation);
    v(10, s.known_page);
    v.Rest(s.unknown);
  }
};
struct BurstCreateRequest {  // -> BurstOpenReply. Creates the name (kAlreadyExists if there) and
                             // opens it for writing
  Caller caller;
  FileId parent = 0;
  std::string name;
  std::string
      path;  // "bucket/key" when parent is 0; replace: an existing file is opened and truncated
  bool replace = false;
  uint32_t mode = 0644;
  uint32_t uid = 0, gid = 0;
  bool want_writable_fd = false;
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.caller);
    v(2, s.parent);
    v(3, s.name);
    v(4, s.path);
    v(5, s.replace);
    v(6, s.mode);
    v(7, s.uid);
    v(8, s.gid);
    v(9, s.want_writable_fd);
    v.Rest(s.unknown);
  }
};
// What makes an open good for more than one: see client/buffer/delegation_page.h.
struct Delegation {
  uint64_t page = 0;  // its number; 0: no delegation
  uint32_t slot = 0;
  uint64_t count = 0;  // the slot's, while the delegation holds
  FileId parent = 0;   // where the file is found
  std::string name;
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.page);
    v(2, s.slot);
    v(3, s.count);
    v(4, s.parent);
    v(5, s.name);
    v.Rest(s.unknown);
  }
};
struct BurstOpenReply {  // fds[0]: the burst file; fds[1]: the page, when it is not `known_page`
  uint64_t handle = 0;
  BurstId burst = 0;
  OpenKind kind = OpenKind::kDescriptor;
  Record record;
  uint64_t size = 0;       // of the content as this node sees it now
  bool low_space = false;  // below --burst-reserve: writers use cached mode, through Write
  std::optional<Delegation> delegation;
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.handle);
    v(2, s.burst);
    v(3, s.kind);
    v(4, s.record);
    v(5, s.size);
    v(6, s.low_space);
    v(7, s.delegation);
    v.Rest(s.unknown);
  }
};

// -> Empty, once objectd has all that was made in the directory here until now
// (kMetaHoldDirectory).
struct BurstTakeDirectoryRequest {
  FileId dir = 0;
  bool keep = false;  // the node may hold it further: its names are only read
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.dir);
    v(2, s.keep);
    v.Rest(s.unknown);
  }
};

// -> Empty. objectd: what this node was delegated of these files holds no longer, as of the answer.
// kUnavailable: an earlier process of the node may have given out what this one cannot take back.
struct BurstRecallRequest {
  std::vector<FileId> ids;
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.ids);
    v.Rest(s.unknown);
  }
};

struct BurstHandleRequest {  // -> BurstStatReply. kBurstRelease, kBurstPublish (close), kBurstFsync
  uint64_t handle = 0;
  Durability durability = Durability::kLocal;  // kBurstFsync: return when it is reached
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.handle);
    v(2, s.durability);
    v.Rest(s.unknown);
  }
};

struct BurstEnsureRequest {  // -> Empty. Returns when [offset, offset+length) can be read from the
                             // descriptor
  uint64_t handle = 0;
  uint64_t offset = 0, length = 0;
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.handle);
    v(2, s.offset);
    v(3, s.length);
    v.Rest(s.unknown);
  }
};

struct BurstWriteRequest {  // -> Empty, bulk: the bytes. The slowed path of a nearly full buffer
  uint64_t handle = 0;
  uint64_t offset = 0;
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.handle);
    v(2, s.offset);
    v.Rest(s.unknown);
  }
};

struct BurstTruncateRequest {  // -> BurstStatReply. handle, or id for truncate(2) on a closed file
                               // (published at once)
  Caller caller;
  uint64_t handle = 0;
  FileId id = 0;
  uint64_t size = 0;
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.caller);
    v(2, s.handle);
    v(3, s.id);
    v(4, s.size);
    v.Rest(s.unknown);
  }
};

struct BurstTarget {  // what stat, flush, evict, warm and pin work on; empty: everything on this
                      // node. kBurstSync (-> Empty): `id` alone
  Caller caller;
  FileId id = 0;
  std::string path;         // "bucket/key" or "bucket/prefix/": a directory means all below
  bool wait = false;        // flush: until class object; warm: until resident
  bool on = true;           // pin; hold
  uint32_t timeout_ms = 0;  // of the wait; 0: the call's own deadline
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.caller);
    v(2, s.id);
    v(3, s.path);
    v(4, s.wait);
    v(5, s.on);
    v(6, s.timeout_ms);
    v.Rest(s.unknown);
  }
};

enum class BurstState : uint8_t {
  kAbsent = 0,
  kWriting = 1,
  kPublished = 2,
  kSealed = 3,
  kFlushing = 4,
  kClean = 5
};
struct BurstStatReply {
  FileId id = 0;
  BurstId burst = 0;
  BurstState state = BurstState::kAbsent;
  Durability durability = Durability::kUnsynced;
  uint64_t size = 0, resident_bytes = 0, dirty_bytes = 0, allocated_bytes = 0;
  int64_t mtime = 0;  // of the burst file, ns
  bool pinned = false;
  uint32_t readers = 0, writers = 0;
  uint64_t generation = 0;
  Record record;  // as the namespace has it (kBurstStat only)
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.id);
    v(2, s.burst);
    v(3, s.state);
    v(4, s.durability);
    v(5, s.size);
    v(6, s.resident_bytes);
    v(7, s.dirty_bytes);
    v(8, s.allocated_bytes);
    v(9, s.mtime);
    v(10, s.pinned);
    v(11, s.readers);
    v(12, s.writers);
    v(13, s.generation);
    v(14, s.record);
    v.Rest(s.unknown);
  }
};

struct BurstBatchReply {  // kBurstFlush, kBurstEvict, kBurstWarm, kBurstPin, kBurstHold
  uint64_t files = 0, bytes = 0,
           left =
               0;  // done by this call or found done; left: not done (still busy, not clean, ...)
  std::vector<std::string> reasons;  // up to 16, of what is left
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.files);
    v(2, s.bytes);
    v(3, s.left);
    v(4, s.reasons);
    v.Rest(s.unknown);
  }
};

// Remote read of a burst layout (S3 door, other nodes). -> Empty, bulk. kStale: no longer that
// generation, or being rewritten; kUnavailable: not held here. Checked against the burst file's
// crcs once it has them.
struct BurstReadRequest {
  BurstId burst = 0;
  FileId id = 0;
  uint64_t generation = 0;
  uint64_t offset = 0;
  uint32_t length = 0;  // at most kPieceBytesMax
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.burst);
    v(2, s.id);
    v(3, s.generation);
    v(4, s.offset);
    v(5, s.length);
    v.Rest(s.unknown);
  }
};

// Long poll of the mount: nodes whose entries or content changed elsewhere. -> BurstWatchReply
struct BurstWatchRequest {
  uint64_t after = 0;
  uint32_t wait_ms = 10000;
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.after);
    v(2, s.wait_ms);
    v.Rest(s.unknown);
  }
};
struct BurstWatchReply {
  std::vector<Change> changes;
  uint64_t next = 0;
  bool resync = false;
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.changes);
    v(2, s.next);
    v(3, s.resync);
    v.Rest(s.unknown);
  }
};

}  // namespace perigee::wire
