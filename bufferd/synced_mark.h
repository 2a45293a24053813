#pragma once
// SyncedMark: how far the burst index is known to be on the disk, in a small file beside it.
//
// RocksDB takes a log that ends in a bad record for one whose tail was not synced. This file tells
// the two apart: an index that comes back with less than the mark has lost what was synced. The
// mark is written after the sync, and not synced itself: it never says more than is durable, and
// where it is missing, old or unreadable nothing is concluded. Layout:
// docs/formats/burst-record.md. Thread-safe.

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

#include "base/disk.h"

namespace perigee::bufferd {

class SyncedMark {
 public:
  static constexpr size_t kBytes = 20;

  // Makes the file when it is absent.
  static Result<std::unique_ptr<SyncedMark>> Open(const std::string& path);

  uint64_t sequence() const;
  bool damaged() const;
  // The index is durable up to `sequence`. Best effort: a mark that is too low finds less.
  void Raise(uint64_t sequence);
  // Remembered over restarts, until Settle says that it is seen to: `sequence` is what is durable.
  Status SetDamaged();
  Status Settle(uint64_t sequence);

 private:
  explicit SyncedMark(std::unique_ptr<File> file) : file_(std::move(file)) {}
  void Load();
  Status Store();  // with mu_ held

  const std::unique_ptr<File> file_;
  mutable std::mutex mu_;  // guards what follows
  uint64_t sequence_ = 0;
  bool damaged_ = false;
};

}  // namespace perigee::bufferd
