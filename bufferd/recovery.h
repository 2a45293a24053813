#pragma once
// Recovery: makes the store, the index and the namespace agree, at start and whenever the feed was
// lost.
//
// Load: files without records are removed, or set aside when the index is damaged; records without
// files are dropped or marked lost; after a reboot, copies that were not synced are dropped.
// Reconcile asks the namespace about one file:
//   - its id is gone, or other content is committed and nothing names this burst file: removed;
//   - a write that was never published: ended (the seal does it, once no process holds the file any
//   more);
//   - published but not committed: committed now; changed since: published as a new generation, so
//   that record and
//     bytes agree;
//   - after a reboot, an unsynced version: falls back to the previous one and is reported. Where
//   the previous one was in
//     this very file, which was being rewritten in place, there is nothing whole to fall back to:
//     what the local file system kept is published as a new generation, and reported.
// What is `local` or better and lost all the same is reported and never given up by itself.
// Thread-safe.

#include <map>
#include <vector>

#include "bufferd/core.h"
#include "bufferd/flush.h"
#include "bufferd/publish.h"
#include "bufferd/seal.h"
#include "bufferd/sync.h"

namespace perigee::bufferd {

class Recovery {
 public:
  struct Parts {
    Publisher* publisher = nullptr;
    Sealer* sealer = nullptr;
    Flusher* flusher = nullptr;
    Syncer* syncer = nullptr;
  };
  Recovery(Core& core, Parts parts) : core_(core), parts_(parts) {}

  Status Load();  // before anything else runs
  Status Reconcile(const FilePtr& file);
  enum class Release {
    kDurable,  // the feed says so
    kName,     // the feed says that a name of its file went
    kMaybe,    // the feed was lost: made durable before anything is destroyed
  };
  // The namespace let go of it. Asks `objectd`; kept if it is named after all. What the feed says
  // holds also for names that the journal is about to make once more: then it is not to be asked
  // through Names.
  Status Released(const FilePtr& file, Release release, client::MetaClient& objectd);
  // Everything flagged, in the background, until done.
  void ReconcileAll();
  void FlagAll();  // the feed was lost: every file not being written is asked about again
  // The namespace was away, and may have lost what was not durable there: the same of those whose
  // only copy is here.
  void FlagUnsettled();
  // The same of one, in the background.
  void Recheck(const FilePtr& file);
  // The namespace names a burst file of this node that does not exist.
  void Lost(const wire::Record& record);
  uint64_t left() const;

 private:
  enum class Verdict { kKeep, kDrop };
  Status ClearUnrecorded(const std::map<wire::BurstId, uint32_t>& files);
  Status LoadOne(BurstRecord record, bool has_file, std::vector<FilePtr>* kept);
  Status ReconcileWritten(const FilePtr& file);
  Result<Verdict> ReconcileHeld(const FilePtr& file);
  Result<Verdict> UnfinishedCreate(const FilePtr& file, const BurstRecord& rec);
  Result<Verdict> Unnamed(const FilePtr& file, const wire::Record& record, uint64_t life);
  Result<Verdict> AfterReboot(const FilePtr& file, const wire::Record& record);
  Result<Verdict> AfterCrash(const FilePtr& file, const wire::Record& record);
  Status FallBack(const wire::Record& record);
  Status EndLost(const FilePtr& file, const wire::Record& record);
  bool Intact(const FilePtr& file, const BurstRecord& rec);
  bool TimesMoved(const FilePtr& file, const BurstRecord& rec);
  void ServeAgain(FilePtr before);
  void GiveWay(const FilePtr& file);

  Core& core_;
  const Parts parts_;
  std::atomic<bool> armed_{false};
};

}  // namespace perigee::bufferd
