#pragma once
// StorageNode: objectd --join, as objectd/node_server.cc assembles it, on `sim` and a MemDisk.

#include "objectd/volume/drive_service.h"
#include "objectd/volume/node_drives.h"
#include "tests/sim/namespace_node.h"

namespace perigee::sim {

// One life of its process.
class StorageProcess {
 public:
  struct World {
    ManualScheduler* scheduler;
    rdma::SimNetwork* network;
    std::string name;
    size_t drives;
    MemDisk* disk;
  };
  explicit StorageProcess(World world) : world_(std::move(world)), tasks_(*world_.scheduler) {}

  Status Start() {
    PERIGEE_TRY(world_.disk->CreateDirs("/state"));
    objectd::NodeDrives::Options o;
    for (size_t i = 1; i <= world_.drives; i++) o.dirs.push_back("/d" + std::to_string(i));
    o.state_dir = "/state";
    o.drive.segment_bytes = 1 << 20;
    o.drive.capacity_bytes = 1 << 30;
    PERIGEE_ASSIGN(drives_, objectd::NodeDrives::Create(std::move(o), {.disk = world_.disk,
                                                                       .pool = &tasks_,
                                                                       .slabs = slabs_,
                                                                       .metrics = metrics_.get()}));
    rdma::TransportOptions t;
    t.cluster_secret = kSecret;
    t.node_id = drives_->node();
    t.role = rdma::Role::kNode;
    t.pool = slabs_;
    PERIGEE_ASSIGN(transport_, world_.network->CreateTransport(world_.name, std::move(t)));
    PERIGEE_ASSIGN(channel_, transport_->Connect("sim:namespace"));
    uint64_t cluster_id = drives_->cluster_id();
    auto joined = Send({.node = drives_->node(), .cluster_id = cluster_id, .name = world_.name});
    // Who has joined before starts without the namespace node, too.
    if (joined.ok()) {
      cluster_id = joined->cluster_id;
    } else if (cluster_id == 0) {
      return std::move(joined).TakeStatus();
    } else {
      joined.status().Ignore();
    }
    PERIGEE_TRY(drives_->Open(cluster_id));
    auto router = std::make_shared<rdma::Router>();
    objectd::RegisterDriveService(*router,
                                  {.find = [this](uint64_t id) { return drives_->Find(id); },
                                   .failed = [this](const objectd::Drive&) { Report(); },
                                   .shard_pool = &tasks_,
                                   .slow_pool = &tasks_,
                                   .slabs = slabs_});
    router->AddRaw(
        wire::Method::kPing, rdma::Access::kAnyone, nullptr,
        [](rdma::Context&, std::string_view) -> Result<std::string> { return std::string(); });
    PERIGEE_ASSIGN(listener_, transport_->Listen("sim:" + world_.name, router));
    Report();
    KeepReporting();
    return Status::Ok();
  }
  // SIGKILL.
  void Kill() {
    world_.disk->SetFault([](std::string_view, const std::string&) {
      return Status(Code::kIo, "the process was killed");
    });
    world_.network->ResetHost(world_.name);
    if (listener_) listener_->Stop();
    if (channel_) channel_->Close();
    tasks_.Stop();
    if (drives_) drives_->Stop();
    world_.disk->SetFault(nullptr);
  }

 private:
  Result<wire::NodeReportReply> Send(const wire::NodeReportRequest& request) {
    return rdma::Call<wire::NodeReportReply>(*channel_, wire::Method::kNodeReport, request, {},
                                             {.timeout = 5 * kSecond});
  }
  void Report() {
    Send({.node = drives_->node(),
          .cluster_id = drives_->cluster_id(),
          .name = world_.name,
          .address = "sim:" + world_.name,
          .drives = drives_->Report()})
        .status()
        .Ignore();  // told again in a second
  }
  void KeepReporting() {
    (void)tasks_.PostAfter(kSecond, [this] {
      drives_->Probe();
      Report();
      KeepReporting();
    });
  }

  const World world_;
  ProcessTasks tasks_;
  const std::shared_ptr<rdma::SlabPool> slabs_ = MakeSlabs();
  std::unique_ptr<metrics::Registry> metrics_ = metrics::Registry::Create();
  std::unique_ptr<objectd::NodeDrives> drives_;
  std::unique_ptr<rdma::Transport> transport_;
  std::shared_ptr<rdma::Channel> channel_;
  std::unique_ptr<rdma::Listener> listener_;
};

// The machine: its disk outlives processes.
class StorageNode {
 public:
  StorageNode(std::string name, size_t drives, uint64_t seed, ManualScheduler* scheduler,
              rdma::SimNetwork* network)
      : name_(std::move(name)),
        drives_(drives),
        scheduler_(scheduler),
        network_(network),
        disk_(MemDisk::Create(seed)) {}
  ~StorageNode() { Kill(); }
  Status Start() {
    process_ = std::make_unique<StorageProcess>(
        StorageProcess::World{scheduler_, network_, name_, drives_, disk_.get()});
    Status started = process_->Start();
    if (!started.ok()) Kill();
    return started;
  }
  void Kill() {
    if (process_) process_->Kill();
    process_.reset();
  }
  void CutPower() {
    Kill();
    disk_->Crash();
  }
  const std::string& name() const { return name_; }
  bool up() const { return process_ != nullptr; }

 private:
  const std::string name_;
  const size_t drives_;
  ManualScheduler* const scheduler_;
  rdma::SimNetwork* const network_;
  const std::unique_ptr<MemDisk> disk_;
  std::unique_ptr<StorageProcess> process_;
};

}  // namespace perigee::sim
