#pragma once
// GpuNode: bufferd, as bufferd/server.cc assembles it, on `sim`, and a user on its machine who
// speaks to its door over a connection without faults. Its burst files lie in a real temporary
// directory: descriptors are the kernel's. So a power cut takes what its index did not sync, and
// nothing of the files' bytes.

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bufferd/burst_service.h"
#include "bufferd/engine.h"
#include "bufferd/forward.h"
#include "bufferd/peers.h"
#include "client/blob/remote_cluster.h"
#include "client/buffer/delegation_page.h"
#include "rdma/node_address.h"
#include "tests/bufferd/temp_dir.h"
#include "tests/sim/namespace_node.h"

namespace perigee::sim {

// One life of its process.
class GpuProcess {
 public:
  struct World {
    ManualScheduler* scheduler;
    rdma::SimNetwork* network;
    std::string name;
    wire::NodeId node;
    std::string boot;
    std::string dir;
    Disk* disk;
    bufferd::MemIndex* index;
  };
  explicit GpuProcess(World world)
      : world_(std::move(world)),
        tasks_(*world_.scheduler),
        disk_(*world_.disk, alive_),
        index_(*world_.index, alive_) {}

  Status Start() {
    Clock& clock = world_.scheduler->clock();
    incarnation_ = static_cast<uint64_t>(clock.Wall());
    rdma::TransportOptions t;
    t.cluster_secret = kSecret;
    t.node_id = world_.node;
    t.role = rdma::Role::kNode;
    t.pool = slabs_;
    PERIGEE_ASSIGN(transport_, world_.network->CreateTransport(world_.name, std::move(t)));
    PERIGEE_ASSIGN(objectd_, transport_->Connect("sim:namespace"));
    PERIGEE_ASSIGN(feed_channel_, transport_->Connect("sim:namespace"));
    names_ = std::make_unique<bufferd::Names>(objectd_, &index_, &tasks_,
                                              bufferd::NamesOptions{.node = world_.node});
    feed_ = std::make_unique<client::MetaClient>(feed_channel_);
    meta_ = std::make_unique<client::MetaClient>(
        names_->guarded(),
        client::MetaClient::Options{.timeout = 20 * kSecond, .durable_timeout = 40 * kSecond});
    PERIGEE_ASSIGN(delegations_,
                   bufferd::Delegations::Create(world_.node, objectd_, &tasks_,
                                                [&clock] { return clock.Monotonic(); }));
    PERIGEE_TRY(BuildEngine());
    return Listen();
  }
  // SIGKILL.
  void Kill() {
    *alive_ = false;
    world_.network->ResetHost(world_.name);
    if (listener_) listener_->Stop();
    if (engine_) engine_->Stop();
    if (peers_) peers_->Close();
    if (feed_channel_) feed_channel_->Close();
    if (objectd_) objectd_->Close();
    tasks_.Stop();
  }

  bufferd::Engine& engine() { return *engine_; }
  const client::DelegationPage& page() const { return delegations_->page(); }

