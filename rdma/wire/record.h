#pragma once
// The record: what the namespace knows of one file, directory or symlink. Stored as the value of
// its entry (or of its inode row when it has several links), and sent whole between processes.
// Format: docs/formats/record.md.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "rdma/wire/codec.h"

namespace perigee::wire {

using FileId = uint64_t;   // of files, directories and symlinks alike; never reused
using BurstId = uint64_t;  // unique within a node; never reused
using NodeId = uint64_t;
inline constexpr FileId kRootId = 1;

enum class FileKind : uint8_t {
  kFile = 0,
  kDirectory = 1,
  kSymlink = 2,
  kFifo = 3,
  kSocket = 4,
  kCharDevice = 5,
  kBlockDevice = 6
};

// How safe a version is; ordered.
enum class Durability : uint8_t { kUnsynced = 0, kLocal = 1, kPartner = 2, kObject = 3 };

// Consecutive blobs of one volume: sequences first_seq … first_seq+count-1, each of blob_bytes, the
// last one shorter.
struct Extent {
  uint64_t offset = 0;  // in the object
  uint64_t length = 0;
  uint32_t volume = 0;
  uint64_t first_seq = 0;
  uint32_t count = 0;
  uint64_t blob_bytes = 0;
  Unknown unknown;
  bool operator==(const Extent&) const = default;
  static void Fields(auto& s, auto& v) {
    v(1, s.offset);
    v(2, s.length);
    v(3, s.volume);
    v(4, s.first_seq);
    v(5, s.count);
    v(6, s.blob_bytes);
    v.Rest(s.unknown);
  }
};
inline constexpr size_t kExtentsInsideMax = 16;  // more go to rows of their own, under list_id

enum class LayoutKind : uint8_t { kNone = 0, kInline = 1, kBlobs = 2, kBurst = 3, kCold = 4 };

// Where a version's bytes are.
struct Layout {
  LayoutKind kind = LayoutKind::kNone;  // kNone: zero bytes
  std::vector<Extent> extents;  // kBlobs, at most kExtentsInsideMax, else empty and list_id is set
  uint64_t list_id = 0;
  NodeId node = 0;  // kBurst
  BurstId burst = 0;
  NodeId partner = 0;
  std::string tier;  // kCold
  std::string remote_key;
  Unknown unknown;
  bool operator==(const Layout&) const = default;
  static void Fields(auto& s, auto& v) {
    v(1, s.kind);
    v(2, s.extents);
    v(3, s.list_id);
    v(4, s.node);
    v(5, s.burst);
    v(6, s.partner);
    v(7, s.tier);
    v(8, s.remote_key);
    v.Rest(s.unknown);
  }
};

// One content of a file. Inline bytes are stored under (file id, generation), apart from the
// record.
struct Version {
  uint64_t generation = 0;  // grows with each content of the file
  uint64_t size = 0;
  int64_t mtime = 0;  // ns, wall
  std::string etag;   // without quotes
  Durability durability = Durability::kUnsynced;
  Layout layout;
  std::string checksum;     // S3 "CRC32C:base64" and its kind, when the client gave one
  uint32_t part_count = 0;  // multipart objects
  Unknown unknown;
  bool operator==(const Version&) const = default;
  static void Fields(auto& s, auto& v) {
    v(1, s.generation);
    v(2, s.size);
    v(3, s.mtime);
    v(4, s.etag);
    v(5, s.durability);
    v(6, s.layout);
    v(7, s.checksum);
    v(8, s.part_count);
    v.Rest(s.unknown);
  }
};

// Present while some node writes, or holds a not yet sealed content.
struct WriterInfo {
  NodeId node = 0;
  BurstId burst = 0;
  uint64_t generation = 0;  // that the next publish will commit
  Unknown unknown;
  bool operator==(const WriterInfo&) const = default;
  static void Fields(auto& s, auto& v) {
    v(1, s.node);
    v(2, s.burst);
    v(3, s.generation);
    v.Rest(s.unknown);
  }
};

struct Attribute {  // xattr ("user.x"), or S3 header and metadata ("content-type", "x-amz-meta-x")
  std::string name;
  std::string value;
  bool operator==(const Attribute&) const = default;
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.name);
    v(2, s.value);
    v.Rest(s.unknown);
  }
};

struct BucketSettings {
  uint32_t uid = 0, gid = 0;  // of what S3 writes
  uint32_t mode = 0644;       // of files; directories add x where r is
  int64_t created = 0;
  Unknown unknown;
  bool operator==(const BucketSettings&) const = default;
  static void Fields(auto& s, auto& v) {
    v(1, s.uid);
    v(2, s.gid);
    v(3, s.mode);
    v(4, s.created);
    v.Rest(s.unknown);
  }
};

inline constexpr uint64_t kOfReplaced = uint64_t{1} << 63;  // and the id of the file replaced

struct Record {
  FileId id = 0;
  FileKind kind = FileKind::kFile;
  uint32_t mode = 0;  // permission bits and suid/sgid/sticky; the type is `kind`
  uint32_t uid = 0, gid = 0;
  int64_t atime = 0, mtime = 0, ctime = 0,
          btime = 0;  // ns since 1970. A file's mtime follows its committed version
  uint32_t nlink = 1;
  uint64_t rdev = 0;
  std::string symlink;
  std::vector<Attribute> xattrs;
  std::vector<Attribute> headers;  // S3
  bool implicit = false;           // directories made by an S3 key with slashes
  std::optional<BucketSettings> bucket;
  std::optional<Version> committed;  // what every door serves
  // Kept until `committed` is at least kLocal. By a generation with kOfReplaced: it was the content
  // of the file that a rename to its name replaced, and `committed` may not be there yet.
  std::optional<Version> previous;
  std::optional<WriterInfo> writer;
  uint64_t generation_floor = 0;  // a generation lost by a fall back; new ones are greater
  Unknown unknown;
  bool operator==(const Record&) const = default;
  static void Fields(auto& s, auto& v) {
    v(1, s.id);
    v(2, s.kind);
    v(3, s.mode);
    v(4, s.uid);
    v(5, s.gid);
    v(6, s.atime);
    v(7, s.mtime);
    v(8, s.ctime);
    v(9, s.btime);
    v(10, s.nlink);
    v(11, s.rdev);
    v(12, s.symlink);
    v(13, s.xattrs);
    v(14, s.headers);
    v(15, s.implicit);
    v(16, s.bucket);
    v(17, s.committed);
    v(18, s.previous);
    v(19, s.writer);
    v(20, s.generation_floor);
    v.Rest(s.unknown);
  }
};

}  // namespace perigee::wire
