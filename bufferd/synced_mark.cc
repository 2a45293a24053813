#include "bufferd/synced_mark.h"

#include <array>
#include <cstring>

#include "base/checksum.h"
#include "base/log.h"

namespace perigee::bufferd {

// 0 magic "PBSM", 4 version, 6 flags (1: damaged), 8 sequence, 16 crc32c of all before it.
namespace {

constexpr char kMagic[] = "PBSM";
constexpr uint16_t kVersion = 1;
constexpr uint16_t kDamaged = 1;
constexpr size_t kCrcAt = 16;

}  // namespace

Result<std::unique_ptr<SyncedMark>> SyncedMark::Open(const std::string& path) {
  PERIGEE_ASSIGN(auto file, CreatePosixDisk(IoEngine::kPread)->Open(path, OpenMode::kCreateOrOpen));
  std::unique_ptr<SyncedMark> mark(new SyncedMark(std::move(file)));
  mark->Load();
  return mark;
}

void SyncedMark::Load() {
  std::array<uint8_t, kBytes> b{};
  Result<size_t> read = file_->ReadAt(0, b);
  if (!read.ok() || *read != kBytes) {
    read.status().Ignore();
    return;
  }
  uint16_t version = 0, flags = 0;
  uint32_t crc = 0;
  uint64_t sequence = 0;
  std::memcpy(&version, b.data() + 4, sizeof version);
  std::memcpy(&flags, b.data() + 6, sizeof flags);
  std::memcpy(&sequence, b.data() + 8, sizeof sequence);
  std::memcpy(&crc, b.data() + kCrcAt, sizeof crc);
  if (std::memcmp(b.data(), kMagic, 4) != 0 || version != kVersion ||
      crc != Crc32c(ConstBytes(b.data(), kCrcAt))) {
    return;
  }
  sequence_ = sequence;
  damaged_ = (flags & kDamaged) != 0;
}

Status SyncedMark::Store() {
  std::array<uint8_t, kBytes> b{};
  const uint16_t flags = damaged_ ? kDamaged : 0;
  std::memcpy(b.data(), kMagic, 4);
  std::memcpy(b.data() + 4, &kVersion, sizeof kVersion);
  std::memcpy(b.data() + 6, &flags, sizeof flags);
  std::memcpy(b.data() + 8, &sequence_, sizeof sequence_);
  const uint32_t crc = Crc32c(ConstBytes(b.data(), kCrcAt));
  std::memcpy(b.data() + kCrcAt, &crc, sizeof crc);
  return file_->WriteAt(0, b);
}

uint64_t SyncedMark::sequence() const {
  std::lock_guard lock(mu_);
  return sequence_;
}

bool SyncedMark::damaged() const {
  std::lock_guard lock(mu_);
  return damaged_;
}

void SyncedMark::Raise(uint64_t sequence) {
  std::lock_guard lock(mu_);
  if (sequence <= sequence_) return;
  sequence_ = sequence;
  if (Status s = Store(); !s.ok()) log::Warn("burst_index_mark_not_written", {{"error", s}});
}

Status SyncedMark::SetDamaged() {
  std::lock_guard lock(mu_);
  damaged_ = true;
  return Store();
}

Status SyncedMark::Settle(uint64_t sequence) {
  std::lock_guard lock(mu_);
  damaged_ = false;
  sequence_ = sequence;
  return Store();
}

}  // namespace perigee::bufferd