 private:
  Status BuildEngine() {
    Clock& clock = world_.scheduler->clock();
    PERIGEE_ASSIGN(cluster_,
                   client::RemoteCluster::Create(
                       {.transport = transport_.get(), .objectd = objectd_, .clock = &clock},
                       {.objectd_address = "sim:namespace"}));
    client::BlobIoDeps io{.cluster = cluster_.get(),
                          .shard_pool = &tasks_,
                          .slabs = slabs_,
                          .metrics = metrics_.get(),
                          .clock = &clock,
                          .node = world_.node,
                          .incarnation = incarnation_,
                          .given_up = std::make_shared<client::GivenUpLeases>()};
    blobs_ = client::BlobReader::Create(io);
    peers_ = std::make_unique<bufferd::RpcPeers>(*transport_, objectd_);
    bufferd::EngineDeps deps{.disk = &disk_,
                             .clock = &clock,
                             .work = &tasks_,
                             .fill = &tasks_,
                             .flush = &tasks_,
                             .unlink = &tasks_,
                             .poll = &tasks_,
                             .index = &index_,
                             .meta = meta_.get(),
                             .feed = feed_.get(),
                             .delegations = delegations_.get(),
                             .names = names_.get(),
                             .blobs = blobs_.get(),
                             .make_writer =
                                 [io](client::BlobWriter::Options o) {
                                   return client::BlobWriter::Create(io, std::move(o));
                                 },
                             .peers = peers_.get(),
                             .metrics = metrics_.get()};
    PERIGEE_ASSIGN(engine_, bufferd::Engine::Create(
                                deps, {.store_dir = world_.dir,
                                       .node = world_.node,
                                       .boot_id = world_.boot,
                                       .budget = {.budget_bytes = 256 << 20, .reserve_bytes = 1},
                                       .flush = {.linger = 2 * kSecond, .in_flight_max = 2}}));
    return Status::Ok();
  }
  Status Listen() {
    auto router = std::make_shared<rdma::Router>();
    service_ = std::make_unique<bufferd::BurstService>(*engine_, slabs_,
                                                       bufferd::ServicePools{.client = &tasks_,
                                                                             .slow = &tasks_,
                                                                             .peer = &tasks_,
                                                                             .watch = &tasks_,
                                                                             .told = &tasks_});
    service_->Register(router.get(), [](wire::BufferdStatusReply*) {});
    forward_ = std::make_unique<bufferd::Forward>(*engine_, *meta_);
    forward_->Register(router.get(), &tasks_);
    router->AddRaw(
        wire::Method::kPing, rdma::Access::kAnyone, nullptr,
        [](rdma::Context&, std::string_view) -> Result<std::string> { return std::string(); });
    Register();
    PERIGEE_TRY(engine_->Start());
    PERIGEE_ASSIGN(listener_, transport_->Listen("sim:" + world_.name, router));
    KeepRegistered();
    return Status::Ok();
  }
  bool Register() {
    auto reply = meta_->RegisterNode({.node = world_.node,
                                      .address = "sim:" + world_.name,
                                      .name = world_.name,
                                      .incarnation = incarnation_,
                                      .doors = {.machine = rdma::ThisMachine()}});
    registered_ = reply.ok();
    if (!registered_) return false;
    names_->ReserveIds();
    delegations_->GiveUp();  // of the time before
    engine_->core().inline_bytes_max = reply->inline_bytes_max;
    return true;
  }
  void KeepRegistered() {
    (void)tasks_.PostAfter(registered_ ? 5 * kSecond : kSecond, [this] {
      if (engine_->core().stopping) return;
      if (!registered_ || !objectd_->Healthy()) {
        const bool before = registered_;
        if (Register() && !before) {
          engine_->recovery().ReconcileAll();
          engine_->publisher().RegisterLater();
        }
      }
      KeepRegistered();
    });
  }

  const World world_;
  const Alive alive_ = std::make_shared<std::atomic<bool>>(true);
  ProcessTasks tasks_;
  ProcessDisk disk_;
  ProcessIndex index_;
  uint64_t incarnation_ = 0;
  bool registered_ = false;
  const std::shared_ptr<rdma::SlabPool> slabs_ = MakeSlabs();
  std::unique_ptr<metrics::Registry> metrics_ = metrics::Registry::Create();
  std::unique_ptr<rdma::Transport> transport_;
  std::shared_ptr<rdma::Channel> objectd_, feed_channel_;
  std::unique_ptr<bufferd::Names> names_;
  std::unique_ptr<bufferd::Delegations> delegations_;
  std::unique_ptr<client::MetaClient> meta_, feed_;
  std::unique_ptr<client::RemoteCluster> cluster_;
  std::unique_ptr<client::BlobReader> blobs_;
  std::unique_ptr<bufferd::RpcPeers> peers_;
  std::unique_ptr<bufferd::Engine> engine_;
  std::unique_ptr<bufferd::BurstService> service_;
  std::unique_ptr<bufferd::Forward> forward_;
  std::unique_ptr<rdma::Listener> listener_;
};

// The machine, and its user.
class GpuNode {
 public:
  GpuNode(std::string name, wire::NodeId node, ManualScheduler* scheduler,
          std::shared_ptr<rdma::SimNetwork> network)
      : name_(std::move(name)), node_(node), scheduler_(scheduler), network_(std::move(network)) {
    network_->SetFaultsBetween(name_, name_, {.delay_max = 50 * kMicrosecond});
    rdma::TransportOptions t;
    t.cluster_secret = kSecret;
    t.node_id = node_;
    t.role = rdma::Role::kNode;
    t.pool = MakeSlabs();
    auto transport = network_->CreateTransport(name_, std::move(t));
    REQUIRE(transport.ok());
    user_transport_ = std::move(*transport);
    auto channel = user_transport_->Connect("sim:" + name_);
    REQUIRE(channel.ok());
    user_ = std::move(*channel);
    meta_ = std::make_unique<client::MetaClient>(user_);
  }
  ~GpuNode() { Kill(); }

