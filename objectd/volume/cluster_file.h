#pragma once
// The cluster file: <state dir>/cluster, which says that a cluster exists and what its drives are.
// Format: docs/formats/cluster.md. With it, a drive directory that is empty, foreign or gone is a
// lost drive, and never a place to format. A storage node's (node != 0) names its own drives only.
// Replaced atomically; blocks.

#include <cstdint>
#include <string>
#include <vector>

#include "base/disk.h"
#include "base/status.h"
#include "rdma/wire/codec.h"

namespace perigee::objectd {

struct ClusterDrive {
  uint64_t drive_id = 0;
  uint32_t slot = 0;
  std::string dir;
  bool forming = false;  // of a storage node: not formatted yet, so nothing is stored there
  wire::Unknown unknown;
  bool operator==(const ClusterDrive&) const = default;
  static void Fields(auto& s, auto& v) {
    v(1, s.drive_id);
    v(2, s.slot);
    v(3, s.dir);
    v(4, s.forming);
    v.Rest(s.unknown);
  }
};

struct ClusterFile {
  uint64_t cluster_id = 0;
  uint32_t k = 0, m = 0;
  std::vector<ClusterDrive> drives;  // by slot
  bool forming = false;              // not all drives are formatted yet, so nothing is stored yet
  uint64_t node = 0;                 // 0: the namespace node
  wire::Unknown unknown;
  bool operator==(const ClusterFile&) const = default;
  static void Fields(auto& s, auto& v) {
    v(1, s.cluster_id);
    v(2, s.k);
    v(3, s.m);
    v(4, s.drives);
    v(5, s.forming);
    v(6, s.node);
    v.Rest(s.unknown);
  }
};

std::string EncodeClusterFile(const ClusterFile& file);
// kCorrupt; kUnimplemented: newer format.
Result<ClusterFile> DecodeClusterFile(std::string_view bytes);
Result<ClusterFile> ReadClusterFile(Disk& disk,
                                    const std::string& state_dir);  // kNotFound: no cluster yet
Status WriteClusterFile(Disk& disk, const std::string& state_dir, const ClusterFile& file);

}  // namespace perigee::objectd
