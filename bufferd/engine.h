#pragma once
// Engine: the burst buffer without its doors: every part, wired, over the world it is given.
// bufferd's server puts the RPC door in front; tests put a namespace fake and a manual scheduler
// behind.
//
// Start loads the store and begins the background work; nothing is served before. Stop lets no new
// work begin; the schedulers are stopped by their owner afterwards, before the engine goes.
// Thread-safe between the two.

#include <memory>
#include <string>

#include "bufferd/budget.h"
#include "bufferd/core.h"
#include "bufferd/evict.h"
#include "bufferd/feed.h"
#include "bufferd/fill.h"
#include "bufferd/flush.h"
#include "bufferd/open.h"
#include "bufferd/publish.h"
#include "bufferd/recovery.h"
#include "bufferd/scrub.h"
#include "bufferd/seal.h"
#include "bufferd/sync.h"
#include "rdma/wire/control.h"

namespace perigee::bufferd {

struct EngineOptions {
  std::string store_dir;
  wire::NodeId node = 0;
  std::string boot_id;
  BudgetOptions budget;
  tiers::FlushQueueOptions flush;
  ScrubOptions scrub;
  Nanos budget_poll = kSecond;
};

struct EngineDeps {
  Disk* disk = nullptr;
  Clock* clock = nullptr;
  Scheduler* work = nullptr;
  Scheduler* fill = nullptr;
  Scheduler* flush = nullptr;
  Scheduler* unlink = nullptr;
  Scheduler* poll = nullptr;  // the release feed's long poll
  BurstIndex* index = nullptr;
  client::MetaClient* meta = nullptr;
  client::MetaClient* feed = nullptr;  // for long polls; null: meta
  Delegations* delegations = nullptr;  // null: none are asked for
  Names* names = nullptr;  // null: nothing goes on while objectd is away; else `meta` is guarded
  client::BlobReader* blobs = nullptr;
  client::BlobReader* blobs_ahead = nullptr;  // for readahead; null: blobs
  WriterFactory make_writer;
  PeerPort* peers = nullptr;  // null: no other nodes
  metrics::Registry* metrics = nullptr;
};

class Engine {
 public:
  static Result<std::unique_ptr<Engine>> Create(EngineDeps deps, EngineOptions options);
  ~Engine();

  Status Start();
  void Stop();

  Opener& opener() { return *opener_; }
  Flusher& flusher() { return *flusher_; }
  Evictor& evictor() { return *evictor_; }
  Filler& filler() { return *filler_; }
  Recovery& recovery() { return *recovery_; }
  Publisher& publisher() { return *publisher_; }
  Budget& budget() { return *budget_; }
  Scrub& scrub() { return *scrub_; }
  ReleaseFeed& feed() { return *feed_; }
  Core& core() { return core_; }
  StoreDir& store() { return *store_; }

  Status Publish(const FilePtr& file) { return publisher_->Publish(file, false); }
  // Returns when the class is reached: kLocal syncs here, kObject waits for the object tier.
  // kPartner: kUnimplemented.
  Status Fsync(const FilePtr& file, wire::Durability durability, Nanos deadline);
  // The same of what this node has of a file, for kLocal. Nothing: ok.
  Status Sync(wire::FileId id, Nanos deadline);
  // The slowed path of writers while space is short.
  Status Write(const FilePtr& file, uint64_t offset, ConstBytes data, Nanos deadline);
  wire::BurstStatReply Describe(const FilePtr& file) const;
  // After objectd changed a name at a local client's request: `record` as it was before.
  void OnUnlinked(const wire::Record& record);
  // utimes of a file that has a burst file here.
  Status SetMtime(wire::FileId id, int64_t mtime);
  // A burst file of this node is, or is about to be, written as that file.
  bool Writes(const wire::WriterOf& q) const;
  // What the engine knows.
  void FillStatus(wire::BufferdStatusReply* status) const;
  // ReadBurst, for S3 and other nodes. Of content that the namespace still has here though a power
  // cut took even its record, nobody else would notice that it is lost: then kStale, look again.
  Status ReadForPeer(const wire::BurstReadRequest& q, MutableBytes out);

 private:
  Engine(EngineDeps deps, EngineOptions options) : deps_(deps), options_(std::move(options)) {}
  Status Build();
  Status StartNames();
  bool Owned(wire::FileId id) const;
  bool AtRisk(wire::FileId id) const;
  Status Commit(wire::FileId id);  // what is closed here and not committed
  void Discard(wire::FileId id);   // of a file that only this node ever knew
  void DescribeClosed(wire::Record* record) const;
  void PollBudget();
  void OnSealed(const FilePtr& file);

  const EngineDeps deps_;
  const EngineOptions options_;
  Core core_;
  std::unique_ptr<client::MetaClient> named_, saves_, flushes_;
  std::unique_ptr<StoreDir> store_;
  std::unique_ptr<BurstTable> table_;
  std::unique_ptr<Stats> stats_;
  std::unique_ptr<Publisher> publisher_;
  std::unique_ptr<Syncer> syncer_;
  std::unique_ptr<Sealer> sealer_;
  std::unique_ptr<Scrub> scrub_;
  std::unique_ptr<Flusher> flusher_;
  std::unique_ptr<Evictor> evictor_;
  std::unique_ptr<Budget> budget_;
  std::unique_ptr<Filler> filler_;
  std::unique_ptr<Recovery> recovery_;
  std::unique_ptr<Opener> opener_;
  std::unique_ptr<ReleaseFeed> feed_;
};

}  // namespace perigee::bufferd