  Status Start() {
    process_ = std::make_shared<GpuProcess>(GpuProcess::World{
        scheduler_, network_.get(), name_, node_, boot_, dir_.path(), disk_.get(), &index_});
    Status started = process_->Start();
    if (!started.ok()) Kill();
    return started;
  }
  void Kill() {
    if (auto process = std::exchange(process_, nullptr)) process->Kill();
  }
  void CutPower() {
    Kill();
    index_.Crash();
    kept_.clear();
    boot_ += "'";
  }
  const std::string& name() const { return name_; }
  bool up() const { return process_ != nullptr; }
  const std::shared_ptr<GpuProcess>& process() const { return process_; }

  // ---- What the user does: system calls on the mount, in short ----
  client::MetaClient& meta() { return *meta_; }
  Result<wire::BurstOpenReply> Create(wire::FileId dir, const std::string& name,
                                      const std::string& path) {
    if (const Kept* kept = Known(dir, name)) {
      auto open = Ask<wire::BurstOpenReply>(
          wire::Method::kBurstOpen,
          wire::BurstOpenRequest{
              .id = kept->open.record.id, .access = wire::Access::kWrite, .truncate = true});
      if (open.code() != Code::kNotFound && open.code() != Code::kStale) return open;
    }
    return Ask<wire::BurstOpenReply>(
        wire::Method::kBurstCreate,
        wire::BurstCreateRequest{.path = path, .replace = true, .mode = 0644});
  }
  // O_EXCL, as a program that unpacks an archive does.
  Result<wire::BurstOpenReply> CreateIn(wire::FileId dir, const std::string& name) {
    return Ask<wire::BurstOpenReply>(
        wire::Method::kBurstCreate,
        wire::BurstCreateRequest{.parent = dir, .name = name, .mode = 0644});
  }
  Status Write(const wire::BurstOpenReply& open, uint64_t offset, const std::string& bytes) {
    while (offset < bytes.size()) {
      const size_t n = std::min<size_t>(bytes.size() - offset, 1 << 20);
      auto done = rdma::Call<wire::Empty>(
          *user_, wire::Method::kBurstWrite,
          wire::BurstWriteRequest{.handle = open.handle, .offset = offset},
          AsBytes(std::string_view(bytes).substr(offset, n)), {.timeout = kPatience});
      PERIGEE_TRY(done.status());
      offset += n;
    }
    return Status::Ok();
  }
  Status Publish(const wire::BurstOpenReply& open) {
    return Ask<wire::BurstStatReply>(wire::Method::kBurstPublish,
                                     wire::BurstHandleRequest{.handle = open.handle})
        .status();
  }
  Status Fsync(const wire::BurstOpenReply& open, wire::Durability durability) {
    return Ask<wire::BurstStatReply>(
               wire::Method::kBurstFsync,
               wire::BurstHandleRequest{.handle = open.handle, .durability = durability})
        .status();
  }
  // As the mount does before a rename that would replace what is durable.
  Status Sync(const std::string& path) {
    PERIGEE_ASSIGN(auto found, meta().Lookup({.path = path}));
    return Ask<wire::Empty>(wire::Method::kBurstSync, wire::BurstTarget{.id = found.record.id})
        .status();
  }
  Status Release(const wire::BurstOpenReply& open) {
    return Ask<wire::BurstStatReply>(wire::Method::kBurstRelease,
                                     wire::BurstHandleRequest{.handle = open.handle})
        .status();
  }
  // Of what it has kept open it asks nobody, like perigee-fuse.
  Result<std::string> Read(wire::FileId dir, const std::string& name) {
    if (const Kept* kept = Known(dir, name)) {
      ++kept_reads_;
      kept->page->Used();
      return BytesOf(kept->fd);
    }
    kept_.erase({dir, name});
    PERIGEE_ASSIGN(auto found, meta().Lookup({.parent = dir, .name = name}));
    PERIGEE_ASSIGN(wire::BurstOpenReply open,
                   Ask<wire::BurstOpenReply>(
                       wire::Method::kBurstOpen,
                       wire::BurstOpenRequest{.id = found.record.id, .want_delegation = true}));
    Result<std::string> bytes = ReadOpen(open);
    if (bytes.ok() && open.delegation) Keep(open);
    Release(open).Ignore();  // goes with the connection
    return bytes;
  }
  uint64_t kept_reads() const { return kept_reads_; }
  Result<std::string> Read(const std::string& path) {
    PERIGEE_ASSIGN(
        wire::BurstOpenReply open,
        Ask<wire::BurstOpenReply>(wire::Method::kBurstOpen, wire::BurstOpenRequest{.path = path}));
    Result<std::string> bytes = ReadOpen(open);
    Release(open).Ignore();  // goes with the connection
    return bytes;
  }
  // Of all that is below `path`, or all on this node.
  Status Flush(const std::string& path, bool wait) {
    return Ask<wire::Empty>(wire::Method::kBurstFlush,
                            wire::BurstTarget{.path = path, .wait = wait})
        .status();
  }
  Status Evict(const std::string& path) {
    return Ask<wire::Empty>(wire::Method::kBurstEvict, wire::BurstTarget{.path = path}).status();
  }

