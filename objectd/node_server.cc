#include "objectd/node_server.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>

#include "base/log.h"
#include "base/process_metrics.h"
#include "client/blob/busy_retry.h"
#include "objectd/volume/drive_service.h"
#include "rdma/net_probe.h"
#include "rdma/node_address.h"
#include "rdma/rails/rail_channel.h"

namespace perigee::objectd {
namespace {

using rdma::Access;
using wire::Method;

constexpr Nanos kReportEvery = kSecond;
constexpr Nanos kReportTimeout = 5 * kSecond;
constexpr Nanos kJoinPatience = 30 * kSecond;  // a new node's, for the namespace node to answer

bool IsAway(const Status& status) {
  return status.Is(Code::kUnavailable) || status.Is(Code::kDeadlineExceeded) ||
         status.Is(Code::kCancelled) || status.Is(Code::kBusy);
}

}  // namespace

Result<std::unique_ptr<NodeServer>> NodeServer::Start(const ObjectdOptions& options) {
  std::unique_ptr<NodeServer> s(new NodeServer(options));
  PERIGEE_TRY(s->OpenState());
  PERIGEE_TRY(s->Connect());
  PERIGEE_TRY(s->Join());
  PERIGEE_TRY(s->Listen());
  Status told = s->ReportNow();
  if (!told.ok() && !IsAway(told)) return told;
  told.Ignore();  // away: it is told each second
  s->KeepReporting();
  log::Info("storage_node_ready", {{"node", HexEncode64(s->drives_->node())},
                                   {"name", options.node_name},
                                   {"cluster", HexEncode64(s->drives_->cluster_id())},
                                   {"admin", s->admin_->address()},
                                   {"rpc", s->network_->socket()},
                                   {"drives", options.drives.size()}});
  return s;
}

Status NodeServer::OpenState() {
  registry_ = metrics::Registry::Create();
  metrics::ExposeProcess(registry_.get());
  disk_ = CreatePosixDisk();
  PERIGEE_ASSIGN(slabs_, rdma::SlabPool::Create({.bytes_max = options_.memory_limit / 2}));
  shard_pool_ = CreateThreadPool({.name = "shard", .threads = 24});
  slow_pool_ = CreateThreadPool({.name = "slow", .threads = 4});
  background_pool_ = CreateThreadPool({.name = "background", .threads = 4});
  PERIGEE_TRY(disk_->CreateDirs(options_.state_dir));
  PERIGEE_TRY(disk_->CreateDirs(options_.run_dir));
  PERIGEE_ASSIGN(PidLock lock, PidLock::Take(options_.state_dir + "/lock", PidLock::kPatience));
  lock_ = std::make_unique<PidLock>(std::move(lock));
  NodeDrives::Options o;
  o.dirs = options_.drives;
  o.state_dir = options_.state_dir;
  o.drive.capacity_bytes = options_.drive_capacity;
  o.drive.index_memory_bytes = std::max<uint64_t>(
      options_.memory_limit / 4 / std::max<size_t>(options_.drives.size(), 1), 4 << 20);
  DriveDeps deps;
  deps.disk = disk_.get();
  deps.pool = background_pool_.get();
  deps.slabs = slabs_;
  deps.metrics = registry_.get();
  deps.watch = std::make_shared<DriveWatch>(DriveWatch::Drives::kOfOneNode);
  deps.watch->Start();
  PERIGEE_ASSIGN(drives_, NodeDrives::Create(std::move(o), deps));
  return Status::Ok();
}

Status NodeServer::Connect() {
  rdma::TransportOptions t;
  PERIGEE_ASSIGN(t.cluster_secret, LoadSecret(options_.secret_file, false));
  t.node_id = drives_->node();
  t.role = rdma::Role::kNode;
  t.pool = slabs_;
  t.metrics = registry_.get();
  PERIGEE_ASSIGN(network_, rdma::Network::Create(options_.network, std::move(t)));
  if (!network_->transport().Speaks(options_.join)) {
    return Status(Code::kInvalidArgument, "--join " + options_.join + ": this node speaks " +
                                              network_->transport().name() + " (--transport)");
  }
  PERIGEE_ASSIGN(namespace_node_, network_->transport().Connect(options_.join));
  link_.to = "namespace node";
  link_.address = options_.join;
  return Status::Ok();
}

// A new node learns which cluster its drives are formatted for; one that has joined before knows.
Status NodeServer::Join() {
  uint64_t cluster_id = drives_->cluster_id();
  const Nanos until = RealClock::Get().Monotonic() + kJoinPatience;
  while (true) {
    auto reply = rdma::Call<wire::NodeReportReply>(
        *namespace_node_, Method::kNodeReport,
        wire::NodeReportRequest{
            .node = drives_->node(), .cluster_id = cluster_id, .name = options_.node_name},
        {}, {.timeout = kReportTimeout});
    if (reply.ok()) {
      cluster_id = reply->cluster_id;
      break;
    }
    Status why = std::move(reply).TakeStatus().With("--join " + options_.join);
    if (!IsAway(why)) return why;
    if (cluster_id != 0) {
      log::Warn("namespace_node_away", {{"address", options_.join}, {"error", why}});
      break;
    }
    if (RealClock::Get().Monotonic() >= until) return why;
    why.Ignore();  // perhaps it is only starting
    client::WaitFor(kReportEvery);
  }
  if (cluster_id == 0) return Status(Code::kInternal, "the namespace node has no cluster");
  PERIGEE_TRY(drives_->Open(cluster_id));
  std::vector<std::string> there;  // what does not answer would not answer here, either
  for (const wire::NodeDrive& drive : drives_->Report())
    if (drive.state != wire::DriveState::kLost) there.push_back(drive.dir);
  preflight_ = RunPreflight(*disk_, there);
  WarnOfDegraded(preflight_);
  ExposePreflight(registry_.get(), preflight_);
  return Status::Ok();
}

Status NodeServer::Listen() {
  auto router = std::make_shared<rdma::Router>();
  RegisterDriveService(
      *router, {.find = [this](uint64_t id) { return drives_->Find(id); },
                .failed =
                    [this](const Drive& drive) {
                      Status told = ReportNow();
                      if (told.ok()) return;
                      log::Warn("drive_failure_not_told", {{"dir", drive.dir()}, {"error", told}});
                    },
                .shard_pool = shard_pool_.get(),
                .slow_pool = slow_pool_.get(),
                .slabs = slabs_});
  router->AddRaw(
      Method::kPing, Access::kAnyone, nullptr,
      [](rdma::Context&, std::string_view) -> Result<std::string> { return std::string(); });
  rdma::AddNetProbe(router.get(), shard_pool_.get(), slow_pool_.get(), &network_->transport(),
                    slabs_, options_.join);
  router->Add<wire::Empty>(Method::kControlObjectdStatus, Access::kNodesOnly, slow_pool_.get(),
                           [this](rdma::Context&, wire::Empty) -> Result<wire::ObjectdStatusReply> {
                             return Describe();
                           });
  router->Add<wire::DriveReplaceRequest>(
      Method::kControlDriveReplace, Access::kNodesOnly, slow_pool_.get(),
      [this](rdma::Context&, wire::DriveReplaceRequest q) -> Result<wire::DriveInfo> {
        PERIGEE_ASSIGN(wire::NodeDrive fresh, drives_->Replace(q.dir));
        PERIGEE_TRY(ReportNow());
        return wire::DriveInfo{.drive_id = fresh.drive_id,
                               .state = wire::DriveState::kRepairing,
                               .dir = fresh.dir,
                               .node = drives_->node(),
                               .total_bytes = fresh.total_bytes,
                               .free_bytes = fresh.free_bytes,
                               .reason = "being filled"};
      });
  PERIGEE_ASSIGN(admin_, AdminServer::Start(options_.admin_listen, registry_.get(),
                                            [this] { return Health(); }));
  return network_->Listen("local:" + options_.run_dir + "/objectd.sock", router);
}

Status NodeServer::ReportNow() {
  std::lock_guard turn(report_mu_);
  wire::NodeReportRequest report{
      .node = drives_->node(),
      .cluster_id = drives_->cluster_id(),
      .name = options_.node_name,
      .address = "local:" + options_.run_dir + "/objectd.sock",
      .doors = {.machine = rdma::ThisMachine(), .network = network_->info().addresses},
      .drives = drives_->Report()};
  auto reply = rdma::Call<wire::NodeReportReply>(*namespace_node_, Method::kNodeReport, report, {},
                                                 {.timeout = kReportTimeout});
  std::lock_guard lock(mu_);
  const bool was = link_.connected;
  link_.connected = reply.ok();
  if (was != reply.ok() || link_.since == 0) link_.since = RealClock::Get().Wall();
  if (reply.ok()) {
    if (!was) log::Info("namespace_node_told", {{"address", options_.join}});
    link_.problem.clear();
    link_.refused = false;
    return Status::Ok();
  }
  const Status why = std::move(reply).TakeStatus();
  const bool refused = !IsAway(why);
  if (was || link_.problem.empty() || refused != link_.refused)
    log::Warn(refused ? "refused" : "namespace_node_away",
              {{"address", options_.join}, {"error", why}});
  link_.refused = refused;
  link_.problem = why.message();
  return why;
}

void NodeServer::KeepReporting() {
  background_pool_->PostAfter(kReportEvery, [this] {
    drives_->Probe();
    ReportNow().Ignore();  // link_ has it, and the log
    slabs_->Trim();
    KeepReporting();
  });
}

Status NodeServer::Health() const {
  std::lock_guard lock(mu_);
  if (link_.connected) return Status::Ok();
  return Status(Code::kUnavailable, "the namespace node does not hear this one: " + link_.problem);
}

wire::ObjectdStatusReply NodeServer::Describe() const {
  wire::ObjectdStatusReply reply;
  reply.cluster_id = drives_->cluster_id();
  reply.admin_address = admin_->address();
  for (wire::NodeDrive& drive : drives_->Report()) {
    reply.drives.push_back({.drive_id = drive.drive_id,
                            .state = drive.state,
                            .dir = drive.dir,
                            .node = drives_->node(),
                            .total_bytes = drive.total_bytes,
                            .free_bytes = drive.free_bytes,
                            .reason = drive.reason});
  }
  for (const PreflightCheck& check : preflight_)
    reply.preflight.push_back({check.name, check.ok ? "ok" : "degraded", check.detail, {}});
  reply.mirrors = "none: the namespace is at " + options_.join;
  reply.network = network_->info();
  std::lock_guard lock(mu_);
  reply.links = {link_};
  reply.links[0].rails = rdma::RailsOf(*namespace_node_);
  return reply;
}

void NodeServer::Stop() {
  if (std::exchange(stopped_, true)) return;
  if (namespace_node_) namespace_node_->Close();  // else a report is waited for
  if (network_) network_->Stop();
  if (admin_) admin_->Stop();
  for (auto* pool : {&shard_pool_, &slow_pool_, &background_pool_})
    if (*pool) (*pool)->Stop();
  if (drives_) drives_->Stop();
}

}  // namespace perigee::objectd
