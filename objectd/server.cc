#include "objectd/server.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>

#include "base/daemon.h"
#include "base/log.h"
#include "base/process_metrics.h"
#include "client/blob/lease_source.h"
#include "objectd/credentials.h"
#include "objectd/meta/fsck.h"
#include "objectd/state_metrics.h"
#include "objectd/volume/volume_service.h"
#include "rdma/net_probe.h"

namespace perigee::objectd {

namespace {
constexpr Nanos kHousekeepEvery = 60 * kSecond;
constexpr Nanos kReturnLeasesEvery = 5 * kSecond;
constexpr Nanos kWatchEvery = kSecond;
constexpr Nanos kWritesTimeout = 2 * kSecond;  // a node that does not answer is not reached
constexpr Nanos kReclaimEvery = 10 * kSecond;
constexpr uint32_t kS3Threads = 32;
}  // namespace

Result<std::unique_ptr<Server>> Server::Start(const ObjectdOptions& options) {
  std::unique_ptr<Server> s(new Server(options));
  s->registry_ = metrics::Registry::Create();
  metrics::ExposeProcess(s->registry_.get());
  s->disk_ = CreatePosixDisk();
  PERIGEE_ASSIGN(s->slabs_, rdma::SlabPool::Create({.bytes_max = s->memory_.transfers}));
  s->s3_pool_ = CreateThreadPool({.name = "s3", .threads = kS3Threads});
  s->meta_pool_ = CreateThreadPool({.name = "meta", .threads = 16});
  s->told_pool_ = CreateThreadPool({.name = "told", .threads = 4});
  s->feed_pool_ = CreateThreadPool({.name = "feed", .threads = 4});
  s->shard_pool_ = CreateThreadPool({.name = "shard", .threads = 24});
  s->fan_out_pool_ = CreateThreadPool({.name = "fan-out", .threads = 24});
  s->background_pool_ = CreateThreadPool({.name = "background", .threads = 4});
  PERIGEE_TRY(s->OpenDrives());
  PERIGEE_TRY(s->OpenNetwork());
  PERIGEE_TRY(s->OpenStore());
  PERIGEE_TRY(s->BuildVolumes());
  PERIGEE_TRY(s->BuildNamespace());
  PERIGEE_TRY(s->StartDoors());
  PERIGEE_TRY(s->ListenRpc());
  s->volumes_->Start();
  s->Housekeep();
  s->ReturnLeases();
  s->WatchStore();
  log::Info("objectd_ready", {{"s3", s->s3_->address()},
                              {"admin", s->admin_->address()},
                              {"rpc", s->network_->socket()},
                              {"drives", options.drives.size()}});
  return s;
}

Status Server::OpenDrives() {
  PERIGEE_TRY(disk_->CreateDirs(options_.state_dir));
  PERIGEE_TRY(disk_->CreateDirs(options_.run_dir));
  // Drives that a killed predecessor still holds would be taken for lost ones.
  PERIGEE_ASSIGN(PidLock lock, PidLock::Take(options_.state_dir + "/lock", PidLock::kPatience));
  lock_ = std::make_unique<PidLock>(std::move(lock));
  DriveSet::Options o;
  o.dirs = options_.drives;
  o.k = options_.k;
  o.m = options_.m;
  o.state_dir = options_.state_dir;
  o.drive.capacity_bytes = options_.drive_capacity;
  o.drive.index_memory_bytes = memory_.index_per_drive;
  DriveDeps deps;
  deps.disk = disk_.get();
  deps.pool = background_pool_.get();
  deps.slabs = slabs_;
  deps.metrics = registry_.get();
  deps.watch = std::make_shared<DriveWatch>();
  deps.watch->Start();
  PERIGEE_ASSIGN(drives_, DriveSet::Open(std::move(o), deps));
  std::vector<std::string> there;  // what does not answer would not answer here, either
  for (const DriveSlot& slot : drives_->Slots())
    if (slot.drive) there.push_back(slot.dir);
  preflight_ = RunPreflight(*disk_, there);
  WarnOfDegraded(preflight_);
  return Status::Ok();
}

Status Server::OpenNetwork() {
  rdma::TransportOptions t;
  if (!options_.secret_file.empty()) {
    PERIGEE_ASSIGN(t.cluster_secret, LoadSecret(options_.secret_file, false));
  }
  t.node_id = drives_->cluster_id();
  t.role = rdma::Role::kNode;
  t.pool = slabs_;
  t.metrics = registry_.get();
  PERIGEE_ASSIGN(network_, rdma::Network::Create(options_.network, std::move(t)));
  return Status::Ok();
}

Status Server::OpenStore() {
  kv::RocksStoreOptions o;
  o.mirrors = drives_->MirrorPlaces();
  o.membership = drives_.get();
  o.create = drives_->formed_now();
  o.memory_bytes = memory_.store;
  o.clock = &RealClock::Get();
  o.metrics = registry_.get();
  PERIGEE_ASSIGN(store_, kv::RocksStore::Open(std::move(o)));
  return Status::Ok();
}

Status Server::BuildVolumes() {
  PERIGEE_ASSIGN(storage_nodes_, StorageNodes::Create({}, {.store = store_.get(),
                                                           .own = drives_.get(),
                                                           .transport = &network_->transport(),
                                                           .clock = &RealClock::Get(),
                                                           .metrics = registry_.get()}));
  VolumeManagerOptions o;
  o.collector.grace = options_.reader_grace;
  o.table.lease = options_.lease;
  o.table.repair_after = options_.repair_after;
  o.scrub.rate = options_.scrub_rate;
  o.scrub.interval = options_.scrub_interval;
  VolumeManagerDeps deps;
  deps.store = store_.get();
  deps.mirrors = store_.get();
  deps.drives = drives_.get();
  deps.nodes = storage_nodes_.get();
  deps.node_name = options_.node_name;
  deps.background = background_pool_.get();
  deps.shard_pool = fan_out_pool_.get();
  deps.clock = &RealClock::Get();
  deps.slabs = slabs_;
  deps.metrics = registry_.get();
  PERIGEE_ASSIGN(volumes_, VolumeManager::Create(std::move(o), deps));
  return Status::Ok();
}

Status Server::BuildNamespace() {
  room_ = std::make_unique<MetadataRoom>(*disk_, [this] {
    std::vector<std::string> dirs;
    for (const kv::MirrorPlace& place : drives_->MirrorPlaces()) dirs.push_back(place.dir);
    return dirs;
  });
  nodes_ = std::make_unique<NodeTable>(*store_);
  PERIGEE_ASSIGN(auto nodes, nodes_->All());
  std::vector<wire::NodeId> unheard;
  for (const auto& node : nodes) unheard.push_back(node.node);
  auto recall = [this](wire::NodeId node, const std::vector<wire::FileId>& ids, Nanos timeout) {
    return peers_ ? peers_->Recall(node, ids, timeout)
                  : Status(Code::kUnavailable, "the doors are not open yet");
  };
  delegations_ = std::make_unique<Delegations>(RealClock::Get(), *registry_, std::move(recall),
                                               std::move(unheard));
  auto take = [this](wire::NodeId node, wire::FileId dir, bool keep, Nanos timeout) {
    return peers_ ? peers_->TakeDirectory(node, dir, keep, timeout)
                  : Status(Code::kUnavailable, "the doors are not open yet");
  };
  PERIGEE_ASSIGN(holds_,
                 DirectoryHolds::Create(*store_, RealClock::Get(), *registry_, std::move(take)));
  NamespaceOptions o;
  o.delegations = delegations_.get();
  o.holds = holds_.get();
  o.inline_bytes_max = options_.inline_bytes_max;
  o.room = [room = room_.get()] { return room->Check(); };
  PERIGEE_ASSIGN(namespace_, Namespace::Create(*store_, RealClock::Get(), *registry_, o));
  auto writes = [this](wire::NodeId node, const wire::WriterOf& q) -> Result<bool> {
    if (!peers_) return true;  // the doors are not open yet
    return peers_->Writes(node, q, kWritesTimeout);
  };
  absent_writers_ =
      std::make_unique<AbsentWriters>(*namespace_, RealClock::Get(), std::move(writes));
  return Status::Ok();
}

Status Server::ListenRpc() {
  router_ = std::make_shared<rdma::Router>();
  MetaServiceDeps meta;
  meta.space = [this]() -> Result<MetaServiceDeps::Space> {
    SpaceInfo space = volumes_->Space();
    return MetaServiceDeps::Space{space.total_bytes, space.free_bytes};
  };
  meta.nodes = nodes_.get();
  meta.delegations = delegations_.get();
  meta.writers = absent_writers_.get();
  meta.end_leases_before = [this](wire::NodeId node, uint64_t incarnation) {
    return volumes_->table().EndLeasesBefore(node, incarnation);
  };
  meta.cluster_id = drives_->cluster_id();
  meta.slabs = slabs_;
  meta.feed_pool = feed_pool_.get();
  meta.told_pool = told_pool_.get();
  RegisterMetaService(*router_, *namespace_, meta_pool_.get(), std::move(meta));
  RegisterVolumeService(*router_, *volumes_, meta_pool_.get(), shard_pool_.get());
  RegisterControl();
  return network_->Listen("local:" + options_.run_dir + "/objectd.sock", router_);
}

void Server::RegisterControl() {
  using rdma::Access;
  router_->AddRaw(
      wire::Method::kPing, Access::kAnyone, nullptr,
      [](rdma::Context&, std::string_view) -> Result<std::string> { return std::string(); });
  rdma::AddNetProbe(router_.get(), shard_pool_.get(), meta_pool_.get(), &network_->transport(),
                    slabs_, "");
  router_->Add<wire::Empty>(
      wire::Method::kControlObjectdStatus, Access::kNodesOnly, meta_pool_.get(),
      [this](rdma::Context&, wire::Empty) -> Result<wire::ObjectdStatusReply> {
        return Describe();
      });
  router_->Add<wire::DriveReplaceRequest>(
      wire::Method::kControlDriveReplace, Access::kNodesOnly, meta_pool_.get(),
      [this](rdma::Context&, wire::DriveReplaceRequest q) -> Result<wire::DriveInfo> {
        return volumes_->DriveReplace(q.dir);
      });
  router_->Add<wire::Empty>(wire::Method::kControlRepair, Access::kNodesOnly, meta_pool_.get(),
                            [this](rdma::Context&, wire::Empty) -> Result<wire::Empty> {
                              volumes_->KickRepair();
                              return wire::Empty{};
                            });
  router_->Add<wire::NodeReportRequest>(
      wire::Method::kNodeReport, Access::kNodesOnly, meta_pool_.get(),
      [this](rdma::Context&, wire::NodeReportRequest q) { return volumes_->NodeReport(q); });
  router_->Add<wire::Empty>(wire::Method::kNodeList, Access::kNodesOnly, meta_pool_.get(),
                            [this](rdma::Context&, wire::Empty) -> Result<wire::NodeListReply> {
                              return volumes_->ListNodes();
                            });
  router_->Add<wire::NodeChangeRequest>(
      wire::Method::kNodeChange, Access::kNodesOnly, meta_pool_.get(),
      [this](rdma::Context&, wire::NodeChangeRequest q) { return volumes_->ChangeNode(q); });
  router_->Add<wire::ScrubRequest>(
      wire::Method::kControlObjectdScrub, Access::kNodesOnly, meta_pool_.get(),
      [this](rdma::Context&, wire::ScrubRequest q) -> Result<wire::ScrubReport> {
        return volumes_->DoScrub(q);
      });
  router_->Add<wire::FsckRequest>(
      wire::Method::kControlObjectdFsck, Access::kNodesOnly, meta_pool_.get(),
      [this](rdma::Context&, wire::FsckRequest q) -> Result<wire::FsckReply> {
        return q.check <= wire::FsckCheck::kCounters ? CheckNamespace(*store_, RealClock::Get(), q)
                                                     : volumes_->Fsck(q);
      });
  router_->Add<wire::Empty>(wire::Method::kControlSyncAll, Access::kNodesOnly, meta_pool_.get(),
                            [this](rdma::Context&, wire::Empty) -> Result<wire::Empty> {
                              PERIGEE_TRY(namespace_->Sync());
                              return wire::Empty{};
                            });
}

Status Server::StartDoors() {
  peers_ = std::make_unique<RpcBurstPeers>(
      network_->transport(), [this](wire::NodeId id) -> Result<wire::GetNodeReply> {
        PERIGEE_ASSIGN(wire::RegisterNodeRequest node, nodes_->Find(id));
        return wire::GetNodeReply{.address = std::move(node.address),
                                  .name = std::move(node.name),
                                  .doors = std::move(node.doors)};
      });

  PERIGEE_ASSIGN(Credentials key, LoadCredentials(*disk_, options_.credentials_file));
  S3Options s3;
  s3.listen = options_.s3_listen;
  s3.access_key = key.access_key;
  s3.secret_key = key.secret_key;
  s3.buffer_bytes_max = memory_.s3_bodies;
  s3.document_bytes_max = memory_.s3_documents;
  s3.pool_threads = kS3Threads;
  // At the bound, files must still open.
  s3.connections_max =
      static_cast<uint32_t>(std::min(options_.s3_connections, OpenFilesMax() / 4 * 3));
  s3.head_timeout = options_.s3_head_timeout;
  s3.body_timeout = options_.s3_body_timeout;
  s3.body_rate_min = options_.s3_body_rate;
  s3.idle_timeout = options_.s3_idle_timeout;
  S3Deps deps;
  deps.ns = namespace_.get();
  deps.blobs.cluster = &volumes_->cluster();
  deps.blobs.shard_pool = fan_out_pool_.get();
  deps.blobs.slabs = slabs_;
  deps.blobs.metrics = registry_.get();
  deps.blobs.clock = &RealClock::Get();
  deps.blobs.given_up = given_up_;
  deps.peers = peers_.get();
  deps.pool = s3_pool_.get();
  deps.clock = &RealClock::Get();
  deps.metrics = registry_.get();
  PERIGEE_ASSIGN(s3_, S3Server::Start(std::move(s3), deps));
  ExposePreflight(registry_.get(), preflight_);
  ExposeState(registry_.get(), drives_->mirrors_wanted(), [this] { return State(); });
  PERIGEE_ASSIGN(admin_, AdminServer::Start(options_.admin_listen, registry_.get(),
                                            [this] { return Health(); }));
  return Status::Ok();
}

void Server::Housekeep() {
  background_pool_->PostAfter(kHousekeepEvery, [this] {
    if (Status done = namespace_->CleanUp(); !done.ok())
      log::Warn("upload_clean_up_failed", {{"error", done}});
    slabs_->Trim();
    Housekeep();
  });
}

// Those of the S3 endpoint that no further lease took along.
void Server::ReturnLeases() {
  background_pool_->PostAfter(kReturnLeasesEvery, [this] {
    client::ReturnGivenUp(volumes_->cluster(), *given_up_, 0, 0).Ignore();  // next time then
    ReturnLeases();
  });
}

// While room is short, deletes give theirs back at once. A store whose last mirror failed, of a
// full disk for instance, is down for good in this process; the next one opens it again as soon as
// the disk lets it.
void Server::WatchStore() {
  background_pool_->PostAfter(kWatchEvery, [this] {
    Status health = Health();
    if (health.ok()) {
      const Nanos now = RealClock::Get().Monotonic();
      if (!room_->Check().ok() && now - reclaimed_ > kReclaimEvery) {
        store_->Reclaim();
        reclaimed_ = now;
      }
      return WatchStore();
    }
    log::Error("restarting", {{"cause", health}, {"remedy", "see metadata_store_down above"}});
    ::kill(::getpid(), SIGTERM);
  });
}

wire::ObjectdStatusReply Server::State() {
  wire::ObjectdStatusReply reply;
  volumes_->FillStatus(&reply);
  for (const PreflightCheck& check : preflight_)
    reply.preflight.push_back({check.name, check.ok ? "ok" : "degraded", check.detail, {}});
  auto count = [&](const char* name, const char* metric) {
    reply.counters.push_back(
        {name, static_cast<uint64_t>(registry_->GetCounter(metric, "")->Value()), {}});
  };
  count("blob_bytes_written", "perigee_blob_bytes_written_total");
  count("blob_bytes_read", "perigee_blob_bytes_read_total");
  count("chunks_reconstructed", "perigee_blob_chunks_reconstructed_total");
  count("bad_chunks", "perigee_blob_bad_chunks_total");
  reply.unhealthy = Health().message();
  return reply;
}

wire::ObjectdStatusReply Server::Describe() {
  wire::ObjectdStatusReply reply = State();
  reply.s3_address = s3_->address();
  reply.admin_address = admin_->address();
  reply.network = network_->info();
  reply.links = peers_->Links();
  const auto storage_links = storage_nodes_->Links();
  reply.links.insert(reply.links.end(), storage_links.begin(), storage_links.end());
  return reply;
}

Status Server::Health() {
  if (store_->InSync().empty())
    return Status(Code::kUnavailable, "the metadata store is down: no mirror is left");
  return Status::Ok();
}

void Server::Stop() {
  if (stopped_) return;
  stopped_ = true;
  if (s3_) s3_->Stop();
  if (store_) store_->EndFeedWaits();  // else the listener waits for long polls
  if (network_) network_->Stop();
  if (admin_) admin_->Stop();
  if (storage_nodes_) storage_nodes_->Close();  // else calls to nodes are waited for
  if (volumes_) volumes_->Stop();
  for (auto* pool : {&s3_pool_, &meta_pool_, &told_pool_, &feed_pool_, &shard_pool_, &fan_out_pool_,
                     &background_pool_}) {
    if (*pool) (*pool)->Stop();
  }
  if (store_) store_->Stop();
  if (drives_) drives_->Stop();
}

}  // namespace perigee::objectd
