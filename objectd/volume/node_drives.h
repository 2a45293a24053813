#pragma once
// NodeDrives: the drives of a storage node that has joined a cluster, or is about to.
//
// What they are is in the cluster file of its state directory. A directory that it does not name is
// a new drive: formatted for the cluster when that is absent or empty, taken over when it holds a
// drive of the same cluster (moved here from another node), refused otherwise. A directory that it
// names, without the right superblock, is a lost drive, and never formatted; so is one whose device
// does not answer, until it does (drive_opener.h). Thread-safe; blocks.

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "objectd/volume/cluster_file.h"
#include "objectd/volume/drive_catalog.h"
#include "objectd/volume/drive_opener.h"
#include "rdma/wire/node.h"

namespace perigee::objectd {

class NodeDrives {
 public:
  struct Options {
    std::vector<std::string> dirs;
    std::string state_dir;  // must exist
    DriveOptions drive;
    DrivePatience patience;
  };
  // Reads the file, or makes a new node. kPreconditionFailed: the directory is a namespace node's.
  static Result<std::unique_ptr<NodeDrives>> Create(Options options, DriveDeps deps);
  ~NodeDrives() { Stop(); }

  wire::NodeId node() const { return file_.node; }
  uint64_t cluster_id() const;  // 0: in none yet
  // Opens the drives, new ones formatted first. Errors name the directory.
  Status Open(uint64_t cluster_id);

  std::shared_ptr<Drive> Find(uint64_t drive_id) const;  // null: lost, or not here
  std::vector<wire::NodeDrive> Report() const;
  // Takes drives offline whose superblock has gone from under them, and opens lost ones that are
  // back. Now and then.
  void Probe();
  // Formats a new drive in the directory of a lost one, which must be absent or empty. The old one
  // is this node's no more. Errors as DriveSet::Replace.
  Result<wire::NodeDrive> Replace(const std::string& dir);
  void Stop();

 private:
  NodeDrives(Options options, DriveDeps deps)
      : options_(std::move(options)),
        deps_(deps),
        opener_(options_.drive, deps, options_.patience) {}
  Status AddNew(ClusterFile* file);
  Status FormatNew(ClusterFile* file);
  void OpenSlots(std::vector<DriveSlot>* slots);
  bool IsGiven(const DriveSlot& slot) const;
  DriveOpener::Wanted WantedIn(const DriveSlot& slot) const {
    return {slot.dir, slot.drive_id, file_.cluster_id};
  }
  wire::NodeDrive Describe(const DriveSlot& slot) const;
  Status Save(const ClusterFile& file);

  const Options options_;
  const DriveDeps deps_;
  std::mutex change_mu_;   // one change at a time; held over disk writes; before mu_
  DriveOpener opener_;     // under change_mu_
  mutable std::mutex mu_;  // guards what follows
  ClusterFile file_;
  std::vector<DriveSlot> slots_;
};

}  // namespace perigee::objectd
