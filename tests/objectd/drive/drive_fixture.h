#pragma once
// Shards to write and check, and a drive on a MemDisk.

#include <doctest/doctest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "base/checksum.h"
#include "base/random.h"
#include "objectd/drive/drive.h"

namespace perigee::objectd {

inline std::shared_ptr<rdma::SlabPool> TestSlabs() {
  auto slabs = rdma::SlabPool::Create({.bytes_max = 64 << 20});
  REQUIRE(slabs.ok());
  return *slabs;
}

struct TestShard {
  wire::ShardHeader header;
  AlignedBuffer bytes;
};

// `bytes` of a stream that (volume, seq, index, salt) decides, in chunks of 16 KiB.
inline TestShard MakeShard(uint32_t volume, uint64_t seq, uint32_t index, size_t bytes,
                           uint64_t salt = 0) {
  TestShard shard;
  shard.bytes = AlignedBuffer(bytes);
  Random random(volume * 1000003 + seq * 101 + index + salt * 7919);
  random.Fill(shard.bytes.data(), bytes);
  shard.header.blob = {volume, seq};
  shard.header.index = index;
  shard.header.k = 4;
  shard.header.m = 2;
  shard.header.blob_bytes = bytes * 4;
  shard.header.chunk_bytes = 16 << 10;
  for (size_t at = 0; at < bytes; at += shard.header.chunk_bytes) {
    size_t n = std::min<size_t>(shard.header.chunk_bytes, bytes - at);
    shard.header.chunk_crcs.push_back(Crc32c(shard.bytes.span().subspan(at, n)));
  }
  return shard;
}

inline wire::ShardReadRequest ReadOf(const TestShard& shard) {
  wire::ShardReadRequest request;
  request.blob = shard.header.blob;
  request.index = shard.header.index;
  request.length = shard.bytes.size();
  return request;
}

// True when the drive gives back exactly this shard.
inline bool Holds(Drive& drive, const TestShard& shard) {
  auto data = drive.ReadShard(ReadOf(shard));
  if (!data.ok()) return false;
  return data->header.chunk_crcs == shard.header.chunk_crcs &&
         data->bytes.size() == shard.bytes.size() &&
         std::equal(data->bytes.data(), data->bytes.data() + data->bytes.size(),
                    shard.bytes.data());
}

inline Code CodeOfRead(Drive& drive, const TestShard& shard) {
  auto data = drive.ReadShard(ReadOf(shard));
  return data.code();
}

inline constexpr uint64_t kTestCluster = 0xc1;

struct MemDrive {
  explicit MemDrive(DriveOptions o = {.segment_bytes = 1 << 20}, uint64_t seed = 1)
      : disk(MemDisk::Create(seed)), options(o) {
    Superblock superblock;
    superblock.cluster_id = kTestCluster;
    superblock.drive_id = 7;
    superblock.k = 4;
    superblock.m = 2;
    superblock.drive_count = 6;
    REQUIRE(Drive::Format(*disk, "/d", superblock).ok());
    Reopen();
  }
  void Reopen() {
    drive.reset();
    auto opened = TryOpen();
    REQUIRE_MESSAGE(opened.ok(), opened.status().ToString());
    drive = std::move(*opened);
  }
  Result<std::unique_ptr<Drive>> TryOpen() {
    return Drive::Open(
        "/d", kTestCluster, options,
        {.disk = disk.get(), .slabs = slabs, .metrics = metrics.get(), .watch = watch});
  }
  Status Write(const TestShard& shard) {
    return drive->WriteShard(shard.header, shard.bytes.span());
  }
  size_t SegmentFiles() {
    auto entries = disk->List("/d/segments");
    REQUIRE(entries.ok());
    return entries->size();
  }

  std::unique_ptr<MemDisk> disk;
  DriveOptions options;
  std::shared_ptr<rdma::SlabPool> slabs = TestSlabs();
  std::unique_ptr<metrics::Registry> metrics = metrics::Registry::Create();
  std::shared_ptr<DriveWatch> watch;  // null: drives are not guarded
  std::unique_ptr<Drive> drive;
};

}  // namespace perigee::objectd
