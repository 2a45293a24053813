#include "bufferd/server.h"

#include <grp.h>
#include <unistd.h>

#include <cstdlib>

#include "base/log.h"
#include "base/process_metrics.h"
#include "base/random.h"
#include "bufferd/state_metrics.h"
#include "client/blob/lease_source.h"
#include "rdma/net_probe.h"
#include "rdma/node_address.h"
#include "rdma/rails/rail_channel.h"

namespace perigee::bufferd {
namespace {

constexpr char kInlineMaxName[] = "inline_bytes_max";
constexpr Nanos kRegisterEvery = 5 * kSecond;
constexpr Nanos kPingTimeout = 500 * kMillisecond;

std::unique_ptr<Scheduler> Pool(const char* name, uint32_t threads) {
  return CreateThreadPool({.name = name, .threads = threads, .queue_max = 16384});
}

// Made once, kept in <store>/node.
Result<wire::NodeId> LoadNode(Disk& disk, const std::string& store) {
  std::string path = store + "/node";
  auto text = ReadWholeFile(disk, path, 64);
  if (text.ok()) {
    while (!text->empty() && text->back() == '\n') text->pop_back();
    char* end = nullptr;
    wire::NodeId node = std::strtoull(text->c_str(), &end, 16);
    if (text->size() != 16 || *end != 0 || node == 0)
      return Status(Code::kCorrupt, path + ": not a node id");
    return node;
  }
  if (!text.status().Is(Code::kNotFound)) return std::move(text).TakeStatus();
  wire::NodeId node = 0;
  while (node == 0) node = SecretU64();
  PERIGEE_TRY(WriteFileAtomically(disk, path, HexEncode64(node) + "\n"));
  return node;
}

Result<int64_t> GroupId(const std::string& group) {
  if (group.empty()) return int64_t{-1};
  char* end = nullptr;
  long number = std::strtol(group.c_str(), &end, 10);
  if (*end == 0 && number >= 0) return int64_t{number};
  struct group entry;
  struct group* found = nullptr;
  std::string buffer(16384, '\0');
  if (::getgrnam_r(group.c_str(), &entry, buffer.data(), buffer.size(), &found) != 0 ||
      found == nullptr) {
    return Status(Code::kInvalidArgument, "--socket-group " + group + ": no such group");
  }
  return static_cast<int64_t>(found->gr_gid);
}

}  // namespace

std::vector<Scheduler*> Server::Pools::All() const {
  return {client.get(), slow.get(), peer.get(),  watch.get(), told.get(),   tell.get(),
          feed.get(),   work.get(), flush.get(), fill.get(),  shards.get(), unlink.get()};
}

Result<std::unique_ptr<Server>> Server::Start(const BufferdOptions& options) {
  std::unique_ptr<Server> server(new Server(options));
  PERIGEE_TRY(server->OpenStore());
  PERIGEE_TRY(server->Connect());
  PERIGEE_TRY(server->BuildEngine());
  server->preflight_ = server->Preflight();
  WarnOfDegraded(server->preflight_);
  PERIGEE_TRY(server->Listen());
  log::Info("bufferd_ready", {{"address", server->network_->socket()},
                              {"store", options.store},
                              {"node", HexEncode64(server->node_)},
                              {"objectd", server->registered_ ? "registered" : "away"}});
  return server;
}

Server::~Server() { Stop(); }

Status Server::OpenStore() {
  disk_ = CreatePosixDisk();
  PERIGEE_TRY(disk_->CreateDirs(options_.store));
  PERIGEE_TRY(disk_->CreateDirs(options_.run_dir));
  PERIGEE_ASSIGN(PidLock lock, PidLock::Take(options_.store + "/lock", PidLock::kPatience));
  lock_ = std::make_unique<PidLock>(std::move(lock));
  PERIGEE_ASSIGN(node_, LoadNode(*disk_, options_.store));
  PERIGEE_ASSIGN(boot_, ReadWholeFile(*disk_, "/proc/sys/kernel/random/boot_id", 256));
  while (!boot_.empty() && boot_.back() == '\n') boot_.pop_back();
  registry_ = metrics::Registry::Create();
  metrics::ExposeProcess(registry_.get());
  RocksIndexOptions index{.dir = options_.store + "/index"};
  // What the index needs to say "this is safe" must fit on a disk that burst files have filled.
  index.on_no_space = [this] {
    std::string ballast = options_.store + "/ballast";
    auto file = disk_->Open(ballast, OpenMode::kReadWrite);
    return file.ok() && (*file)->Truncate(0).ok();
  };
  PERIGEE_ASSIGN(index_, OpenRocksIndex(std::move(index)));
  return Status::Ok();
}

Status Server::Connect() {
  PERIGEE_ASSIGN(slabs_, rdma::SlabPool::Create({.bytes_max = options_.memory_limit / 2}));
  rdma::TransportOptions t;
  if (!options_.secret_file.empty()) {
    PERIGEE_ASSIGN(t.cluster_secret, LoadSecret(options_.secret_file, false));
  }
  t.node_id = node_;
  t.role = rdma::Role::kNode;
  t.pool = slabs_;
  t.metrics = registry_.get();
  rdma::LocalOptions local;
  PERIGEE_ASSIGN(local.socket_group, GroupId(options_.socket_group));
  if (local.socket_group >= 0) local.socket_mode = 0660;
  PERIGEE_ASSIGN(network_, rdma::Network::Create(options_.network, std::move(t), local));
  rdma::Transport& transport = network_->transport();
  if (!transport.Speaks(options_.objectd))
    return Status(Code::kInvalidArgument, "--objectd " + options_.objectd + ": this node speaks " +
                                              transport.name() + " (--transport)");
  PERIGEE_ASSIGN(objectd_, transport.Connect(options_.objectd));
  pools_.client = Pool("bd-client", 8);
  pools_.slow = Pool("bd-slow", 16);
  pools_.peer = Pool("bd-peer", 3);
  pools_.watch = Pool("bd-watch", 4);
  pools_.told = Pool("bd-told", 2);
  pools_.tell = Pool("bd-tell", 1);
  pools_.feed = Pool("bd-feed", 1);
  pools_.work = Pool("bd-work", 4);
  pools_.fill = Pool("bd-fill", 4);
  pools_.flush = Pool("bd-flush", static_cast<uint32_t>(options_.flush_parallel));
  pools_.unlink = Pool("bd-unlink", 4);
  pools_.shards = Pool("bd-shards", 24);
  names_ = std::make_unique<Names>(objectd_, index_.get(), pools_.work.get(),
                                   NamesOptions{.patience = options_.objectd_patience,
                                                .node = options_.hold_directories ? node_ : 0,
                                                .tell = pools_.tell.get(),
                                                .boot_time = [] { return client::BootTime(); }});
  PERIGEE_ASSIGN(feed_channel_, transport.Connect(options_.objectd));
  feed_ = std::make_unique<client::MetaClient>(feed_channel_);
  PERIGEE_ASSIGN(delegations_, Delegations::Create(node_, objectd_, pools_.work.get()));
  // Less than the clients' own deadlines, so that they hear why.
  meta_ = std::make_unique<client::MetaClient>(
      names_->guarded(),
      client::MetaClient::Options{.timeout = 20 * kSecond, .durable_timeout = 40 * kSecond});
  return Status::Ok();
}

Status Server::BuildEngine() {
  PERIGEE_ASSIGN(cluster_, client::RemoteCluster::Create({.transport = &network_->transport(),
                                                          .objectd = objectd_,
                                                          .clock = &RealClock::Get(),
                                                          .metrics = registry_.get()},
                                                         {.objectd_address = options_.objectd}));
  client::BlobIoDeps io{.cluster = cluster_.get(),
                        .shard_pool = pools_.shards.get(),
                        .slabs = slabs_,
                        .metrics = registry_.get(),
                        .clock = &RealClock::Get(),
                        .node = node_,
                        .incarnation = incarnation_,
                        .given_up = given_up_};
  blobs_ = client::BlobReader::Create(io);
  cluster_ahead_ = cluster_->In(rdma::TrafficClass::kPrefetch);
  cluster_flush_ = cluster_->In(rdma::TrafficClass::kFlush);
  client::BlobIoDeps ahead = io, flush = io;
  ahead.cluster = cluster_ahead_.get();
  flush.cluster = cluster_flush_.get();
  blobs_ahead_ = client::BlobReader::Create(ahead);
  peers_ = std::make_unique<RpcPeers>(network_->transport(), objectd_);
  EngineDeps deps{.disk = disk_.get(),
                  .clock = &RealClock::Get(),
                  .work = pools_.work.get(),
                  .fill = pools_.fill.get(),
                  .flush = pools_.flush.get(),
                  .unlink = pools_.unlink.get(),
                  .poll = pools_.feed.get(),
                  .index = index_.get(),
                  .meta = meta_.get(),
                  .feed = feed_.get(),
                  .delegations = delegations_.get(),
                  .names = names_.get(),
                  .blobs = blobs_.get(),
                  .blobs_ahead = blobs_ahead_.get(),
                  .make_writer =
                      [flush](client::BlobWriter::Options o) {
                        return client::BlobWriter::Create(flush, std::move(o));
                      },
                  .peers = peers_.get(),
                  .metrics = registry_.get()};
  EngineOptions options{
      .store_dir = options_.store,
      .node = node_,
      .boot_id = boot_,
      .budget = {.budget_bytes = options_.budget, .reserve_bytes = options_.reserve},
      .flush = {.linger = options_.flush_linger,
                .in_flight_max = static_cast<uint32_t>(options_.flush_parallel)},
      .scrub = {.rate = options_.scrub_rate, .interval = options_.scrub_interval}};
  PERIGEE_ASSIGN(engine_, Engine::Create(deps, options));
  PERIGEE_ASSIGN(auto inline_max, index_->GetValue(kInlineMaxName));
  if (inline_max && inline_max->size() == 8)
    engine_->core().inline_bytes_max = GetBe64(*inline_max);
  return Status::Ok();
}

Status Server::Listen() {
  auto router = std::make_shared<rdma::Router>();
  service_ = std::make_unique<BurstService>(*engine_, slabs_,
                                            ServicePools{.client = pools_.client.get(),
                                                         .slow = pools_.slow.get(),
                                                         .peer = pools_.peer.get(),
                                                         .watch = pools_.watch.get(),
                                                         .told = pools_.told.get()});
  service_->Register(router.get(), [this](wire::BufferdStatusReply* s) { CompleteStatus(s); });
  forward_ = std::make_unique<Forward>(*engine_, *meta_);
  forward_->Register(router.get(), pools_.client.get());
  router->AddRaw(
      wire::Method::kPing, rdma::Access::kAnyone, nullptr,
      [](rdma::Context&, std::string_view) -> Result<std::string> { return std::string(); });
  rdma::AddNetProbe(router.get(), pools_.peer.get(), pools_.slow.get(), &network_->transport(),
                    slabs_, options_.objectd);
  // Before serving, when objectd is there: the inline limit is its to tell.
  RegisterNode();
  PERIGEE_TRY(engine_->Start());
  PERIGEE_TRY(StartAdmin());  // first: the socket's clients ask for its address
  const auto told = network_->info().addresses;
  PERIGEE_TRY(network_->Listen("local:" + options_.run_dir + "/bufferd.sock", router));
  if (registered_ && network_->info().addresses != told) RegisterNode();  // the port was chosen now
  KeepRegistered();
  return Status::Ok();
}

Status Server::StartAdmin() {
  if (options_.admin_listen.empty()) return Status::Ok();
  ExposePreflight(registry_.get(), preflight_);
  ExposeState(registry_.get(), {.status =
                                    [this] {
                                      wire::BufferdStatusReply status;
                                      engine_->FillStatus(&status);
                                      return status;
                                    },
                                .objectd_connected = [this] { return Connected(); },
                                .low_space = [this] { return engine_->budget().Low(); },
                                .open_handles = [this] { return service_->open_handles(); }});
  PERIGEE_ASSIGN(admin_,
                 AdminServer::Start(options_.admin_listen, registry_.get(), [this]() -> Status {
                   if (!Connected()) return Status(Code::kUnavailable, "objectd is away");
                   return Status::Ok();
                 }));
  return Status::Ok();
}

bool Server::RegisterNode() {
  wire::RegisterNodeRequest q{
      .node = node_,
      .address = "local:" + options_.run_dir + "/bufferd.sock",
      .name = options_.node_name,
      .incarnation = incarnation_,
      .doors = {.machine = rdma::ThisMachine(), .network = network_->info().addresses}};
  auto reply = meta_->RegisterNode(q);
  if (!reply.ok()) {
    NoteAway(reply.status());
    return false;
  }
  if (!registered_.exchange(true)) {
    log::Info("registered", {{"objectd", objectd_->Describe()}});
    std::lock_guard lock(link_mu_);
    link_.since = RealClock::Get().Wall();
    link_.problem.clear();
    link_.refused = false;
  }
  names_->ReserveIds();
  delegations_->GiveUp();  // of the time before
  if (reply->inline_bytes_max != engine_->core().inline_bytes_max) {
    engine_->core().inline_bytes_max = reply->inline_bytes_max;
    std::string value;
    AppendBe64(&value, reply->inline_bytes_max);
    if (Status s = index_->PutValue(kInlineMaxName, value, Durable::kNo); !s.ok())
      log::Error("inline_limit_not_saved", {{"error", s}});
  }
  return true;
}

// One log line for as long as it lasts; status has the newest reason.
void Server::NoteAway(const Status& failed) {
  // Who asks in objectd's name while it is away says no more than that it is.
  auto answer = objectd_->CallAndWait(wire::Method::kPing, "", {}, {.timeout = kPingTimeout});
  const bool told = answer.ok() || !IsAway(failed);
  const Status why = told ? failed : answer.status();
  std::lock_guard lock(link_mu_);
  const bool refused = !IsAway(why);
  const bool news =
      registered_.exchange(false) || link_.problem.empty() || (refused && !link_.refused);
  if (news) {
    log::Warn("objectd_away", {{"objectd", objectd_->Describe()}, {"error", why}});
    link_.since = RealClock::Get().Wall();
  }
  if (link_.refused && !refused) return;  // asked again too soon: a refusal says more
  link_.refused = refused;
  link_.problem = why.message();
}

void Server::KeepRegistered() {
  auto again = [this] {
    if (engine_->core().stopping) return;
    // objectd forgets nothing, but one that was replaced or restored has to learn the address
    // again.
    if (!registered_ || !objectd_->Healthy()) {
      bool before = registered_;
      if (RegisterNode() && !before) {
        engine_->recovery().ReconcileAll();
        engine_->publisher().RegisterLater();
      }
    }
    if (registered_)  // they go with the next lease, or the next time
      client::ReturnGivenUp(*cluster_, *given_up_, node_, incarnation_).Ignore();
    KeepRegistered();
  };
  (void)pools_.work->PostAfter(registered_ ? kRegisterEvery : kSecond, again);
}

std::vector<PreflightCheck> Server::Preflight() const {
  std::vector<PreflightCheck> checks = RunPreflight(*disk_, {options_.store});
  auto add = [&](const char* name, bool ok, const char* good, const std::string& bad) {
    checks.push_back({name, ok, ok ? good : bad});
  };
  add("leases", engine_->store().leases(), "the kernel tells when a file is no longer written",
      "no file leases on " + options_.store +
          ": files are sealed after 10 s without a change; use a local file system");
  add("timestamps", engine_->store().fine_timestamps(), "every change moves a file's times",
      "coarse file times: each close publishes again; kernel 6.13 or newer has fine ones");
  add("secret", !options_.secret_file.empty(), "given",
      "no --secret-file: only clients of this machine are served");
  return checks;
}

void Server::CompleteStatus(wire::BufferdStatusReply* status) const {
  if (admin_) status->admin_address = admin_->address();
  status->objectd_transport = objectd_->Describe() + (Connected() ? ", connected" : ", away");
  status->network = network_->info();
  {
    std::lock_guard lock(link_mu_);
    status->links = {link_};
  }
  status->links[0].to = "objectd";
  status->links[0].address = options_.objectd;
  status->links[0].rails = rdma::RailsOf(*objectd_);
  status->links[0].connected = Connected();
  if (!status->links[0].connected && status->links[0].problem.empty()) {
    status->links[0].problem = objectd_->Healthy() ? "what was changed here meanwhile is told first"
                                                   : "the connection broke a moment ago";
    status->links[0].since = 0;
  }
  for (const auto& links : {peers_->Links(), cluster_->Links()})
    status->links.insert(status->links.end(), links.begin(), links.end());
  for (const PreflightCheck& check : preflight_)
    status->preflight.push_back({check.name, check.ok ? "ok" : "degraded", check.detail, {}});
}

void Server::Stop() {
  if (stopped_) return;
  stopped_ = true;
  if (network_) network_->Stop();
  if (admin_) admin_->Stop();
  if (names_) names_->GiveUpHolds();
  if (engine_) engine_->Stop();
  if (peers_) peers_->Close();
  if (delegations_) delegations_->GiveUp();
  if (feed_channel_) feed_channel_->Close();
  if (objectd_) objectd_->Close();
  for (Scheduler* pool : pools_.All()) {
    if (pool) pool->Stop();
  }
  if (index_) {
    if (Status s = index_->Sync(); !s.ok()) log::Error("burst_index_not_synced", {{"error", s}});
  }
}

}  // namespace perigee::bufferd
