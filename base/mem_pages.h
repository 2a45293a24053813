#pragma once
// MemPages: the bytes of one file of MemDisk, in pages of 4 KiB, with what the last sync made safe.
// For mem_disk.cc only.
//
// A page is absent (a hole), allocated and zero, or has bytes. Of each page changed since the last
// sync the synced one is kept beside it; Crash() puts some of those back. Thread rule: none of its
// own, the disk's mutex guards it.

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>

#include "base/bytes.h"
#include "base/random.h"

namespace perigee {

class MemPages {
 public:
  uint64_t size() const { return size_; }
  uint64_t allocated_bytes() const { return pages_.size() * kPageBytes; }

  size_t Read(uint64_t offset, MutableBytes data) const;  // up to the size
  void Write(uint64_t offset, ConstBytes data);
  void Truncate(uint64_t size);
  void Allocate(uint64_t offset, uint64_t bytes);
  void PunchHole(uint64_t offset, uint64_t bytes);
  // How many bytes more a write or allocation there would allocate.
  uint64_t Missing(uint64_t offset, uint64_t bytes) const;
  void FlipBit(uint64_t bit);  // below the size; as a bad drive does, so no sync is owed for it

  void Sync();
  // Each page changed since the last sync is kept or goes back, by a draw; so is the size.
  void Crash(Random& random);

 private:
  using Bytes = std::array<uint8_t, kPageBytes>;
  using Page = std::shared_ptr<Bytes>;  // null: zeros

  void KeepSynced(uint64_t page);  // before a change of it
  Bytes& Writable(uint64_t page);
  void ZeroWithin(uint64_t page, size_t from, size_t to);

  uint64_t size_ = 0;
  uint64_t synced_size_ = 0;
  std::map<uint64_t, Page> pages_;
  std::map<uint64_t, std::optional<Page>> synced_;  // of changed pages; nullopt: was absent
  std::set<uint64_t> cut_;  // pages a truncation changed: they come back with the size
};

}  // namespace perigee
