#include "objectd/volume/volume_records.h"

#include "base/bytes.h"
#include "objectd/kv/key_space.h"

namespace perigee::objectd {
namespace {

std::string Prefix(kv::KeySpace space) { return std::string(1, static_cast<char>(space)); }

}  // namespace

std::vector<uint64_t> PlacesOf(const VolumeRecord& volume, uint32_t index) {
  std::vector<uint64_t> places;
  if (index < volume.drives.size()) places.push_back(volume.drives[index]);
  for (const ShardMove& move : volume.moves)
    if (move.index == index) places.push_back(move.to);
  places.insert(places.end(), volume.left.begin(), volume.left.end());
  return places;
}

std::string VolumeKey(uint32_t volume) {
  std::string key = Prefix(kv::KeySpace::kVolume);
  AppendBe32(&key, volume);
  return key;
}

std::string DriveKey(uint64_t drive_id) {
  std::string key = Prefix(kv::KeySpace::kDrive);
  AppendBe64(&key, drive_id);
  return key;
}

std::string MapEpochKey() { return Prefix(kv::KeySpace::kVolume); }

kv::Range VolumeRange() {
  kv::Range range = kv::PrefixRange(Prefix(kv::KeySpace::kVolume));
  range.begin = VolumeKey(0);
  return range;
}

bool IsVolumeKey(std::string_view key) {
  return key.size() == 5 && key[0] == static_cast<char>(kv::KeySpace::kVolume);
}

kv::Range DriveRange() { return kv::PrefixRange(Prefix(kv::KeySpace::kDrive)); }

std::string StorageNodeKey(wire::NodeId node) {
  std::string key = Prefix(kv::KeySpace::kStorageNode);
  AppendBe64(&key, node);
  return key;
}

kv::Range StorageNodeRange() { return kv::PrefixRange(Prefix(kv::KeySpace::kStorageNode)); }

std::string EncodeEpoch(uint64_t epoch) {
  std::string value(8, '\0');
  PutLe<uint64_t>(reinterpret_cast<uint8_t*>(value.data()), epoch);
  return value;
}

Result<uint64_t> DecodeEpoch(std::string_view value) {
  if (value.size() != 8) return Status(Code::kCorrupt, "the volume map's epoch is not 8 bytes");
  return GetLe<uint64_t>(reinterpret_cast<const uint8_t*>(value.data()));
}

}  // namespace perigee::objectd
