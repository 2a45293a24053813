#include "rdma/sim_transport.h"

#include <mutex>
#include <utility>
#include <vector>

#include "rdma/sim/channel.h"
#include "rdma/sim/fabric.h"
#include "rdma/sim/server.h"

namespace perigee::rdma {
namespace sim {
namespace {

constexpr std::string_view kPrefix = "sim:";

Result<std::string> NameOf(const std::string& address) {
  if (!address.starts_with(kPrefix) || address.size() == kPrefix.size()) {
    return Status(Code::kInvalidArgument, "\"" + address + "\" is not sim:NAME");
  }
  return address.substr(kPrefix.size());
}

class SimListener final : public Listener {
 public:
  explicit SimListener(std::shared_ptr<Server> server) : server_(std::move(server)) {}
  ~SimListener() override { Stop(); }
  std::string address() const override { return "sim:" + server_->name(); }
  void Stop() override { server_->Stop(); }

 private:
  const std::shared_ptr<Server> server_;
};

class SimTransport final : public Transport {
 public:
  explicit SimTransport(std::shared_ptr<Host> host) : host_(std::move(host)) {}
  ~SimTransport() override {
    std::vector<std::weak_ptr<ClientCore>> channels;
    std::vector<std::weak_ptr<Server>> servers;
    {
      std::lock_guard lock(mu_);
      channels.swap(channels_);
      servers.swap(servers_);
    }
    for (auto& weak : channels) {
      if (auto channel = weak.lock()) channel->Close();
    }
    for (auto& weak : servers) {
      if (auto server = weak.lock()) server->Stop();
    }
  }

  Result<std::unique_ptr<Listener>> Listen(const std::string& address,
                                           std::shared_ptr<Handler> handler) override {
    PERIGEE_ASSIGN(std::string name, NameOf(address));
    auto server = std::make_shared<Server>(host_, name, std::move(handler));
    PERIGEE_TRY(host_->fabric->AddServer(name, server));
    {
      std::lock_guard lock(mu_);
      std::erase_if(servers_, [](auto& weak) { return weak.expired(); });
      servers_.push_back(server);
    }
    return std::unique_ptr<Listener>(std::make_unique<SimListener>(std::move(server)));
  }

  Result<std::shared_ptr<Channel>> Connect(const std::string& address) override {
    PERIGEE_ASSIGN(std::string name, NameOf(address));
    auto core = std::make_shared<ClientCore>(host_, name);
    {
      std::lock_guard lock(mu_);
      std::erase_if(channels_, [](auto& weak) { return weak.expired(); });
      channels_.push_back(core);
    }
    return std::shared_ptr<Channel>(std::make_shared<SimChannel>(std::move(core)));
  }

  std::string name() const override { return "sim"; }
  bool passes_fds() const override { return false; }

 private:
  const std::shared_ptr<Host> host_;
  std::mutex mu_;  // guards what follows
  std::vector<std::weak_ptr<ClientCore>> channels_;
  std::vector<std::weak_ptr<Server>> servers_;
};

class Network final : public SimNetwork {
 public:
  Network(uint64_t seed, Scheduler* scheduler)
      : fabric_(std::make_shared<Fabric>(seed, scheduler)) {}

  Result<std::unique_ptr<Transport>> CreateTransport(const std::string& host,
                                                     TransportOptions options,
                                                     SimIdentity identity) override {
    if (options.role == Role::kNode && options.cluster_secret.empty()) {
      return Status(Code::kInvalidArgument, "a node needs the cluster secret");
    }
    if (!options.pool) {
      PERIGEE_ASSIGN(options.pool, SlabPool::Create({}));
    }
    auto made = std::make_shared<Host>();
    made->fabric = fabric_;
    made->name = host;
    made->identity = identity;
    if (metrics::Registry* registry = options.metrics) {
      auto counter = [&](const char* name, const char* help, const char* direction) {
        return registry->GetCounter(name, help, {{"provider", "sim"}, {"direction", direction}});
      };
      made->bytes_out =
          counter("perigee_rdma_bytes_total", "Bytes through the transport's connections.", "out");
      made->bytes_in =
          counter("perigee_rdma_bytes_total", "Bytes through the transport's connections.", "in");
      made->calls_out =
          counter("perigee_rdma_calls_total", "Calls made (out) and served (in).", "out");
      made->calls_in =
          counter("perigee_rdma_calls_total", "Calls made (out) and served (in).", "in");
    }
    made->class_bytes = std::make_unique<ClassBytes>(options.metrics, "sim");
    made->options = std::move(options);
    return std::unique_ptr<Transport>(std::make_unique<SimTransport>(std::move(made)));
  }

  void SetFaults(SimFaults faults) override { fabric_->SetFaults(faults); }
  void SetFaultsBetween(const std::string& a, const std::string& b, SimFaults faults) override {
    fabric_->SetFaultsBetween(a, b, faults);
  }
  void Partition(const std::string& a, const std::string& b) override {
    fabric_->Partition(a, b, true);
  }
  void Heal(const std::string& a, const std::string& b) override {
    fabric_->Partition(a, b, false);
  }
  void HealAll() override { fabric_->HealAll(); }
  void ResetHost(const std::string& host) override {
    for (auto& link : fabric_->LinksOf(host)) link->Break("the host was reset");
  }
  SimCounts counts() const override { return fabric_->counts(); }

 private:
  const std::shared_ptr<Fabric> fabric_;
};

}  // namespace
}  // namespace sim

std::shared_ptr<SimNetwork> SimNetwork::Create(uint64_t seed, Scheduler* scheduler) {
  return std::make_shared<sim::Network>(seed, scheduler);
}

}  // namespace perigee::rdma
