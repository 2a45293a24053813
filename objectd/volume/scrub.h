#pragma once
// Scrub: reads every shard of every online drive back, at a limited rate, and holds it against its
// checksums, and before them the headers of the drive's segments, which are written anew where they
// rotted; then looks, by the drives' indexes, whether every blob that is referred to has all of
// its shards. A bad or missing one that is still wanted goes to Repair, and is looked at again
// before the pass ends: `mended`, or `lost` when it could not be rebuilt. Shards that nobody refers
// to are removed beside it (Repair::Clear).
//
// One pass at a time, one read at a time, drives in order of their ids. The position is stored
// every few seconds, so a restart goes on there; what it reads twice then is harmless. A drive that
// is not online is passed over: repair reads all of it when it returns. Passes begin by request,
// and `interval` after the last one. Slices run on `background` and post each other. Thread-safe.
// Stored under scrub_row.h; format: docs/formats/scrub.md.

#include <mutex>
#include <optional>

#include "base/token_bucket.h"
#include "objectd/volume/repair.h"
#include "objectd/volume/scrub_row.h"
#include "rdma/wire/scrub.h"

namespace perigee::objectd {

class Scrub {
 public:
  struct Options {
    uint64_t rate = 32 << 20;                  // bytes a second
    Nanos interval = 7 * 24 * 3600 * kSecond;  // 0: only by request
    Nanos save_every = 5 * kSecond;
    Nanos settle = 60 * kSecond;  // how long repair may take without getting anywhere
  };
  struct Deps {
    kv::Store* store = nullptr;
    DriveCatalog* drives = nullptr;
    VolumeTable* table = nullptr;
    Repair* repair = nullptr;
    Scheduler* background = nullptr;
    std::shared_ptr<TaskGate> gate;
    metrics::Registry* metrics = nullptr;  // may be null
  };
  Scrub(Options options, Deps deps);

  Status Load();  // before any other call
  void Start();   // goes on with the pass that a stop interrupted
  void Tick();    // begins one that is due
  wire::ScrubReport Do(const wire::ScrubRequest& request);

 private:
  enum class Found { kGood, kUnwanted, kBad, kUnknown };
  struct Gauges {
    metrics::Counter *bytes = nullptr, *damaged = nullptr;
    metrics::Gauge *lost = nullptr, *running = nullptr, *completed = nullptr;
  };

  void Begin(uint64_t rate);
  void Wake();
  void Arm(Nanos delay);
  void Slice();
  uint64_t ReadSome();  // the bytes read; 0: all drives are through
  bool CountSome();     // some blobs have their shards; false: all do
  void FoundBad(const Drive& drive, const wire::BlobId& blob, uint32_t index,
                const std::string& why);
  std::shared_ptr<Drive> NextDrive();
  void CheckOne(Drive& drive, const wire::BlobId& blob, uint32_t index);
  Found Look(Drive& drive, const wire::BlobId& blob, uint32_t index, uint64_t* bytes,
             std::string* why);
  bool Settle();  // true: what was bad is mended or lost
  void End();
  enum class Wait { kNo, kDurable };
  void Save(Wait wait);
  void Expose();
  uint64_t BytesOnDrives() const;
  // With mu_: the slice's pass was not stopped.
  bool GoesOnLocked() const { return row_.report.running && pass_ == slice_pass_; }
  Nanos Now() const { return deps_.background->clock().Monotonic(); }

  const Options options_;
  const Deps deps_;
  Gauges gauges_;

  // Of the running slice only: slices follow each other.
  uint64_t slice_pass_ = 0;
  Nanos settle_until_ = 0;

  mutable std::mutex mu_;  // guards what follows; a leaf
  ScrubRow row_;
  uint64_t pass_ = 0;    // a slice of an earlier one changes nothing any more
  bool active_ = false;  // a slice runs, or will
  TokenBucket bucket_;
  Nanos rest_until_ = 0;
  Nanos saved_at_ = 0;
};

}  // namespace perigee::objectd
