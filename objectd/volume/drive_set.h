#pragma once
// DriveSet: the drives of this process, and the cluster they say they are.
//
// Open decides between a new cluster and a known one, by the cluster file in state_dir and the
// drives' superblocks:
//   no file, no superblocks   a new cluster is formatted (create_if_new), in directories that are
//   absent or empty only file                      drives are found by their superblocks; a
//   directory without the right one is a lost drive, named in
//                             the log and in Slots(), never formatted
//   no file, superblocks      the file is written again from them (the state directory was lost);
//   so is a file that fails its checksum
// Refused, naming the directory: drives of another cluster (kPreconditionFailed), of a newer format
// (kUnimplemented), fewer than N - M superblocks or no in-sync mirror among the drives
// (kUnavailable). A drive whose device does not answer is a lost one until it does
// (drive_opener.h).
//
// It is also the store's MirrorMembership: the mirror set lives in the superblocks, under an epoch
// that grows with each change; a change is durable on at least min(M + 1, N - M) drives, or fails:
// with M drives lost it still succeeds, and from N = 2 M + 1 on every N - M drives that a start
// needs know of it. Open itself ejects mirrors whose drives are lost, before a commit could pass
// them by. Drives have slots, which outlive them: a replaced drive's successor has its slot.
// Thread-safe; blocks.

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "objectd/drive/drive.h"
#include "objectd/kv/rocks_store.h"
#include "objectd/volume/cluster_file.h"
#include "objectd/volume/drive_catalog.h"
#include "objectd/volume/drive_opener.h"

namespace perigee::objectd {

struct Profile {
  uint32_t k = 1, m = 0;
};
// What a new cluster of that many drives gets when nothing was asked for: two parity shards from
// four drives on.
Profile DefaultProfile(size_t drives);

class DriveSet final : public DriveCatalog, public kv::MirrorMembership {
 public:
  struct Options {
    std::vector<std::string> dirs;
    uint32_t k = 0,
             m = 0;  // 0 + 0: the cluster's own, or the default. Else it must be the cluster's
    std::string state_dir;      // must exist
    bool create_if_new = true;  // false: kNotFound where there is no cluster
    DriveOptions drive;
    DrivePatience patience;
  };
  static Result<std::unique_ptr<DriveSet>> Open(Options options, DriveDeps deps);
  ~DriveSet() override { Stop(); }

  uint64_t cluster_id() const override { return cluster_id_; }
  uint32_t k() const override { return profile_.k; }
  uint32_t m() const override { return profile_.m; }
  // This cluster is being formed: the store must be created, not found. Until ConfirmFormed, a
  // restart forms it again.
  bool formed_now() const { return formed_now_; }
  Status
  ConfirmFormed();  // once the store and the volumes are there, before anything else is stored
  Disk& disk() const { return *deps_.disk; }

  std::vector<DriveSlot> Slots() const override;
  std::shared_ptr<Drive> Find(uint64_t drive_id) const override;

  // In sync as of the highest epoch, on drives that are here: for RocksStoreOptions::mirrors.
  std::vector<kv::MirrorPlace> MirrorPlaces() const;
  std::vector<uint64_t> MirrorIds() const;  // the same set, lost drives included
  static kv::MirrorPlace PlaceOf(const Drive& drive) { return {drive.id(), drive.dir() + "/meta"}; }
  uint32_t mirrors_wanted() const;      // min(N, M + 1)
  uint32_t superblocks_needed() const;  // for a change of the mirrors
  Status Eject(uint64_t drive_id, const std::string& reason) override;
  Status Admit(uint64_t drive_id) override;

  // Formats a new drive in the directory of a lost or offline one, which must be absent or empty;
  // it gets the slot. kNotFound: no drive of this cluster was there. kPreconditionFailed: the drive
  // is not lost, or the directory not empty.
  Result<DriveSlot> Replace(const std::string& dir);
  // Takes drives offline whose superblock has gone from under them, writes those anew that rotted,
  // and opens lost drives that are back. Now and then.
  void Probe();

  bool SharesFileSystem() const;
  void Stop();

 private:
  DriveSet(Options options, DriveDeps deps)
      : options_(std::move(options)),
        deps_(deps),
        opener_(options_.drive, deps, options_.patience) {}
  Status Form();
  Status FormatAll();
  Status Recover(const std::map<std::string, Superblock>& found);
  Status Match(const std::map<std::string, Superblock>& found);
  Status CheckAllAnswer() const;
  DriveOpener::Wanted WantedIn(const DriveSlot& slot) const {
    return {slot.dir, slot.drive_id, cluster_id_};
  }
  Status OpenAll();
  Status EjectLost();
  Result<std::map<std::string, Superblock>> ReadSuperblocks();
  Superblock SuperblockOfLocked(const DriveSlot& slot) const;
  ClusterFile FileLocked() const;
  Status ChangeMirrors(uint64_t drive_id, bool in_sync);
  void MendSuperblock(Drive& drive, const Status& cause);
  Status SpreadSuperblocks(uint64_t epoch, const std::vector<uint64_t>& mirrors);

  const Options options_;
  const DriveDeps deps_;
  DriveOpener opener_;  // of Open's, then under change_mu_
  uint64_t cluster_id_ = 0;
  Profile profile_;
  bool formed_now_ = false;

  std::mutex
      change_mu_;  // one change of mirrors or slots at a time; held over disk writes; before mu_
  mutable std::mutex mu_;  // guards what follows
  std::vector<DriveSlot> slots_;
  uint64_t mirror_epoch_ = 0;
  std::vector<uint64_t> mirrors_;
};

}  // namespace perigee::objectd
