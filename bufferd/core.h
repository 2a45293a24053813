#pragma once
// Core: what every part of the burst buffer works with: the world (disk, clock, schedulers,
// namespace, object tier, peers), the files, the counters. Each member is set before Start and
// constant afterwards; what it points to is thread-safe.

#include <atomic>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/disk.h"
#include "base/metrics.h"
#include "base/scheduler.h"
#include "bufferd/burst_file.h"
#include "bufferd/burst_index.h"
#include "bufferd/burst_table.h"
#include "bufferd/delegations.h"
#include "bufferd/names.h"
#include "bufferd/store_dir.h"
#include "client/blob/blob_io.h"
#include "client/meta/meta_client.h"
#include "rdma/wire/control.h"

namespace perigee::bufferd {

struct Stats {
  explicit Stats(metrics::Registry& registry);
  metrics::Counter *opens_descriptor, *opens_cached, *creates, *publishes, *publishes_inline,
      *publish_failures, *syncs, *sync_failures, *seals, *seal_refusals, *bytes_filled_blobs,
      *bytes_filled_peer, *bytes_filled_inline, *bytes_flushed, *files_flushed, *flush_failures,
      *flush_cancelled, *bytes_read_burst, *bytes_written_slow, *evicted_files, *evicted_bytes,
      *released_files, *corrupt_files, *fell_back, *lost_files, *rewritten_torn, *set_aside;
  std::vector<wire::NamedCount> Snapshot() const;  // short names, as status shows them

 private:
  metrics::Counter* Make(metrics::Registry& registry, const std::string& name,
                         const std::string& help);
  std::vector<std::pair<std::string, metrics::Counter*>> all_;
};

// Reads of what another node's burst buffer holds. kUnavailable: unreachable, or its address is
// unknown.
class PeerPort {
 public:
  virtual ~PeerPort() = default;
  virtual Status Read(wire::NodeId node, const wire::BurstReadRequest& request, MutableBytes out,
                      rdma::TrafficClass traffic) = 0;
};

using WriterFactory =
    std::function<std::unique_ptr<client::BlobWriter>(client::BlobWriter::Options)>;

struct Core {
  Clock* clock = nullptr;
  Scheduler* work = nullptr;   // seals, syncs, checksums, eviction, timers
  Scheduler* fill = nullptr;   // ranges being fetched
  Scheduler* flush = nullptr;  // files being copied to the object tier
  // Large files being removed: each waits for what the kernel is writing of it, so that several at
  // once keep up with saves where one after the other does not.
  Scheduler* unlink = nullptr;
  StoreDir* store = nullptr;
  BurstIndex* index = nullptr;
  BurstTable* table = nullptr;
  client::MetaClient* meta = nullptr;
  // The same as kCheckpoint, for what a save, an fsync or a sync waits for; and as kFlush.
  client::MetaClient* saves = nullptr;
  client::MetaClient* flushes = nullptr;
  // The same for long polls, on a connection of its own: whoever waits on a connection reads for
  // all who call over it, and every answer would have to be passed on to another thread.
  client::MetaClient* feed = nullptr;
  Names* names = nullptr;               // null: names are objectd's alone
  client::MetaClient* named = nullptr;  // calls that concern names: through `names`, or as meta
  Delegations* delegations = nullptr;   // null: none are asked for
  client::BlobReader* blobs = nullptr;
  client::BlobReader* blobs_ahead = nullptr;  // the same as kPrefetch
  WriterFactory make_writer;
  PeerPort* peers = nullptr;
  Stats* stats = nullptr;
  wire::NodeId node = 0;
  std::string boot;
  std::atomic<uint64_t> inline_bytes_max{16 << 10};
  std::atomic<bool> stopping{false};

  // Stores the file's record. Later states are never overwritten by earlier ones.
  Status Save(const FilePtr& file, Durable durable = Durable::kNo);
  // `gone` must be set. Out of the table, the index and the store. Failures are logged: the start's
  // scan finds leftovers.
  void Forget(const FilePtr& file);
  void Drop(const FilePtr& file);  // makes it `gone`, and forgets it
  // It no longer serves its id: who opened it under a delegation opens again.
  void Undelegate(const FilePtr& file);
  // Removes the file when nothing of it is needed any more: no handles, and superseded or orphaned
  // without being the only copy. Called after each change that may have made it so. Its space comes
  // back a little later (BurstTable::NotifyProgress).
  void RetireIfUnneeded(const FilePtr& file);
  // See Names. Without it all that objectd answered counts as made in the life it has now.
  uint64_t Life() const { return names ? names->Life() : 0; }
  Status SyncIn(uint64_t life) const { return names ? names->SyncIn(life) : meta->Sync(); }
  // objectd may have lost what it holds of the file: it is asked about. Set by Engine.
  std::function<void(const FilePtr&)> recheck;
  // The journal of names needs its content, whatever the namespace says.
  bool Keeps(wire::FileId id) const { return names && names->Keeps(id); }
  // The name a person knows a file by, as far as this node can tell.
  static std::string NameOf(const BurstFile& file);
  void Report(std::string line);  // kept for status, newest last, at most 64; logged
  std::vector<std::string> Reported() const;

 private:
  void ForgetRecord(const FilePtr& file);
  void Unlink(const FilePtr& file);
  mutable std::mutex mu_;
  std::deque<std::string> reported_;  // guarded by mu_
};

// The namespace or a peer could not be asked: try later. Everything else is an answer.
inline bool IsAway(const Status& s) {
  return s.Is(Code::kUnavailable) || s.Is(Code::kDeadlineExceeded) || s.Is(Code::kBusy) ||
         s.Is(Code::kCancelled);
}
inline bool IsGone(const Status& s) { return s.Is(Code::kStale) || s.Is(Code::kNotFound); }
inline bool IsOurs(const Core& core, const wire::Layout& layout, wire::BurstId burst) {
  return layout.kind == wire::LayoutKind::kBurst && layout.node == core.node &&
         layout.burst == burst;
}
inline bool IsWriter(const Core& core, const wire::Record& record, wire::BurstId burst) {
  return record.writer && record.writer->node == core.node && record.writer->burst == burst;
}

}  // namespace perigee::bufferd
