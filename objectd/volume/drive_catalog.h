#pragma once
// DriveCatalog: every drive that volumes may be on: this process's own (DriveSet), and those of
// other storage nodes (StorageNodes). Thread-safe.

#include <memory>
#include <string>
#include <vector>

#include "objectd/drive/drive.h"

namespace perigee::objectd {

struct DriveSlot {
  uint64_t drive_id = 0;
  uint32_t slot = 0;
  std::string dir;               // of another node's drive: "NAME:DIR"
  std::shared_ptr<Drive> drive;  // null: lost
  std::string problem;           // why it is lost, in words
  wire::NodeId node = 0;         // 0: this process
  std::string address;           // where others send its shards; empty: to this process
  // Of its node: nothing new is put there; and what it has is put elsewhere.
  bool closed = false, leaving = false;
};

// Of a drive of this process: what the drive says, or, where it is lost, its directory.
inline Result<Superblock> StoredSuperblock(Disk& disk, const DriveSlot& slot) {
  return slot.drive ? slot.drive->StoredSuperblock() : ReadSuperblock(disk, slot.dir);
}

// kPreconditionFailed: what is in the slot of a drive of this process may not give way to another.
inline Status CheckReplaceable(const DriveSlot& slot) {
  if (!slot.drive) return Status::Ok();
  if (slot.drive->online())
    return Status(Code::kPreconditionFailed,
                  "the drive in " + slot.dir + " is online; it is not replaced");
  if (slot.drive->hangs())
    return Status(Code::kPreconditionFailed,
                  "the drive in " + slot.dir +
                      " hangs: its device must answer, fail or be taken out before it is replaced");
  return Status::Ok();
}

class DriveCatalog {
 public:
  virtual ~DriveCatalog() = default;
  virtual uint64_t cluster_id() const = 0;
  virtual uint32_t k() const = 0;
  virtual uint32_t m() const = 0;
  virtual std::vector<DriveSlot> Slots() const = 0;
  virtual std::shared_ptr<Drive> Find(uint64_t drive_id) const = 0;  // null: lost, or not ours
};

}  // namespace perigee::objectd
