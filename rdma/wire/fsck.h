#pragma once
// Fsck: namespace, references, volumes, drives and burst stores held against each other, by the
// daemons' 0600 sockets while they serve. The caller asks page by page; nothing is kept in between.

#include <iterator>
#include <string>
#include <string_view>
#include <vector>

#include "rdma/wire/record.h"

namespace perigee::wire {

enum class FsckKind : uint8_t {
  kOrphanBlob = 1,         // shards on drives that nothing refers to
  kMissingShard = 2,       // a blob that is referred to lacks a shard on a drive that is online
  kIndexDrift = 3,         // a drive's index and its segments disagree
  kLeakedBurstFile = 4,    // a burst file that no record of the namespace names
  kDanglingReference = 5,  // a reference without its version, or a version without its content
  kBadParent = 6,          // an entry, its directory and the index of ids disagree
  kWrongCounter = 7,       // a count that is not what is counted
  kUnreadableRow = 8,      // a row that cannot be decoded
};

constexpr std::string_view NameOf(FsckKind kind) {
  switch (kind) {
    case FsckKind::kOrphanBlob:
      return "orphan-blob";
    case FsckKind::kMissingShard:
      return "missing-shard";
    case FsckKind::kIndexDrift:
      return "index-drift";
    case FsckKind::kLeakedBurstFile:
      return "leaked-burst-file";
    case FsckKind::kDanglingReference:
      return "dangling-reference";
    case FsckKind::kBadParent:
      return "bad-parent";
    case FsckKind::kWrongCounter:
      return "wrong-counter";
    case FsckKind::kUnreadableRow:
      return "unreadable-row";
  }
  return "unknown";  // of a newer peer
}

struct FsckFinding {
  FsckKind kind = FsckKind::kOrphanBlob;
  std::string what;    // the object, and what is wrong with it
  std::string remedy;  // what a repair does, or did; empty: nothing can
  bool mended = false;
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.kind);
    v(2, s.what);
    v(3, s.remedy);
    v(4, s.mended);
    v.Rest(s.unknown);
  }
};

// In this order a repair of one check helps the next.
enum class FsckCheck : uint8_t {
  kEntries = 1,      // entries with their index, directory, links and content
  kIndex = 2,        // the index of ids
  kInodes = 3,       // links and their count
  kDirectories = 4,  // liveness and time rows
  kReferences = 5,   // references of blobs
  kLists = 6,        // extent lists
  kInline = 7,       // inline content
  kCounters = 8,     // counts of files and of lists' users
  kDrift = 9,        // index and segments of each drive
  kShards = 10,      // shards that should be on the drives
  kOrphans = 11,     // shards that should not
};
inline constexpr FsckCheck kFsckFirst = FsckCheck::kEntries, kFsckLast = FsckCheck::kOrphans;

constexpr std::string_view NameOf(FsckCheck check) {
  constexpr std::string_view kNames[] = {"entries",    "index",  "inodes", "directories",
                                         "references", "lists",  "inline", "counters",
                                         "drift",      "shards", "orphans"};
  const size_t i = static_cast<size_t>(check) - 1;
  return i < std::size(kNames) ? kNames[i] : "unknown";
}

struct FsckRequest {  // -> FsckReply
  FsckCheck check = FsckCheck::kEntries;
  std::string cursor;  // of the reply before; empty: from the beginning
  bool repair = false;
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.check);
    v(2, s.cursor);
    v(3, s.repair);
    v.Rest(s.unknown);
  }
};
struct NamedBurst {  // a burst file that the namespace names
  NodeId node = 0;
  BurstId burst = 0;
  FileId id = 0;
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.node);
    v(2, s.burst);
    v(3, s.id);
    v.Rest(s.unknown);
  }
};
struct FsckReply {
  std::vector<FsckFinding> findings;
  std::string cursor;
  bool end = false;
  uint64_t looked = 0;             // rows, shards or records
  std::vector<NamedBurst> bursts;  // kEntries, kInodes: of the rows of this page
  std::vector<std::string> notes;  // what could not be checked, and why
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.findings);
    v(2, s.cursor);
    v(3, s.end);
    v(4, s.looked);
    v(5, s.bursts);
    v(6, s.notes);
    v.Rest(s.unknown);
  }
};

// bufferd's part: burst files that nothing names, in one call. `named`: burst files of this node
// that the namespace named. `unnamed`: those of an earlier reply's `unrecorded` that it does not
// name; with `repair` they are removed.
struct BurstFsckRequest {  // -> BurstFsckReply
  bool repair = false;
  std::vector<NamedBurst> named;
  std::vector<BurstId> unnamed;
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.repair);
    v(2, s.named);
    v(3, s.unnamed);
    v.Rest(s.unknown);
  }
};
struct BurstFsckReply {
  NodeId node = 0;
  std::vector<FsckFinding> findings;
  std::vector<BurstId> unrecorded;  // files without a record here
  uint64_t looked = 0;
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.node);
    v(2, s.findings);
    v(3, s.unrecorded);
    v(4, s.looked);
    v.Rest(s.unknown);
  }
};

}  // namespace perigee::wire
