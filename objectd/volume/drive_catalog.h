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

// Whether what a drive's directory has for a superblock says that the drive is gone from there.
inline bool IsGone(const Result<Superblock>& stored, uint64_t cluster_id, uint64_t drive_id) {
  return stored.ok() ? stored->cluster_id != cluster_id || stored->drive_id != drive_id
                     : stored.status().Is(Code::kNotFound);
}

// kPreconditionFailed: what is in the slot of a drive of this process may not give way to another.
// `silent`: what was asked of its device is not answered yet.
inline Status CheckReplaceable(const DriveSlot& slot, bool silent) {
  if (slot.drive && slot.drive->online())
    return Status(Code::kPreconditionFailed,
                  "the drive in " + slot.dir + " is online; it is not replaced");
  if (silent || (slot.drive && slot.drive->hangs()))
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
