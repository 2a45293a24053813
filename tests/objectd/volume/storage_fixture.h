#pragma once
// A cluster of storage nodes in one process: a namespace node (TestVolumes) and others with drives
// of their own, on the `sim` network and manual time.

#include <atomic>

#include "objectd/volume/drive_service.h"
#include "objectd/volume/node_drives.h"
#include "objectd/volume/volume_service.h"
#include "rdma/sim_transport.h"
#include "tests/objectd/volume/volume_fixture.h"

namespace perigee::objectd {

inline rdma::TransportOptions NodeTransport(std::shared_ptr<rdma::SlabPool> slabs, uint64_t id) {
  rdma::TransportOptions options;
  options.cluster_secret = "a secret of thirty-two characters";
  options.node_id = id;
  options.role = rdma::Role::kNode;
  options.pool = std::move(slabs);
  return options;
}

// What objectd/node_server.cc does with real doors.
class TestNode {
 public:
  TestNode(std::string name, size_t drives, rdma::SimNetwork& network, Scheduler& scheduler,
           std::shared_ptr<rdma::SlabPool> slabs)
      : name_(std::move(name)), network_(network), scheduler_(scheduler), slabs_(std::move(slabs)) {
    REQUIRE(disk->CreateDirs("/state").ok());
    for (size_t i = 1; i <= drives; i++) options.dirs.push_back("/d" + std::to_string(i));
    options.state_dir = "/state";
    options.drive.segment_bytes = 4 << 20;
    options.drive.capacity_bytes = 1 << 30;
  }
  ~TestNode() { Stop(); }

  Status Start() {
    auto made = NodeDrives::Create(options, Deps());
    PERIGEE_TRY(made.status());
    drives = std::move(*made);
    rdma::TransportOptions options = NodeTransport(slabs_, drives->node());
    options.metrics = metrics.get();
    auto transport = network_.CreateTransport(name_, options);
    PERIGEE_TRY(transport.status());
    transport_ = std::move(*transport);
    PERIGEE_ASSIGN(channel_, transport_->Connect("sim:namespace"));
    auto reply = Send({.node = drives->node(), .cluster_id = drives->cluster_id(), .name = name_});
    PERIGEE_TRY(reply.status());
    PERIGEE_TRY(drives->Open(reply->cluster_id));
    auto router = std::make_shared<rdma::Router>();
    RegisterDriveService(*router, {.find = [this](uint64_t id) { return drives->Find(id); },
                                   .failed = [this](const Drive&) { (void)Report(); },
                                   .shard_pool = &scheduler_,
                                   .slow_pool = &scheduler_,
                                   .slabs = slabs_});
    PERIGEE_ASSIGN(listener_, transport_->Listen("sim:" + name_, router));
    running_ = std::make_shared<std::atomic<bool>>(true);
    PERIGEE_TRY(Report());
    KeepReporting();
    return Status::Ok();
  }
  // As SIGKILL: its drives stay as they are.
  void Stop() {
    if (running_) *running_ = false;
    network_.ResetHost(name_);
    if (listener_) listener_->Stop();
    listener_.reset();
    channel_.reset();
    transport_.reset();
    if (drives) drives->Stop();
    drives.reset();
  }
  Status Report() {
    auto reply = Send({.node = drives->node(),
                       .cluster_id = drives->cluster_id(),
                       .name = name_,
                       .address = "sim:" + name_,
                       .drives = drives->Report()});
    return reply.ok() ? Status::Ok() : std::move(reply).TakeStatus();
  }
  Result<wire::NodeReportReply> Send(const wire::NodeReportRequest& request) {
    return rdma::Call<wire::NodeReportReply>(*channel_, wire::Method::kNodeReport, request, {},
                                             {.timeout = 2 * kSecond});
  }
  size_t Shards() {
    size_t count = 0;
    for (const wire::NodeDrive& drive : drives->Report()) {
      auto handle = drives->Find(drive.drive_id);
      if (!handle) continue;
      auto shards = handle->ListShards({}, 1 << 20);
      REQUIRE(shards.ok());
      count += shards->size();
    }
    return count;
  }
  // Of calls from the namespace node.
  double BytesIn(rdma::TrafficClass traffic) {
    return metrics
        ->GetCounter("perigee_rdma_call_bytes_total", "",
                     {{"provider", "sim"},
                      {"class", std::string(rdma::NameOf(traffic))},
                      {"peer", HexEncode64(1)},
                      {"direction", "in"}})
        ->Value();
  }
  DriveDeps Deps() {
    return {.disk = disk.get(), .pool = &scheduler_, .slabs = slabs_, .metrics = metrics.get()};
  }
  const std::string& name() const { return name_; }

