#pragma once
// Fsck of drives: references, volumes, the drives' indexes and their segments held against each
// other, while they serve.
//
// Only drives that are online are looked at: repair reads all of one that returns. What a page
// finds is looked at again before it is reported, in the order of liveness.h, so that a running
// load gives no false alarm. Repairs: what nothing refers to goes to the collector (a garbage key,
// so that it asks again), a shard in the wrong place is deleted, a missing one goes to Repair, an
// index entry is made anew from the segments. Thread-safe; blocks.

#include "objectd/volume/liveness.h"
#include "objectd/volume/repair.h"
#include "rdma/wire/fsck.h"

namespace perigee::objectd {

class DriveFsck {
 public:
  struct Deps {
    kv::Store* store = nullptr;
    DriveCatalog* drives = nullptr;
    VolumeTable* table = nullptr;
    Repair* repair = nullptr;
    Clock* clock = nullptr;
  };
  explicit DriveFsck(Deps deps) : deps_(deps) {}

  // kDrift, kShards, kOrphans; one page. kInvalidArgument: another check, or no cursor of this one.
  Result<wire::FsckReply> Run(const wire::FsckRequest& request);

 private:
  struct Cursor {  // a drive or volume, and where in it
    uint64_t at = 0, next = 0;
    uint32_t volume = 0;
  };
  static Result<Cursor> Parse(const std::string& text);
  static std::string Format(const Cursor& cursor);

  Status Drift(Cursor cursor, bool repair, wire::FsckReply* reply);
  Status Shards(Cursor cursor, bool repair, wire::FsckReply* reply);
  Status Orphans(Cursor cursor, bool repair, wire::FsckReply* reply);
  Status CheckBlob(const VolumeRecord& volume, uint64_t seq, bool repair, wire::FsckReply* reply);
  Status CheckOrphan(Drive& drive, const wire::BlobId& blob, uint32_t index,
                     const LeasedRanges& leased, bool repair, wire::FsckReply* reply);
  // The online drive with the lowest id >= `from`.
  std::shared_ptr<Drive> DriveFrom(uint64_t from) const;
  std::shared_ptr<Drive> OnlineDrive(uint64_t id) const;
  Result<bool> InGarbage(const wire::BlobId& blob);

  const Deps deps_;
};

}  // namespace perigee::objectd
