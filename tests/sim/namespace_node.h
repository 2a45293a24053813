#pragma once
// NamespaceNode: objectd with the namespace, as objectd/server.cc assembles it, on `sim`: a
// MemStore in place of the mirrors, three drives of a MemDisk at 2+1, and the S3 door without its
// HTTP.

#include <doctest/doctest.h>

#include "objectd/burst_peers.h"
#include "objectd/kv/mem_store.h"
#include "objectd/meta/fsck.h"
#include "objectd/meta/meta_service.h"
#include "objectd/s3/object_io.h"
#include "objectd/volume/volume_service.h"
#include "rdma/sim_transport.h"
#include "tests/sim/process.h"

namespace perigee::sim {

inline constexpr char kSecret[] = "a secret of thirty-two characters";

inline std::shared_ptr<rdma::SlabPool> MakeSlabs() {
  auto pool = rdma::SlabPool::Create({.bytes_max = 64 << 20});
  PERIGEE_CHECK(pool.ok());
  return *pool;
}

// One life of its process.
class NamespaceProcess {
 public:
  struct World {
    ManualScheduler* scheduler;
    rdma::SimNetwork* network;
    MemDisk* disk;
    objectd::kv::MemStore* store;
  };
  explicit NamespaceProcess(World world)
      : world_(world),
        tasks_(*world.scheduler),
        store_(*world.store, alive_, world.scheduler->clock()) {}

  Status Start() {
    auto& clock = world_.scheduler->clock();
    objectd::DriveSet::Options set;
    set.dirs = {"/d1", "/d2", "/d3"};
    set.k = 2;
    set.m = 1;
    set.state_dir = "/state";
    set.drive.segment_bytes = 1 << 20;
    PERIGEE_TRY(world_.disk->CreateDirs("/state"));
    PERIGEE_ASSIGN(drives_, objectd::DriveSet::Open(std::move(set), {.disk = world_.disk,
                                                                     .pool = &tasks_,
                                                                     .slabs = slabs_,
                                                                     .metrics = metrics_.get()}));
    rdma::TransportOptions t;
    t.cluster_secret = kSecret;
    t.node_id = drives_->cluster_id();
    t.role = rdma::Role::kNode;
    t.pool = slabs_;
    PERIGEE_ASSIGN(transport_, world_.network->CreateTransport("namespace", std::move(t)));
    PERIGEE_ASSIGN(storage_nodes_, objectd::StorageNodes::Create({}, {.store = &store_,
                                                                      .own = drives_.get(),
                                                                      .transport = transport_.get(),
                                                                      .clock = &clock}));
    objectd::VolumeManagerOptions o;
    o.table.lease = o.table.repair_after = kLease;
    o.table.list_lease = 2 * kLease;
    o.collector.grace = kGrace;
    objectd::VolumeManagerDeps deps;
    deps.store = &store_;
    deps.drives = drives_.get();
    deps.nodes = storage_nodes_.get();
    deps.node_name = "namespace";
    deps.background = deps.shard_pool = &tasks_;
    deps.clock = &clock;
    deps.slabs = slabs_;
    deps.metrics = metrics_.get();
    PERIGEE_ASSIGN(volumes_, objectd::VolumeManager::Create(std::move(o), deps));
    // What a mirror keeper does; a MemStore has no mirrors to keep.
    auto slots = drives_->Slots();
    for (size_t i = 0; i < drives_->mirrors_wanted(); i++)
      if (slots[i].drive) PERIGEE_TRY(drives_->Admit(slots[i].drive_id));
    PERIGEE_TRY(BuildNamespace());
    PERIGEE_TRY(Listen());
    volumes_->Start();
    Housekeep();
    KeepSyncing();
    return Status::Ok();
  }
  // SIGKILL.
  void Kill() {
    *alive_ = false;
    world_.disk->SetFault([](std::string_view, const std::string&) {
      return Status(Code::kIo, "the process was killed");
    });
    world_.network->ResetHost("namespace");
    store_.EndFeedWaits();
    if (listener_) listener_->Stop();
    if (storage_nodes_) storage_nodes_->Close();
    if (volumes_) volumes_->Stop();
    tasks_.Stop();
    if (drives_) drives_->Stop();
    world_.disk->SetFault(nullptr);
  }

  bool alive() const { return *alive_; }
  Scheduler& tasks() { return tasks_; }
  objectd::Namespace& ns() { return *namespace_; }

  uint64_t Counter(const char* name) const {
    return static_cast<uint64_t>(metrics_->GetCounter(name, "")->Value());
  }
  size_t DrivesOnline() const {
    size_t n = 0;
    for (const auto& record : volumes_->table().Drives())
      n += record.state == wire::DriveState::kOnline;
    return n;
  }

