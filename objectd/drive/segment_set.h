#pragma once
// SegmentSet: a drive's segment files and the room in them.
//
// One segment is active: Reserve hands out consecutive places in it to concurrent writers. It grows
// by preallocated steps, so that a sync seldom has a size to journal, and is sealed when full: a
// footer says that all before it is whole. Freed records are punched out; a sealed segment without
// live records is used afresh under a new generation. kNoSpace when the capacity or the file system
// (less a reserve for RocksDB) is used up. Any other failure is the drive's end. Thread-safe;
// blocks.

#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "base/disk.h"
#include "base/event.h"
#include "base/metrics.h"
#include "objectd/drive/segment_file.h"
#include "objectd/drive/shard_index.h"

namespace perigee::objectd {

class SegmentSet {
 public:
  struct Options {
    uint64_t segment_bytes = 256 << 20;
    uint64_t capacity_bytes = 0;
  };
  // A writer's place. `offset` is where its record begins.
  struct Slot {
    std::shared_ptr<SegmentFile> segment;
    uint64_t offset = 0;
    uint64_t bytes = 0;
  };
  enum class Outcome { kLive, kDead };

  // Reads the headers of the files in `dir`. kUnimplemented: of a newer format.
  static Result<std::unique_ptr<SegmentSet>> Open(Disk* disk, std::string dir, uint64_t drive_id,
                                                  Options options, metrics::Counter* syncs);

  // At open, before any Reserve: what the index and the scan found.
  std::vector<std::shared_ptr<SegmentFile>> All();
  void AddLive(const ShardPlace& place);
  Status Close(const SegmentHeader& header, uint64_t end,
               bool has_footer);  // after its scan; writes a missing footer

  Result<Slot> Reserve(uint64_t bytes);
  // The mark that holds once `slot`'s record is in the index too.
  SegmentMark MarkWith(const Slot& slot);
  // Exactly once per slot, after its index entry.
  Status Finish(const Slot& slot, Outcome outcome);
  // A live record is no longer wanted.
  Status Free(const ShardPlace& place);
  // Null when the segment is gone or in another use.
  std::shared_ptr<SegmentFile> Find(uint32_t segment, uint64_t generation);

  // Reads the headers of all segments again, and writes those anew that rotted: at a start they
  // would take every record behind them along. How many.
  Result<uint32_t> MendHeaders();

  Result<SpaceInfo> Space();
  uint64_t UsedBytes();
  // No Reserve may run any more: seals the active segment.
  Status Stop();

 private:
  struct State {
    std::shared_ptr<SegmentFile> file;
    uint64_t end = 0;            // where the next record goes; of a sealed one: end of its records
    uint64_t allocated = 0;      // file bytes
    uint64_t held = 0;           // of them not punched: what it costs
    uint64_t live = 0;           // records
    std::set<uint64_t> pending;  // offsets of slots not finished
    bool sealed = false;         // takes no more records
    bool sealing = false;        // its footer is being written
    bool closed = false;         // footer done: may be used afresh when nothing lives in it
  };

  SegmentSet(Disk* disk, std::string dir, uint64_t drive_id, Options options,
             metrics::Counter* syncs)
      : disk_(disk), dir_(std::move(dir)), drive_id_(drive_id), options_(options), syncs_(syncs) {}
  Status MakeRoom(uint64_t bytes);
  Result<bool> MendHeader(const std::shared_ptr<SegmentFile>& segment);
  Status Grow(uint32_t segment, uint64_t need);
  Status Roll(uint64_t bytes);
  struct Made {
    Status outcome;  // ok, or kNoSpace: the file is then empty
    uint64_t bytes = 0;
  };
  Result<Made> MakeFile(const std::string& path, const SegmentHeader& header, uint64_t wanted,
                        uint64_t need);
  Status SealIfQuiet(uint32_t segment);
  Result<uint64_t> RoomFor(uint64_t wanted, uint64_t least, uint64_t given_back);
  void ReuseIfEmptyLocked(uint32_t segment, State& state);
  static uint64_t RecordBytes(const ShardPlace& place) {
    return kPageBytes + RoundUp(place.payload_bytes, kPageBytes);
  }

  Disk* disk_;
  const std::string dir_;
  const uint64_t drive_id_;
  const Options options_;
  metrics::Counter* syncs_;

  std::mutex mu_;  // guards what follows
  CondVar changed_;
  bool changing_ = false;  // somebody grows or rolls
  std::map<uint32_t, State> segments_;
  std::vector<uint32_t> reusable_;
  uint32_t active_ = 0;  // 0: none
  uint32_t next_ = 1;
  uint64_t used_ = 0;
};

}  // namespace perigee::objectd
