#include "objectd/volume/missing_shards.h"

#include <algorithm>

#include "client/ec/erasure_code.h"
#include "objectd/volume/liveness.h"

namespace perigee::objectd {
namespace {

constexpr size_t kShardsMax = client::kDataShardsMax + client::kParityShardsMax;

// Blobs below a size are whole copies, on the first m + 1 drives only; what of it is there tells.
bool IsCopied(const std::vector<std::shared_ptr<Drive>>& holders, const VolumeRecord& volume,
              const wire::BlobId& blob) {
  for (uint32_t i = 0; i < holders.size(); i++) {
    if (!holders[i]) continue;
    wire::ShardReadRequest head;
    head.drive_id = holders[i]->id();
    head.blob = blob;
    head.index = i;
    auto shard = holders[i]->ReadShard(head, rdma::TrafficClass::kRepair);
    if (shard.ok()) return shard->header.k == 1;
    shard.status().Ignore();  // a bad one: another tells
  }
  return volume.k > 1;  // nothing is left of it: what it lacks at least
}

}  // namespace

Result<std::vector<uint32_t>> MissingShards(kv::Store& store, DriveCatalog& drives,
                                            VolumeTable& table, const VolumeRecord& volume,
                                            uint64_t seq) {
  const wire::BlobId blob{volume.volume, seq};
  std::vector<std::shared_ptr<Drive>> holders(volume.drives.size());
  std::vector<uint32_t> missing;
  for (uint32_t i = 0; i < volume.drives.size(); i++) {
    auto drive = drives.Find(volume.drives[i]);
    if (!drive || table.StateOf(volume.drives[i]) != wire::DriveState::kOnline) continue;
    auto shards = drive->ListShards(blob, kShardsMax);
    if (shards.code() == Code::kUnavailable) {
      shards.status().Ignore();  // it went offline just now
      continue;
    }
    if (!shards.ok()) return std::move(shards).TakeStatus();
    const bool has = std::any_of(shards->begin(), shards->end(), [&](const auto& shard) {
      return shard.first == blob && shard.second == i;
    });
    if (has)
      holders[i] = std::move(drive);
    else
      missing.push_back(i);
  }
  if (missing.empty()) return missing;
  if (IsCopied(holders, volume, blob))
    std::erase_if(missing, [&](uint32_t i) { return i > volume.m; });
  if (missing.empty()) return missing;
  // Asked last: a blob that is deleted loses its references first.
  PERIGEE_ASSIGN(bool referenced, IsReferenced(store, volume.volume, seq));
  if (!referenced) missing.clear();
  return missing;
}

}  // namespace perigee::objectd
