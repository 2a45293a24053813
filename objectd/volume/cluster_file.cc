#include "objectd/volume/cluster_file.h"

#include "base/bytes.h"
#include "base/checksum.h"
#include "base/failpoint.h"

// Layout, little-endian: magic "PGEECLUS", version u32 = 1, message_bytes u32, crc32c u32 of the
// message, zero u32, message.

namespace perigee::objectd {
namespace {

constexpr std::string_view kMagic = "PGEECLUS";
constexpr uint32_t kVersion = 1;
constexpr size_t kHeaderBytes = 24;
constexpr uint64_t kFileBytesMax = 1 << 20;

std::string PathIn(const std::string& dir) { return dir + "/cluster"; }

}  // namespace

std::string EncodeClusterFile(const ClusterFile& file) {
  const std::string message = wire::Encode(file);
  std::string out(kHeaderBytes, '\0');
  auto* p = reinterpret_cast<uint8_t*>(out.data());
  std::memcpy(p, kMagic.data(), kMagic.size());
  PutLe<uint32_t>(p + 8, kVersion);
  PutLe<uint32_t>(p + 12, static_cast<uint32_t>(message.size()));
  PutLe<uint32_t>(p + 16, Crc32c(AsBytes(message)));
  return out + message;
}

Result<ClusterFile> DecodeClusterFile(std::string_view bytes) {
  if (bytes.size() < kHeaderBytes || !bytes.starts_with(kMagic))
    return Status(Code::kCorrupt, "not a cluster file");
  const auto* p = reinterpret_cast<const uint8_t*>(bytes.data());
  if (uint32_t version = GetLe<uint32_t>(p + 8); version != kVersion) {
    return Status(Code::kUnimplemented, "cluster file format " + std::to_string(version) +
                                            "; this build knows " + std::to_string(kVersion));
  }
  std::string_view message = bytes.substr(kHeaderBytes);
  if (message.size() != GetLe<uint32_t>(p + 12) ||
      Crc32c(AsBytes(message)) != GetLe<uint32_t>(p + 16))
    return Status(Code::kCorrupt, "the cluster file fails its checksum");
  return wire::Decode<ClusterFile>(message);
}

Result<ClusterFile> ReadClusterFile(Disk& disk, const std::string& state_dir) {
  PERIGEE_ASSIGN(std::string bytes, ReadWholeFile(disk, PathIn(state_dir), kFileBytesMax));
  auto file = DecodeClusterFile(bytes);
  if (!file.ok()) return file.status().With(PathIn(state_dir));
  return file;
}

Status WriteClusterFile(Disk& disk, const std::string& state_dir, const ClusterFile& file) {
  PERIGEE_FAILPOINT_STATUS(cluster_file_before_write);
  PERIGEE_TRY(WriteFileAtomically(disk, PathIn(state_dir), EncodeClusterFile(file)));
  PERIGEE_FAILPOINT(cluster_file_after_write);
  return Status::Ok();
}

}  // namespace perigee::objectd
