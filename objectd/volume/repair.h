#pragma once
// Repair: brings drives and volumes back to full redundancy, in the background, several blobs at
// once.
//
//   fill      a drive in kRepairing (replaced or returned): for each of its volumes, every
//   referenced blob's shard that it does
//             not have is rebuilt onto it, until a pass finds none missing. A replaced drive then
//             takes its predecessor's place in the volume, in one commit. When all volumes are
//             done, shards that nothing refers to are removed, and the drive is online.
//   verify    a volume whose verify_after has passed: the same passes over all its drives, and
//   garbage removed from them. That
//             finds what blobs lack that were written under leases from before a drive came back,
//             and what those covered.
//   move      a shard index of a volume on its way to another drive (VolumeRecord::moves): filled
//   as above, each shard copied from the drive that is left while that answers; then the drives
//   are swapped in one commit. Until the volume is verified, it is looked through again every few
//   seconds for what writers with older leases sent the old way; then what the old drive still has
//   of it is removed. Moves are decided here, one at a time (move_plan.h), those that only spread
//   shards better at a pace.
//   reports   single shards that readers and writers found missing or bad, on drives that are
//   online. Bounded; checked first.
// A rebuilt shard is kept only if its blob is still referenced afterwards. Progress is what lies on
// the drives, so that a restart goes on where it was. Work is in slices that post each other;
// nothing waits for a pool that it runs on, but the blob reader's shard pool must be another one.
// Thread-safe.

#include <atomic>
#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <vector>

#include "client/blob/blob_io.h"
#include "objectd/volume/task_gate.h"
#include "objectd/volume/volume_table.h"

namespace perigee::objectd {

class Repair {
 public:
  struct Options {
    uint32_t blobs_in_flight = 4;
    uint32_t blobs_per_slice = 32;
    Nanos pause = 0;                   // between slices
    Nanos retry_after = 10 * kSecond;  // of what could not be rebuilt now
    Nanos hopeless_for =
        600 * kSecond;  // reports of a blob that cannot be rebuilt are not looked at again
    size_t reports_max = 4096;
    Nanos settle_every = 10 * kSecond;
    // What was sent under a lease that is over arrives within this: a call's longest time.
    Nanos stray_after = 35 * kSecond;
    uint64_t spread_rate = 64 << 20;  // bytes a second of moves that only spread
    MoveLimits moves;
  };
  struct Deps {
    kv::Store* store = nullptr;
    DriveCatalog* drives = nullptr;
    VolumeTable* table = nullptr;
    client::Cluster* cluster = nullptr;
    client::BlobReader* reader = nullptr;
    Scheduler* background = nullptr;
    std::shared_ptr<TaskGate> gate;
    metrics::Registry* metrics = nullptr;
  };
  struct Figures {
    bool running = false;
    uint64_t volumes_to_repair = 0;  // with a drive that is not online
    uint64_t blobs_to_repair = 0;    // known to miss shards now
    uint64_t shards_rebuilt = 0, bytes_rebuilt = 0;
    uint64_t blobs_unrepairable = 0;
    uint64_t garbage_removed = 0;
  };
  Repair(Options options, Deps deps);

  void Kick();  // looks for work, unless it is at it
  void Report(const wire::VolumeReportRequest& report);
  // Removes what a drive has that is none of its own; soon, and once it is online. For what
  // deletions have missed, or a power cut brought back.
  void Clear(uint64_t drive_id);
  Figures figures() const;
  // Too many of its shards were bad or gone when it was last tried.
  bool Unrepairable(const wire::BlobId& blob) const;