  // ---- The S3 door, as objectd/s3 serves it ----
  Status Put(const std::string& bucket, const std::string& key, const std::string& bytes) {
    objectd::NewContent content;
    if (bytes.size() <= namespace_->inline_bytes_max()) {
      content.size = bytes.size();
      content.etag = "e" + std::to_string(bytes.size());
      content.inline_bytes = bytes;
    } else {
      PERIGEE_ASSIGN(content, AsBlobs(bytes));
    }
    auto put = namespace_->PutObject(bucket, key, std::move(content), {}, {});
    return put.ok() ? Status::Ok() : std::move(put).TakeStatus();
  }
  // In one part, which is sent twice: the second counts.
  Status Upload(const std::string& bucket, const std::string& key, const std::string& bytes) {
    PERIGEE_ASSIGN(objectd::UploadInfo upload, namespace_->CreateUpload(bucket, key, {}));
    std::string etag;
    for (const std::string& part : {bytes.substr(bytes.size() / 2), bytes}) {
      PERIGEE_ASSIGN(objectd::NewContent content, AsBlobs(part));
      PERIGEE_ASSIGN(objectd::PartInfo stored, namespace_->PutPart(upload, 1, std::move(content)));
      etag = stored.etag;
    }
    auto put = namespace_->CompleteUpload(upload, {{1, etag}}, {});
    return put.ok() ? Status::Ok() : std::move(put).TakeStatus();
  }
  Status Delete(const std::string& bucket, const std::string& key) {
    auto removed = namespace_->DeleteObject(bucket, key, {});
    return removed.ok() ? Status::Ok() : std::move(removed).TakeStatus();
  }
  Result<std::string> Get(const std::string& bucket, const std::string& key) {
    PERIGEE_ASSIGN(objectd::ObjectWithBytes found, namespace_->ReadObject(bucket, key));
    if (!found.record.committed) return Status(Code::kNotFound, "nothing committed");
    objectd::s3::ObjectContent content(*content_, found.record, std::move(found.inline_bytes));
    std::string bytes(content.size(), '\0');
    PERIGEE_TRY(content.Read(0, {reinterpret_cast<uint8_t*>(bytes.data()), bytes.size()}));
    return bytes;
  }
  // All pages of a check.
  Result<std::vector<wire::FsckFinding>> Fsck(wire::FsckCheck check) {
    std::vector<wire::FsckFinding> findings;
    wire::FsckRequest q{.check = check};
    while (true) {
      Result<wire::FsckReply> page =
          check <= wire::FsckCheck::kCounters
              ? objectd::CheckNamespace(store_, world_.scheduler->clock(), q)
              : volumes_->Fsck(q);
      PERIGEE_TRY(page.status());
      findings.insert(findings.end(), page->findings.begin(), page->findings.end());
      if (page->end) return findings;
      q.cursor = page->cursor;
    }
  }

  static constexpr Nanos kLease = 20 * kSecond;
  static constexpr Nanos kGrace = 35 * kSecond;  // no write that was sent before comes after it

