#pragma once
// Scrub: reads every sealed burst file back, at a limited rate, and holds it against its checksums
// (verify.h says what becomes of a bad one). Sealed files that have none yet get them.
//
// One pass at a time, over the files that were here when it began, in order of their ids. The
// position is stored every few seconds, so a restart goes on there. Passes begin by request, and
// `interval` after the last one. Slices run on the engine's work pool and post each other.
// Thread-safe. Stored as the value "scrub" of the index; format: docs/formats/scrub.md.

#include <mutex>
#include <vector>

#include "base/token_bucket.h"
#include "bufferd/seal.h"
#include "rdma/wire/scrub.h"

namespace perigee::bufferd {

struct ScrubOptions {
  uint64_t rate = 64 << 20;                  // bytes a second
  Nanos interval = 7 * 24 * 3600 * kSecond;  // 0: only by request
  Nanos save_every = 5 * kSecond;
};

// What is stored.
struct ScrubRow {
  wire::ScrubReport report;
  int64_t since = 0;        // wall ns: passes are counted from here while there was none
  wire::BurstId burst = 0;  // the next block is in this file, or in the first one behind
  uint64_t block = 0;
  wire::Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.report);
    v(2, s.since);
    v(3, s.burst);
    v(4, s.block);
    v.Rest(s.unknown);
  }
};

class Scrub {
 public:
  Scrub(Core& core, Sealer& sealer, ScrubOptions options, metrics::Registry* metrics);

  Status Start();  // once the store is loaded; goes on with a pass that was interrupted
  wire::ScrubReport Do(const wire::ScrubRequest& request);

 private:
  void Tick();
  void Begin(uint64_t rate);
  void Wake();
  void Arm(Nanos delay);
  void Slice();
  void List();
  uint64_t ReadSome();  // the bytes read; 0: all files are through
  // The bytes read of `file` from `block` on; the block to go on at, 0 when the file is through.
  uint64_t CheckSome(const FilePtr& file, uint64_t block, uint64_t* next);
  void Note(uint64_t bytes, bool damaged, bool kept, const std::string& finding);
  void End();
  void Save(Durable durable);
  void Expose();
  // With mu_: the slice's pass was not stopped.
  bool GoesOnLocked() const { return row_.report.running && pass_ == slice_pass_; }
  Nanos Now() const { return core_.clock->Monotonic(); }

  Core& core_;
  Sealer& sealer_;
  const ScrubOptions options_;
  metrics::Counter *const bytes_, *const damaged_;
  metrics::Gauge *const lost_, *const running_, *const completed_;

  // Of the running slice only: slices follow each other.
  uint64_t slice_pass_ = 0;
  std::vector<wire::BurstId> left_;  // descending

  mutable std::mutex mu_;  // guards what follows
  ScrubRow row_;
  uint64_t pass_ = 0;    // a slice of an earlier one changes nothing any more
  bool active_ = false;  // a slice runs, or will
  TokenBucket bucket_;
  Nanos rest_until_ = 0;
  Nanos saved_at_ = 0;
};

}  // namespace perigee::bufferd
