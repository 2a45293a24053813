#pragma once
// SegmentFile: one segment in one use (generation): its open files, and the sync that concurrent
// writers share.
//
// Sync: every write that was complete before the call is on stable storage when it returns ok.
// Callers that arrive while a sync runs are covered together by the next one. A failed sync is
// final for the segment: every later call fails. Opened on first use. Readers keep it by
// shared_ptr; when the file is used afresh they go on with the old object and find by the
// generation that the record is gone. Thread-safe.

#include <memory>
#include <mutex>
#include <string>

#include "base/disk.h"
#include "base/event.h"
#include "base/metrics.h"
#include "base/status.h"
#include "objectd/drive/segment.h"

namespace perigee::objectd {

class SegmentFile {
 public:
  SegmentFile(Disk* disk, std::string path, SegmentHeader header, metrics::Counter* syncs)
      : disk_(disk), path_(std::move(path)), header_(header), syncs_(syncs) {}

  const SegmentHeader& header() const { return header_; }
  const std::string& path() const { return path_; }
  Result<File*> Buffered();
  // Null where the file system has no direct I/O.
  Result<File*> Direct();
  Status Sync();
  // Gives the range back. False: the file system cannot; the space comes back when the segment is
  // used afresh.
  Result<bool> Punch(uint64_t offset, uint64_t bytes);

 private:
  Disk* disk_;
  const std::string path_;
  const SegmentHeader header_;
  metrics::Counter* syncs_;  // may be null

  std::mutex open_mu_;  // guards the files' being opened
  std::unique_ptr<File> buffered_, direct_;
  bool no_direct_ = false;

  std::mutex sync_mu_;  // guards what follows
  CondVar sync_done_;
  uint64_t asked_ = 0, synced_ = 0;
  bool syncing_ = false;
  Status failed_;
};

}  // namespace perigee::objectd