 private:
  client::BlobIoDeps Io() {
    return {.cluster = &volumes_->cluster(),
            .shard_pool = &tasks_,
            .slabs = slabs_,
            .metrics = metrics_.get(),
            .clock = &world_.scheduler->clock(),
            .given_up = given_up_};
  }
  // That nobody holds yet.
  Result<objectd::NewContent> AsBlobs(const std::string& bytes) {
    objectd::NewContent content;
    content.size = bytes.size();
    content.etag = "e" + std::to_string(bytes.size());
    auto writer = client::BlobWriter::Create(Io(), {.size_hint = bytes.size()});
    PERIGEE_TRY(writer->Append(AsBytes(bytes)));
    PERIGEE_ASSIGN(client::WrittenObject written, writer->Finish());
    content.extents = std::move(written.extents);
    content.list_id = written.list_id;
    content.intents = std::move(written.intents);
    return content;
  }
  Status BuildNamespace() {
    auto& clock = world_.scheduler->clock();
    nodes_ = std::make_unique<objectd::NodeTable>(store_);
    peers_ = std::make_unique<objectd::RpcBurstPeers>(
        *transport_, [this](wire::NodeId id) -> Result<wire::GetNodeReply> {
          PERIGEE_ASSIGN(wire::RegisterNodeRequest node, nodes_->Find(id));
          return wire::GetNodeReply{.address = std::move(node.address),
                                    .name = std::move(node.name),
                                    .doors = std::move(node.doors)};
        });
    PERIGEE_ASSIGN(holds_,
                   objectd::DirectoryHolds::Create(
                       store_, clock, *metrics_,
                       [this](wire::NodeId node, wire::FileId dir, bool keep, Nanos timeout) {
                         return peers_->TakeDirectory(node, dir, keep, timeout);
                       }));
    PERIGEE_ASSIGN(auto nodes, nodes_->All());
    std::vector<wire::NodeId> unheard;
    for (const auto& node : nodes) unheard.push_back(node.node);
    delegations_ = std::make_unique<objectd::Delegations>(
        clock, *metrics_,
        [this](wire::NodeId node, const std::vector<wire::FileId>& ids, Nanos timeout) {
          return peers_->Recall(node, ids, timeout);
        },
        std::move(unheard));
    PERIGEE_ASSIGN(namespace_, objectd::Namespace::Create(
                                   store_, clock, *metrics_,
                                   {.delegations = delegations_.get(), .holds = holds_.get()}));
    writers_ = std::make_unique<objectd::AbsentWriters>(
        *namespace_, clock, [this](wire::NodeId node, const wire::WriterOf& q) {
          return peers_->Writes(node, q, 2 * kSecond);
        });
    objectd::s3::ContentIoDeps io;
    io.ns = namespace_.get();
    io.blobs = Io();
    io.peers = peers_.get();
    io.helpers = &tasks_;
    io.buffers = slabs_;
    io.metrics = metrics_.get();
    content_ = std::make_unique<objectd::s3::ContentIo>(std::move(io));
    return Status::Ok();
  }
  Status Listen() {
    auto router = std::make_shared<rdma::Router>();
    objectd::MetaServiceDeps meta;
    meta.nodes = nodes_.get();
    meta.delegations = delegations_.get();
    meta.writers = writers_.get();
    meta.end_leases_before = [this](wire::NodeId node, uint64_t incarnation) {
      return volumes_->table().EndLeasesBefore(node, incarnation);
    };
    meta.cluster_id = drives_->cluster_id();
    meta.slabs = slabs_;
    meta.feed_pool = &tasks_;
    RegisterMetaService(*router, *namespace_, &tasks_, std::move(meta));
    RegisterVolumeService(*router, *volumes_, &tasks_, &tasks_);
    router->AddRaw(
        wire::Method::kPing, rdma::Access::kAnyone, nullptr,
        [](rdma::Context&, std::string_view) -> Result<std::string> { return std::string(); });
    router->Add<wire::NodeReportRequest>(
        wire::Method::kNodeReport, rdma::Access::kNodesOnly, &tasks_,
        [this](rdma::Context&, wire::NodeReportRequest q) { return volumes_->NodeReport(q); });
    PERIGEE_ASSIGN(listener_, transport_->Listen("sim:namespace", router));
    return Status::Ok();
  }
  void Housekeep() {
    (void)tasks_.PostAfter(60 * kSecond, [this] {
      namespace_->CleanUp().Ignore();  // tried again
      Housekeep();
    });
  }
  // What is visible becomes durable sooner or later, as on the mirrors.
  void KeepSyncing() {
    (void)tasks_.PostAfter(kSyncEvery, [this] {
      store_.WaitDurable(store_.VisiblePosition()).Ignore();  // tried again
      KeepSyncing();
    });
  }

  static constexpr Nanos kSyncEvery = 5 * kSecond;
  const World world_;
  const Alive alive_ = std::make_shared<std::atomic<bool>>(true);
  ProcessTasks tasks_;
  ProcessStore store_;
  const std::shared_ptr<rdma::SlabPool> slabs_ = MakeSlabs();
  std::unique_ptr<metrics::Registry> metrics_ = metrics::Registry::Create();
  std::unique_ptr<objectd::DriveSet> drives_;
  std::unique_ptr<rdma::Transport> transport_;
  std::unique_ptr<objectd::StorageNodes> storage_nodes_;
  std::unique_ptr<objectd::VolumeManager> volumes_;
  std::unique_ptr<objectd::NodeTable> nodes_;
  std::unique_ptr<objectd::RpcBurstPeers> peers_;
  std::unique_ptr<objectd::DirectoryHolds> holds_;
  std::unique_ptr<objectd::Delegations> delegations_;
  std::unique_ptr<objectd::Namespace> namespace_;
  std::unique_ptr<objectd::AbsentWriters> writers_;
  const std::shared_ptr<client::GivenUpLeases> given_up_ =
      std::make_shared<client::GivenUpLeases>();
  std::unique_ptr<objectd::s3::ContentIo> content_;
  std::unique_ptr<rdma::Listener> listener_;
};

// The machine: its disk and its store outlive processes.
class NamespaceNode {
 public:
  NamespaceNode(uint64_t seed, ManualScheduler* scheduler, rdma::SimNetwork* network)
      : scheduler_(scheduler), network_(network), disk_(MemDisk::Create(seed)) {}
  ~NamespaceNode() { Kill(); }
  Status Start() {
    process_ = std::make_shared<NamespaceProcess>(
        NamespaceProcess::World{scheduler_, network_, disk_.get(), store_.get()});
    Status started = process_->Start();
    if (!started.ok()) Kill();
    return started;
  }
  void Kill() {
    if (auto process = std::exchange(process_, nullptr)) process->Kill();
  }
  void CutPower() {
    Kill();
    disk_->Crash();
    store_->Crash();
  }
  // Null while it is down. Whoever holds it may find that it was killed meanwhile.
  const std::shared_ptr<NamespaceProcess>& process() const { return process_; }

 private:
  ManualScheduler* const scheduler_;
  rdma::SimNetwork* const network_;
  const std::unique_ptr<MemDisk> disk_;
  const std::unique_ptr<objectd::kv::MemStore> store_ = objectd::kv::MemStore::Create();
  std::shared_ptr<NamespaceProcess> process_;
};

}  // namespace perigee::sim
