#include "objectd/drive/superblock.h"

#include "base/checksum.h"
#include "base/failpoint.h"

// Layout (docs/formats/superblock.md), little-endian, one page of 4096 bytes:
//    0  magic "PGEESUPR"        8  version u32 = 1        12  crc32c u32 of the page with this
//    field zero
//   16  cluster_id u64         24  drive_id u64           32  slot u32
//   36  k u32                  40  m u32                  44  drive_count u32
//   48  mirror_epoch u64       56  mirrors u32 (count)    60  drives u32 (count)
//   64  mirror ids u64 …, then drive ids u64 …, then zeros

namespace perigee::objectd {
namespace {

constexpr std::string_view kMagic = "PGEESUPR";
constexpr uint32_t kVersion = 1;
constexpr size_t kFixedBytes = 64;
constexpr size_t kIdsMax = (kPageBytes - kFixedBytes) / 8;

std::string PathIn(const std::string& dir) { return dir + "/superblock"; }

}  // namespace

std::string EncodeSuperblock(const Superblock& s) {
  PERIGEE_CHECK(s.mirrors.size() + s.drives.size() <= kIdsMax);
  std::string page(kPageBytes, '\0');
  auto* p = reinterpret_cast<uint8_t*>(page.data());
  std::memcpy(p, kMagic.data(), kMagic.size());
  PutLe<uint32_t>(p + 8, kVersion);
  PutLe<uint64_t>(p + 16, s.cluster_id);
  PutLe<uint64_t>(p + 24, s.drive_id);
  PutLe<uint32_t>(p + 32, s.slot);
  PutLe<uint32_t>(p + 36, s.k);
  PutLe<uint32_t>(p + 40, s.m);
  PutLe<uint32_t>(p + 44, s.drive_count);
  PutLe<uint64_t>(p + 48, s.mirror_epoch);
  PutLe<uint32_t>(p + 56, static_cast<uint32_t>(s.mirrors.size()));
  PutLe<uint32_t>(p + 60, static_cast<uint32_t>(s.drives.size()));
  uint8_t* ids = p + kFixedBytes;
  for (uint64_t id : s.mirrors) PutLe<uint64_t>(ids, id), ids += 8;
  for (uint64_t id : s.drives) PutLe<uint64_t>(ids, id), ids += 8;
  PutLe<uint32_t>(p + 12, Crc32c(AsBytes(page)));
  return page;
}

Result<Superblock> DecodeSuperblock(std::string_view bytes) {
  if (bytes.size() != kPageBytes || bytes.substr(0, kMagic.size()) != kMagic)
    return Status(Code::kCorrupt, "not a superblock");
  std::string page(bytes);
  auto* p = reinterpret_cast<uint8_t*>(page.data());
  uint32_t crc = GetLe<uint32_t>(p + 12);
  PutLe<uint32_t>(p + 12, 0);
  if (Crc32c(AsBytes(page)) != crc)
    return Status(Code::kCorrupt, "the superblock fails its checksum");
  // The version is judged after the checksum, so that a flipped bit is not taken for a newer
  // format.
  if (uint32_t version = GetLe<uint32_t>(p + 8); version != kVersion) {
    return Status(Code::kUnimplemented, "superblock format " + std::to_string(version) +
                                            "; this build knows " + std::to_string(kVersion));
  }
  Superblock s;
  s.cluster_id = GetLe<uint64_t>(p + 16);
  s.drive_id = GetLe<uint64_t>(p + 24);
  s.slot = GetLe<uint32_t>(p + 32);
  s.k = GetLe<uint32_t>(p + 36);
  s.m = GetLe<uint32_t>(p + 40);
  s.drive_count = GetLe<uint32_t>(p + 44);
  s.mirror_epoch = GetLe<uint64_t>(p + 48);
  uint64_t mirrors = GetLe<uint32_t>(p + 56), drives = GetLe<uint32_t>(p + 60);
  if (mirrors + drives > kIdsMax)
    return Status(Code::kCorrupt, "the superblock names too many drives");
  const uint8_t* ids = p + kFixedBytes;
  for (uint64_t i = 0; i < mirrors; i++, ids += 8) s.mirrors.push_back(GetLe<uint64_t>(ids));
  for (uint64_t i = 0; i < drives; i++, ids += 8) s.drives.push_back(GetLe<uint64_t>(ids));
  return s;
}

// From the device: what the page cache has says nothing about it.
Result<Superblock> ReadSuperblock(Disk& disk, const std::string& dir) {
  auto file = disk.Open(PathIn(dir), OpenMode::kRead, Caching::kDirect);
  if (file.code() == Code::kNotDirectory)
    return Status(Code::kNotFound, dir + " is not a directory");
  if (!file.ok()) return std::move(file).TakeStatus();
  PERIGEE_ASSIGN(uint64_t size, (*file)->Size());
  if (size != kPageBytes) return Status(Code::kCorrupt, PathIn(dir) + " is not one page");
  AlignedBuffer page(kPageBytes);
  PERIGEE_ASSIGN(size_t got, (*file)->ReadAt(0, page.span()));
  auto decoded = DecodeSuperblock(AsView(page.span().first(got)));
  if (!decoded.ok()) return decoded.status().With(PathIn(dir));
  return decoded;
}

Status WriteSuperblock(Disk& disk, const std::string& dir, const Superblock& superblock) {
  if (superblock.mirrors.size() + superblock.drives.size() > kIdsMax)
    return Status(Code::kTooLarge, "too many drives for one superblock");
  PERIGEE_FAILPOINT_STATUS(superblock_before_write);
  PERIGEE_TRY(WriteFileAtomically(disk, PathIn(dir), EncodeSuperblock(superblock)));
  PERIGEE_FAILPOINT(superblock_after_write);
  return Status::Ok();
}

}  // namespace perigee::objectd
