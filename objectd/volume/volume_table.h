#pragma once
// VolumeTable: volumes, drives and leases: records in the store, cached here as the map that
// readers and writers get.
//
// Every change is durable before the map shows it, and the map's epoch, itself stored, grows with
// each. So a writer that sees a drive as not online may count a blob without it: that fact survives
// a crash. A volume is writable while all its drives are online. With too few drives for the
// profile, leases go to narrower volumes of the same M, made when first needed. They go to volumes
// that are spread over nodes as well as any are, keep away from nodes that drain, and from shards
// on their way elsewhere, while there are others. Thread-safe; blocks on the store.

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "base/clock.h"
#include "base/event.h"
#include "client/blob/shard_io.h"
#include "objectd/kv/store.h"
#include "objectd/volume/drive_catalog.h"
#include "objectd/volume/move_plan.h"
#include "objectd/volume/volume_layout.h"
#include "objectd/volume/volume_records.h"

namespace perigee::objectd {

class VolumeTable {
 public:
  struct Options {
    wire::NodeId node = 0;
    Nanos lease = 15 * 60 * kSecond;
    Nanos list_lease =
        24 * 3600 * kSecond;  // an extent list that no commit took: long writes build lists
    uint64_t low_space_bytes =
        256 << 20;  // volumes with a drive below are leased only if there is no other
    Nanos cover_after = 3 * kSecond;
    Nanos repair_after = 600 * kSecond;
  };
  // Reads the records, makes those of a new cluster, and brings them to what the drives are now.
  static Result<std::unique_ptr<VolumeTable>> Create(Options options, kv::Store* store,
                                                     DriveCatalog* drives, Clock* clock);
  ~VolumeTable();

  std::shared_ptr<const client::VolumeMap> Map() const;
  std::vector<VolumeRecord> Volumes() const;
  std::vector<DriveRecord> Drives() const;
  std::optional<VolumeRecord> FindVolume(uint32_t volume) const;
  wire::DriveState StateOf(uint64_t drive_id) const;  // kLost when unknown

  Result<wire::LeaseReply> Lease(const wire::LeaseRequest& request);
  // Ends what a node leased before it started as `incarnation`: nobody is left to commit it.
  // Durable.
  Status EndLeasesBefore(wire::NodeId node, uint64_t incarnation);
  Result<uint64_t> AddExtents(const wire::AddExtentsRequest& request);
  Result<wire::GetExtentsReply> GetExtents(const wire::GetExtentsRequest& request);

  // Durable, and in the map, when they return ok.
  Status SetDriveState(uint64_t drive_id, wire::DriveState state, const std::string& reason);
  // Records what the drives themselves say: offline ones, lost ones, returned and replaced ones
  // (kRepairing).
  Status SyncWithDrives();
  // `to` takes the place of `from` in the volume; the volume is to be verified when today's leases
  // are over. What `from` has of it is to be removed then.
  Status SwapDrive(uint32_t volume, uint64_t from, uint64_t to);
  Status StartMove(const PlannedMove& move);
  // What the target has of it is to be removed.
  Status CancelMove(uint32_t volume, uint32_t index);
  // What that drive has of it, other than in its place, is to be removed.
  Status AddLeft(uint32_t volume, uint64_t drive_id);
  // Nothing of the volume is on that drive any more, or the drive is gone.
  Status ForgetLeft(uint32_t volume, uint64_t drive_id);
  // Makes volumes of all drives that take shards, when one of them is in none and they have been
  // the same for `cover_after`.
  Status CoverDrives();
  // What moves are planned of. Drives of other nodes that have been away for `repair_after` are
  // left.
  struct Picture {
    std::vector<PlanVolume> volumes;
    std::vector<PlanDrive> drives;
    std::vector<uint32_t> m_of_volume;
  };
  Picture Now() const;
  Status SetVerify(const std::vector<uint32_t>& volumes, int64_t verify_after);  // 0: done
  // Forgets records of drives that no slot and no volume has any more.
  Status ForgetRetired();
  Nanos lease() const { return options_.lease; }
  int64_t LeasesOver() const;  // wall time at which every lease of now has expired

  void RefreshSpace();  // free bytes in the map; no new epoch

 private:
  struct Place {
    std::string address;
    bool closed = false, leaving = false;
    bool operator==(const Place&) const = default;
  };
  struct Changes {
    std::vector<VolumeRecord> volumes;
    std::vector<DriveRecord> drives;
    std::vector<uint64_t> forgotten;
    bool empty() const { return volumes.empty() && drives.empty() && forgotten.empty(); }
  };
  // The right to change records. Changes read, commit and publish as one step; no mutex is held
  // meanwhile.
  class Turn {
   public:
    explicit Turn(VolumeTable* table);
    ~Turn();
    Turn(const Turn&) = delete;

   private:
    VolumeTable* table_;
  };

  VolumeTable(Options options, kv::Store* store, DriveCatalog* drives, Clock* clock);
  Status Load();
  Status CreateVolumes(uint32_t k, const std::vector<PlacedDrive>& drives);
  Status Commit(Changes changes);  // with the turn
  Status ChangeVolume(uint32_t volume, const std::function<Status(VolumeRecord*)>& change);
  void PublishLocked();
  std::vector<PlacedDrive> UsableDrives() const;
  Result<wire::VolumeInfo> PickWritable(uint64_t spread);
  uint32_t PickBest(const client::VolumeMap& map, uint32_t k, uint64_t spread) const;
  kv::IdAllocator& Sequences(uint32_t volume);

  const Options options_;
  kv::Store* const store_;
  DriveCatalog* const drives_;
  Clock* const clock_;
  kv::IdAllocator intents_;
  kv::IdAllocator lists_;

  mutable std::mutex mu_;  // guards what follows
  CondVar turn_free_;
  bool turn_taken_ = false;  // one change at a time
  uint64_t epoch_ = 0;
  std::map<uint32_t, VolumeRecord> volumes_;
  std::map<uint64_t, DriveRecord> records_;
  std::map<uint64_t, SpaceInfo> space_;
  std::map<uint64_t, Place> places_;  // by drive, as the slots last said
  std::vector<uint64_t> usable_;      // drives, and since when they are these
  Nanos usable_since_ = 0;
  std::shared_ptr<const client::VolumeMap> map_;
  std::map<uint32_t, std::unique_ptr<kv::IdAllocator>> sequences_;
};

}  // namespace perigee::objectd