  std::unique_ptr<MemDisk> disk = MemDisk::Create(1);
  std::unique_ptr<metrics::Registry> metrics = metrics::Registry::Create();
  NodeDrives::Options options;
  std::unique_ptr<NodeDrives> drives;

 private:
  void KeepReporting() {
    scheduler_.PostAfter(kSecond, [this, running = running_] {
      if (!*running) return;
      drives->Probe();
      Report().Ignore();
      if (*running) KeepReporting();
    });
  }

  const std::string name_;
  rdma::SimNetwork& network_;
  Scheduler& scheduler_;
  const std::shared_ptr<rdma::SlabPool> slabs_;
  std::unique_ptr<rdma::Transport> transport_;
  std::unique_ptr<rdma::Listener> listener_;
  std::shared_ptr<rdma::Channel> channel_;
  std::shared_ptr<std::atomic<bool>> running_;
};

// Three drives and 2+1 on the namespace node.
class TestStorage {
 public:
  explicit TestStorage(uint64_t seed = 1) : volumes(3, 2, 1, seed, Later{}) {
    volumes.options.table.lease = volumes.options.table.repair_after = 2 * 60 * kSecond;
    network = rdma::SimNetwork::Create(seed, &volumes.scheduler());
    StartNamespace();
  }
  ~TestStorage() {
    nodes.clear();
    StopNamespace();
  }

  void StartNamespace() {
    auto made = network->CreateTransport("namespace", NodeTransport(volumes.slabs, 1));
    REQUIRE(made.ok());
    transport_ = std::move(*made);
    volumes.transport = transport_.get();
    volumes.Start();
    auto router = std::make_shared<rdma::Router>();
    router->Add<wire::NodeReportRequest>(wire::Method::kNodeReport, rdma::Access::kNodesOnly,
                                         &volumes.scheduler(),
                                         [this](rdma::Context&, wire::NodeReportRequest q) {
                                           return volumes.manager->NodeReport(q);
                                         });
    auto listener = transport_->Listen("sim:namespace", router);
    REQUIRE(listener.ok());
    listener_ = std::move(*listener);
  }
  void StopNamespace() {
    network->ResetHost("namespace");
    if (listener_) listener_->Stop();
    listener_.reset();
    volumes.Stop();
    transport_.reset();
  }
  TestNode& Add(const std::string& name, size_t drives = 2) {
    nodes.push_back(
        std::make_unique<TestNode>(name, drives, *network, volumes.scheduler(), volumes.slabs));
    Status started = nodes.back()->Start();
    REQUIRE_MESSAGE(started.ok(), started.ToString());
    return *nodes.back();
  }
  wire::StorageNodeInfo Info(const std::string& name) {
    for (const wire::StorageNodeInfo& info : List().nodes)
      if (info.name == name) return info;
    return {};
  }
  wire::NodeListReply List() { return volumes.manager->ListNodes(); }
  Result<wire::StorageNodeInfo> Change(const std::string& name, wire::NodeAction action) {
    return volumes.manager->ChangeNode({.node = name, .action = action});
  }
  // Looks each second, for two hours.
  bool RunUntil(const std::function<bool()>& holds) {
    for (int i = 0; i < 7200; i++) {
      if (holds()) return true;
      RunFor(kSecond);
    }
    return false;
  }
  void RunFor(Nanos time) { volumes.scheduler().RunFor(time); }
  bool AllOnline(size_t n) {
    return volumes.DrivesOnline() == n && volumes.table().Drives().size() == n;
  }
  // Every volume on as many nodes as it has shards.
  bool Spread() {
    auto map = volumes.table().Map();
    for (const wire::VolumeInfo& volume : map->volumes) {
      std::set<wire::NodeId> on;
      for (uint64_t id : volume.drives) on.insert(map->FindDrive(id)->node);
      if (on.size() < volume.drives.size()) return false;
    }
    return true;
  }

  TestVolumes volumes;
  std::shared_ptr<rdma::SimNetwork> network;
  std::vector<std::unique_ptr<TestNode>> nodes;

 private:
  std::unique_ptr<rdma::Transport> transport_;
  std::unique_ptr<rdma::Listener> listener_;
};

}  // namespace perigee::objectd
