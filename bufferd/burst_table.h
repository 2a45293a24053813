#pragma once
// BurstTable: every burst file of this node, by burst id and by the file id it serves now; ids for
// new ones; and the gates that let one opener at a time decide which burst file serves a file id.
// Thread-safe; its lock is a leaf.

#include <atomic>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "bufferd/burst_file.h"
#include "bufferd/burst_index.h"

namespace perigee::bufferd {

class BurstTable {
 public:
  // Continues after the highest id ever reserved in `index`.
  static Result<std::unique_ptr<BurstTable>> Create(BurstIndex* index);

  // Never given twice, also across crashes: ranges are reserved by a synced write.
  Result<wire::BurstId> NextBurst();
  // Given out by this process, so that a burst file that is not in the table may be in the making.
  bool OfThisRun(wire::BurstId burst) const { return burst >= first_; }

  FilePtr Make(BurstRecord record);  // not added yet
  void Add(const FilePtr& file);
  void Remove(const FilePtr& file);  // from both maps
  FilePtr Find(wire::BurstId burst) const;
  FilePtr Current(wire::FileId id) const;
  // Returns what served the id before, if it was another.
  FilePtr SetCurrent(wire::FileId id, const FilePtr& file);
  // Another serves its id now, which is not published yet and stands for it.
  bool IsBeforeCurrent(const FilePtr& file) const;
  // `file` serves the id that its record says now, and no longer `was`.
  void Renamed(wire::FileId was, const FilePtr& file);
  std::vector<FilePtr> All() const;
  size_t size() const;
  uint64_t allocated_bytes() const { return allocated_->load(); }

  // A file reached another state: those who wait for a flush or for space look again.
  void NotifyProgress();
  // Returns after the next NotifyProgress, or `timeout`.
  void WaitProgress(Nanos timeout);

  class Gate {
   public:
    Gate(BurstTable& table, wire::FileId id);
    ~Gate();
    Gate(const Gate&) = delete;
    Gate& operator=(const Gate&) = delete;

   private:
    BurstTable& table_;
    const wire::FileId id_;
  };

 private:
  explicit BurstTable(BurstIndex* index) : index_(index) {}

  BurstIndex* const index_;
  const std::shared_ptr<std::atomic<uint64_t>> allocated_ =
      std::make_shared<std::atomic<uint64_t>>(0);
  mutable std::mutex mu_;  // guards the maps and the progress count
  std::unordered_map<wire::BurstId, FilePtr> files_;
  std::unordered_map<wire::FileId, FilePtr> current_;
  CondVar progress_cv_;
  uint64_t progress_ = 0;
  std::mutex gate_mu_;
  CondVar gate_cv_;
  std::unordered_set<wire::FileId> gated_;  // guarded by gate_mu_
  std::mutex ids_mu_;
  wire::BurstId first_ = 1;               // of this process
  wire::BurstId next_ = 1, ceiling_ = 1;  // guarded by ids_mu_
};

}  // namespace perigee::bufferd
