#pragma once
// A drive in a directory of the machine, for tests.

#include <stdlib.h>

#include <filesystem>

#include "tests/objectd/drive/drive_fixture.h"

namespace perigee::objectd {

struct PosixDrive {
  explicit PosixDrive(uint64_t segment_bytes) : segment_bytes(segment_bytes) {
    std::string pattern =
        (std::filesystem::temp_directory_path() / "perigee-drive-XXXXXX").string();
    REQUIRE(mkdtemp(pattern.data()) != nullptr);
    root = pattern;
    dir = root + "/d";
    Superblock superblock;
    superblock.cluster_id = kTestCluster;
    superblock.drive_id = 7;
    REQUIRE(Drive::Format(*disk, dir, superblock).ok());
    Open();
  }
  ~PosixDrive() {
    drive.reset();
    std::filesystem::remove_all(root);
  }
  void Open() {
    drive.reset();
    auto opened = Drive::Open(dir, kTestCluster, {.segment_bytes = segment_bytes},
                              {.disk = disk.get(), .slabs = slabs});
    REQUIRE_MESSAGE(opened.ok(), opened.status().ToString());
    drive = std::move(*opened);
  }

  const uint64_t segment_bytes;
  std::unique_ptr<Disk> disk = CreatePosixDisk();
  std::string root, dir;
  std::shared_ptr<rdma::SlabPool> slabs = TestSlabs();
  std::unique_ptr<Drive> drive;
};

}  // namespace perigee::objectd