 private:
  struct Item {
    uint32_t volume = 0;
    uint64_t seq = 0;
    uint32_t index = 0;
    uint64_t target = 0;   // drive id
    bool suspect = false;  // reported: look first
    uint64_t source = 0;   // drive id that has it, perhaps
    auto operator<=>(const Item&) const = default;
  };
  enum class Fate { kDone, kNothing, kRetry };
  // One pass after another over the blobs of a volume, for the shards of one index on one drive.
  struct Fill {
    enum class Why { kDrive, kVerify, kMove, kSettle };
    uint32_t volume = 0;
    uint32_t index = 0;
    uint64_t target = 0;
    uint64_t replaces = 0;  // drive id to swap out at the end; 0: none
    Why why = Why::kDrive;
    bool paced = false;
    uint32_t passes = 0;  // ended
    uint64_t cursor = 0;
    bool pass_ended = false;
    uint64_t rebuilt = 0, retries = 0;  // in this pass
  };
  // Removes from a drive what nothing refers to, and what belongs elsewhere: all of it, or after a
  // verification one volume's. Of a volume that is not verified, a living blob's shard stays, and
  // the drive is left: it is looked through again when the volume is verified.
  struct Reconcile {
    uint64_t drive = 0;
    wire::BlobId cursor;
    uint32_t volume = 0;  // 0: all
    // The drive is none of the volume's any more; of volume 0: this is all that there is to do.
    bool left = false;
    bool kept_misplaced = false;  // shards elsewhere of volumes that are not verified
    bool clears() const { return left && volume == 0; }  // see Clear
  };

  // Of the leases that had not expired when they were read.
  struct Leases {
    int64_t read_at = 0;                       // wall
    std::map<uint32_t, int64_t> first_expiry;  // by volume
  };

  void Slice();
  void PostSlice(Nanos rest = 0);
  bool TakeReports(std::vector<Item>* items);
  bool PickJob();
  bool PickFill(const DriveRecord& drive, bool* complete);
  bool PickVerify();
  bool PickSettle();
  bool PickClear();
  bool PickLeft();
  bool PickMove();
  bool PlanMove();
  bool MayEnd(const Fill& fill);
  Result<bool> LeasesOver(const VolumeRecord& volume);
  Status ReadLeases();
  bool Postponed(uint64_t drive, uint32_t volume) const;
  Status FillPage(std::vector<Item>* items);
  Status EndPass();
  Status ReconcilePage();
  Status FinishDrive(uint64_t drive_id);
  Status FinishVerify(uint32_t volume);
  Status FinishLeft(uint64_t drive_id, uint32_t volume);
  void StartBatch(std::vector<Item> items);
  void Work();
  void EndBatch();
  Fate RebuildOne(const Item& item);
  Result<std::vector<client::ShardData>> Reproduce(const Item& item, const VolumeRecord& volume);
  bool ShardIsGood(const Item& item, const VolumeRecord& volume);
  bool Hopeless(const VolumeRecord& volume, uint32_t index, const Status& why);
  void Deafen(const Item& item, Nanos time);
  void Postpone();

  const Options options_;
  const Deps deps_;
  std::atomic<uint64_t> shards_rebuilt_ = 0, bytes_rebuilt_ = 0, unrepairable_ = 0,
                        garbage_removed_ = 0;

  // Of the running slice only: slices and batches follow each other.
  std::optional<Fill> fill_;
  std::optional<Reconcile> reconcile_;
  std::set<std::pair<uint64_t, uint32_t>> filled_;  // (drive, volume), until the drive is online
  std::map<std::pair<uint64_t, uint32_t>, Nanos> later_;  // (drive, volume) -> not before
  // (drive, volume) of drives that were left -> when the last look may be.
  std::map<std::pair<uint64_t, uint32_t>, Nanos> last_look_;
  Leases leases_;
  std::map<uint32_t, uint32_t> verified_;  // volume -> indices done
  bool reports_last_ = false;              // they take turns with the other work

  mutable std::mutex mu_;        // guards what follows
  std::set<uint64_t> to_clear_;  // drives
  bool running_ = false;
  bool kicked_ = false;  // while running: look once more before going idle
  std::deque<Item> reports_;
  std::set<Item> reported_;
  std::map<std::pair<uint32_t, uint64_t>, Nanos>
      deaf_until_;  // (volume, seq): failed just now; a rebuild reports too
  std::set<std::pair<uint32_t, uint64_t>> hopeless_;  // counted once each
  std::vector<Item> batch_;
  size_t next_ = 0;
  uint32_t workers_ = 0;
  uint64_t batch_rebuilt_ = 0, batch_retries_ = 0, batch_bytes_ = 0;
};

}  // namespace perigee::objectd
