#pragma once
// Sealer: finds out when a published burst file stops changing, and ends the write in the
// namespace.
//
// RELEASE is not the end of changes: mappings, dup'ed and passed descriptors outlive it. So from at
// least 1 ms after the last writer's handle is gone the file is tested (StoreDir::Unwritten, under
// its lock) until the kernel says that no writable descriptor or mapping is left, with growing
// pauses. Then: what changed since the last publish is published, EndWrite, state sealed; a file
// that was never published is dropped and its predecessor serves again. Sealed burst layouts get a
// crc32c per 1 MiB and go to the flusher. Files that are closed in short order are done together:
// one task, and one call to the namespace for all of them. Thread-safe.

#include <deque>
#include <functional>
#include <mutex>
#include <vector>

#include "bufferd/core.h"
#include "bufferd/publish.h"

namespace perigee::bufferd {

class Sealer {
 public:
  // on_sealed: burst layouts, ready to be flushed.
  Sealer(Core& core, Publisher& publisher, std::function<void(const FilePtr&)> on_sealed)
      : core_(core), publisher_(publisher), on_sealed_(std::move(on_sealed)) {}
  // The last writer's handle was released (or died), at least `delay` ago when the test runs.
  void Queue(const FilePtr& file, Nanos delay = kFirstTest);
  // Computes and stores the checksums of a sealed file, if it has none. kCorrupt never; kConflict:
  // it changed.
  Status Checksum(const FilePtr& file);
  // What was superseded by a file that was never published serves its id again: `before`, or the
  // newest before it that is still there. The result is that one; none may be left.
  FilePtr Reinstate(FilePtr before);

  static constexpr Nanos kFirstTest = 2 * kMillisecond;

 private:
  // A file whose test said that it stays as it is; held busy until it is sealed.
  struct Candidate {
    FilePtr file;
    bool ends = false;  // the namespace has to hear of it
    Status status;
  };
  struct Waiting {
    FilePtr file;
    Nanos due = 0;
  };
  static constexpr Nanos kPassEvery = 10 * kMillisecond;

  void Await(const FilePtr& file, Nanos due);
  void Arm();
  void Pass();
  std::vector<FilePtr> TakeDue();
  bool Hold(const FilePtr& file);
  bool Quiet(const FilePtr& file);
  void Prepare(Candidate* candidate);
  void EndWrites(std::vector<Candidate>* candidates);
  void Finish(Candidate* candidate);
  Status Discard(const FilePtr& file);
  Status EnsureWriter(const FilePtr& file);
  Result<bool> Changed(const FilePtr& file);

  Core& core_;
  Publisher& publisher_;
  const std::function<void(const FilePtr&)> on_sealed_;
  std::mutex mu_;  // guards what follows
  std::deque<Waiting> waiting_;
  bool armed_ = false;  // a pass is to come, or under way
  Nanos next_pass_ = 0;
};

}  // namespace perigee::bufferd