  static constexpr Nanos kPatience = 30 * kSecond;

 private:
  template <class Reply, class Request>
  Result<Reply> Ask(wire::Method method, const Request& request) {
    return rdma::Call<Reply>(*user_, method, request, {}, {.timeout = kPatience});
  }
  Result<std::string> ReadOpen(const wire::BurstOpenReply& open) {
    if (open.kind == wire::OpenKind::kCached && open.size > 0) {
      PERIGEE_TRY(
          Ask<wire::Empty>(wire::Method::kBurstEnsure,
                           wire::BurstEnsureRequest{.handle = open.handle, .length = open.size})
              .status());
    }
    PERIGEE_ASSIGN(rdma::OwnedFd fd, DescriptorOf(open));
    return BytesOf(fd);
  }
  // What came with the open.
  Result<rdma::OwnedFd> DescriptorOf(const wire::BurstOpenReply& open) {
    auto process = process_;
    bufferd::FilePtr file = process ? process->engine().core().table->Find(open.burst) : nullptr;
    if (!file) return Status(Code::kUnavailable, "bufferd is gone");
    return process->engine().store().Descriptor(file->dir, file->burst, /*writable=*/false);
  }
  static Result<std::string> BytesOf(const rdma::OwnedFd& fd) {
    struct stat now;
    if (::fstat(fd.get(), &now) != 0) return Status(Code::kIo, "fstat");
    std::string bytes(static_cast<size_t>(now.st_size), '\0');
    if (::pread(fd.get(), bytes.data(), bytes.size(), 0) != now.st_size)
      return Status(Code::kIo, "pread");
    return bytes;
  }

  // Files that were delegated, by name. They outlive bufferd, as the mount does.
  struct Kept {
    std::shared_ptr<const client::DelegationPage> page;
    wire::BurstOpenReply open;
    rdma::OwnedFd fd;
  };
  const Kept* Known(wire::FileId dir, const std::string& name) const {
    auto it = kept_.find({dir, name});
    return it != kept_.end() && it->second.page->Holds(*it->second.open.delegation) ? &it->second
                                                                                    : nullptr;
  }
  void Keep(const wire::BurstOpenReply& open) {
    auto process = process_;
    auto fd = DescriptorOf(open);
    if (!process || !fd.ok()) return fd.status().Ignore();
    if (!page_ || page_->number() != open.delegation->page) {
      auto page = process->page().Descriptor();
      if (!page.ok()) return page.status().Ignore();
      auto mapped = client::DelegationPage::Map(
          *page, [clock = &scheduler_->clock()] { return clock->Monotonic(); });
      if (!mapped.ok()) return mapped.status().Ignore();
      page_ = std::move(*mapped);
    }
    kept_.insert_or_assign({open.delegation->parent, open.delegation->name},
                           Kept{page_, open, std::move(*fd)});
  }

  const std::string name_;
  const wire::NodeId node_;
  ManualScheduler* const scheduler_;
  const std::shared_ptr<rdma::SimNetwork> network_;
  bufferd::TempDir dir_;
  const std::unique_ptr<Disk> disk_ = CreatePosixDisk(IoEngine::kPread);
  bufferd::MemIndex index_;
  std::string boot_ = "boot";
  std::unique_ptr<rdma::Transport> user_transport_;
  std::shared_ptr<rdma::Channel> user_;
  std::unique_ptr<client::MetaClient> meta_;
  std::shared_ptr<GpuProcess> process_;
  std::shared_ptr<const client::DelegationPage> page_;
  std::map<std::pair<wire::FileId, std::string>, Kept> kept_;
  uint64_t kept_reads_ = 0;
};

}  // namespace perigee::sim
