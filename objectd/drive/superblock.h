#pragma once
// Superblock: a drive's identity and its view of the metadata mirrors. One 4 KiB file, replaced
// atomically. Format: docs/formats/superblock.md.

#include <cstdint>
#include <string>
#include <vector>

#include "base/disk.h"
#include "base/status.h"

namespace perigee::objectd {

struct Superblock {
  uint64_t cluster_id = 0;
  uint64_t drive_id = 0;
  uint32_t slot = 0;              // place in the operator's list when formatted; for messages
  uint32_t k = 0, m = 0;          // the cluster's profile
  uint32_t drive_count = 0;       // N when the cluster was formed or grew
  uint64_t mirror_epoch = 0;      // grows by one with each change of the mirror set
  std::vector<uint64_t> mirrors;  // drive ids with an in-sync mirror, as of that epoch
  std::vector<uint64_t> drives;   // ids of all drives of the cluster, as of that epoch
  bool operator==(const Superblock&) const = default;
};

std::string EncodeSuperblock(const Superblock& superblock);
Result<Superblock> DecodeSuperblock(std::string_view bytes);
// <dir>/superblock. kNotFound: directory or file absent.
Result<Superblock> ReadSuperblock(Disk& disk, const std::string& dir);
Status WriteSuperblock(Disk& disk, const std::string& dir, const Superblock& superblock);

}  // namespace perigee::objectd
