#pragma once
// VolumeTable: volumes, drives and leases: records in the store, cached here as the map that
// readers and writers get.
//
// Every change is durable before the map shows it, and the map's epoch, itself stored, grows with
// each. So a writer that sees a drive as not online may count a blob without it: that fact survives
// a crash. A volume is writable while all its drives are online. With too few drives for the
// profile, leases go to narrower volumes of the same M, made when first needed. Thread-safe; blocks
// on the store.

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "base/clock.h"
#include "base/event.h"
#include "client/blob/shard_io.h"
#include "objectd/kv/store.h"
#include "objectd/volume/drive_set.h"
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
  };
  // Reads the records, makes those of a new cluster, and brings them to what the drives are now.
  static Result<std::unique_ptr<VolumeTable>> Create(Options options, kv::Store* store,
                                                     DriveSet* drives, Clock* clock);
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
  // are over.
  Status SwapDrive(uint32_t volume, uint64_t from, uint64_t to);
  Status SetVerify(const std::vector<uint32_t>& volumes, int64_t verify_after);  // 0: done
  // Forgets records of drives that no slot and no volume has any more.
  Status ForgetRetired();
  int64_t LeasesOver() const;  // wall time at which every lease of now has expired

  void RefreshSpace();  // free bytes in the map; no new epoch

 private:
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

  VolumeTable(Options options, kv::Store* store, DriveSet* drives, Clock* clock);
  Status Load();
  Status CreateVolumes(uint32_t k, const std::vector<uint64_t>& drives);
  Status Commit(Changes changes);  // with the turn
  void PublishLocked();
  std::vector<uint64_t> OnlineDrives() const;
  Result<wire::VolumeInfo> PickWritable(uint64_t spread);
  kv::IdAllocator& Sequences(uint32_t volume);

  const Options options_;
  kv::Store* const store_;
  DriveSet* const drives_;
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
  std::shared_ptr<const client::VolumeMap> map_;
  std::map<uint32_t, std::unique_ptr<kv::IdAllocator>> sequences_;
};

}  // namespace perigee::objectd
