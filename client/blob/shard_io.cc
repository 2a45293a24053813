#include "client/blob/shard_io.h"

namespace perigee::client {

const wire::VolumeInfo* VolumeMap::Find(uint32_t volume) const {
  for (const wire::VolumeInfo& v : volumes) {
    if (v.volume == volume) return &v;
  }
  return nullptr;
}

const wire::DriveInfo* VolumeMap::FindDrive(uint64_t drive_id) const {
  for (const wire::DriveInfo& d : drives) {
    if (d.drive_id == drive_id) return &d;
  }
  return nullptr;
}

}  // namespace perigee::client
