#include "objectd/volume/shard_check.h"

#include <algorithm>

#include "base/checksum.h"
#include "client/blob/geometry.h"
#include "client/ec/erasure_code.h"

namespace perigee::objectd {

Result<client::ShardData> ReadCheckedShard(Drive& drive, const VolumeRecord& volume,
                                           const wire::BlobId& blob, uint32_t index) {
  wire::ShardReadRequest request;
  request.drive_id = drive.id();
  request.blob = blob;
  request.index = index;
  PERIGEE_ASSIGN(client::ShardData head, drive.ReadShard(request, rdma::TrafficClass::kRepair));
  const auto geometry = client::Geometry::Of(head.header.blob_bytes, volume.k, volume.m);
  request.length = geometry.shard_bytes();
  if (request.length == 0 || request.length > client::kShardBytesMax)
    return Status(Code::kCorrupt, "its header makes no sense");
  auto data = drive.ReadShard(request, rdma::TrafficClass::kRepair);
  // A length that its own header does not bear out.
  if (data.code() == Code::kInvalidArgument) return Status(Code::kCorrupt, data.status().message());
  if (!data.ok()) return std::move(data).TakeStatus();
  if (data->header.chunk_crcs.size() != geometry.stripes)
    return Status(Code::kCorrupt, "its header makes no sense");
  for (uint32_t s = 0; s < geometry.stripes; s++) {
    ConstBytes chunk = data->bytes.span().subspan(geometry.ChunkOffset(s), geometry.ChunkBytes(s));
    if (Crc32c(chunk) != data->header.chunk_crcs[s])
      return Status(Code::kCorrupt, "chunk " + std::to_string(s) + " fails its checksum");
  }
  return data;
}

namespace {

Result<bool> IsListed(Drive& drive, const wire::BlobId& blob, uint32_t index) {
  PERIGEE_ASSIGN(auto shards,
                 drive.ListShards(blob, client::kDataShardsMax + client::kParityShardsMax));
  return std::any_of(shards.begin(), shards.end(), [&](const auto& shard) {
    return shard.first == blob && shard.second == index;
  });
}

}  // namespace

Result<uint64_t> CheckShard(Drive& drive, const VolumeRecord& volume, const wire::BlobId& blob,
                            uint32_t index) {
  for (int look = 0;; look++) {
    auto shard = ReadCheckedShard(drive, volume, blob, index);
    if (shard.ok()) return shard->bytes.size();
    if (shard.code() == Code::kUnavailable) return std::move(shard).TakeStatus();
    PERIGEE_ASSIGN(bool listed, IsListed(drive, blob, index));
    if (!listed) {
      shard.status().Ignore();  // deleted meanwhile
      return Status(Code::kNotFound, "no such shard");
    }
    // It may have been written anew while it was read: looked at once more before it counts.
    if (look == 0) {
      shard.status().Ignore();
      continue;
    }
    return Status(Code::kCorrupt, shard.status().message());
  }
}

}  // namespace perigee::objectd
