#pragma once
// Filler: fetches ranges of burst files that are copies: from blobs, from the namespace (inline),
// or from another node's burst buffer. Several ranges of a file are in flight at once; whoever
// waits, waits for its own range only. A fill belongs to the version the burst file was made for:
// another version is another burst file. Thread-safe.

#include <atomic>

#include "bufferd/budget.h"
#include "bufferd/core.h"

namespace perigee::bufferd {

class Filler {
 public:
  // on_whole: the last range arrived; the record is stored.
  Filler(Core& core, std::function<void(const FilePtr&)> on_whole)
      : core_(core), on_whole_(std::move(on_whole)) {}
  void SetBudget(Budget* budget) { budget_ = budget; }  // before Start

  // Returns when `range` (cut at the end of the content) can be read; starts what readahead asks
  // for as well when `ahead`. kDeadlineExceeded, or the fetch's error.
  Status Ensure(const FilePtr& file, ByteRange range, Nanos deadline, bool ahead);
  // Starts fetching everything; nobody waits.
  void Prefetch(const FilePtr& file);
  // Measured, of fetches in parallel that nobody holds up; for the decision whether an open waits.
  uint64_t bytes_per_second() const { return rate_.load(); }

  static constexpr uint64_t kRangeBytes = 16 << 20;
  static constexpr uint64_t kSmallRangeBytes =
      4 << 20;  // of a demanded range, so that its reader goes on early
  static constexpr uint32_t kInFlightMax = 4;  // ranges of one file

 private:
  // With the file's lock held: starts absent pieces of `want` while slots are free.
  // kPrefetch: nobody waits for it yet.
  void Start(const FilePtr& file, ByteRange want, uint64_t piece, rdma::TrafficClass traffic);
  void FillOne(const FilePtr& file, ByteRange range, rdma::TrafficClass traffic);
  Status Fetch(const wire::Version& source, wire::FileId id, ByteRange range,
               rdma::TrafficClass traffic, const client::BlobSink& sink);
  Status Finish(const FilePtr& file);
  Status FinishCrcs(const FilePtr& file, File& open);
  bool Moved(const FilePtr& file, wire::Version* source);
  void Measure(uint64_t bytes, Nanos took);

  Core& core_;
  const std::function<void(const FilePtr&)> on_whole_;
  Budget* budget_ = nullptr;
  std::atomic<uint64_t> rate_{1 << 30};
  std::atomic<uint32_t> running_{0};
};

}  // namespace perigee::bufferd
