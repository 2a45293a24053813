#pragma once
// First bytes of every key in the store, so that no two owners collide. Never reassign.
// docs/formats/keys.md.

namespace perigee::objectd::kv {

enum class KeySpace : char {
  kStore = 'A',       // the store's own: format, last position, ids reserved
  kBucket = 'B',      // reserved
  kChildCount = 'C',  // meta: commutative directory counters and times, (directory, shard)
  kDirectory = 'D',   // meta: liveness key of a directory
  kEntry = 'E',       // meta: (directory id, component) -> record, or a reference to an inode row
  kFeed = 'F',        // the store's change feed
  kHold = 'h',        // meta: which node holds a directory
  kGarbage = 'G',     // volume: what the collector frees
  kInline = 'X',      // meta: (file id, generation) -> bytes; a column family of its own
  kIntent = 'N',      // volume: leased ranges of blob sequences
  kInode = 'H',       // meta: records of files with several links
  kIndex = 'I',       // meta: file id -> (directory id, component)
  kNode = 'O',        // volume: registered nodes
  kExtentList = 'L',  // volume: rows of long extent lists
  kTold = 'T',        // meta: what a node has told of its journal
  kReference = 'R',   // volume: who keeps a blob alive, (blob, owner)
  kUpload = 'U',      // meta: multipart uploads and their parts
  kVolume = 'V',      // volume: volume records; drives under 'v'
  kDrive = 'v',
  kStorageNode = 'o',  // volume: nodes with drives
};

}  // namespace perigee::objectd::kv
