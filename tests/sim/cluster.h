#pragma once
// Cluster: a namespace node with three drives, two storage nodes with two, and two GPU nodes, in
// one process, on one simulated network and in manual time. Everything is drawn from one seed.
// Driven by the test thread.

#include "tests/sim/gpu_node.h"
#include "tests/sim/namespace_node.h"
#include "tests/sim/seeded_secrets.h"
#include "tests/sim/storage_node.h"
#include "tests/sim/trace.h"

namespace perigee::sim {

class Cluster {
 public:
  explicit Cluster(uint64_t seed)
      : scheduler((SeedSecrets(seed), ManualScheduler::Create(seed))),
        network(rdma::SimNetwork::Create(seed + 1, scheduler.get())),
        trace(scheduler->clock()),
        ns(seed + 2, scheduler.get(), network.get()) {
    for (uint64_t i = 1; i <= 2; i++) {
      const std::string number = std::to_string(i);
      storage.push_back(std::make_unique<StorageNode>("storage" + number, 2, seed + 2 + i,
                                                      scheduler.get(), network.get()));
      gpus.push_back(std::make_unique<GpuNode>("gpu" + number, 100 + i, scheduler.get(), network));
    }
  }
  // Users' tasks must have ended.
  ~Cluster() {
    for (auto& gpu : gpus) gpu->Kill();
    for (auto& node : storage) node->Kill();
    ns.Kill();
    scheduler->Stop();
  }

  std::vector<std::string> Hosts() const {
    return {"namespace", "storage1", "storage2", "gpu1", "gpu2"};
  }
  bool Up(size_t host) const {
    if (host == 0) return ns.process() != nullptr;
    return host <= 2 ? storage[host - 1]->up() : gpus[host - 3]->up();
  }
  Status Start(size_t host) {
    if (host == 0) return ns.Start();
    return host <= 2 ? storage[host - 1]->Start() : gpus[host - 3]->Start();
  }
  void Kill(size_t host) {
    if (host == 0) return ns.Kill();
    host <= 2 ? storage[host - 1]->Kill() : gpus[host - 3]->Kill();
  }
  void CutPower(size_t host) {
    if (host == 0) return ns.CutPower();
    host <= 2 ? storage[host - 1]->CutPower() : gpus[host - 3]->CutPower();
  }
  // Looks each second; false when it does not hold in time.
  bool Within(Nanos time, const std::function<bool()>& holds) {
    for (Nanos waited = 0; waited < time; waited += kSecond) {
      if (holds()) return true;
      scheduler->RunFor(kSecond);
    }
    return holds();
  }
  // What `call` returns, run by a task of the namespace node's process, as its S3 door does.
  template <class Call>
  auto OnNamespace(Call call) -> decltype(call(std::declval<NamespaceProcess&>())) {
    std::shared_ptr<NamespaceProcess> process = ns.process();
    if (!process) return Status(Code::kUnavailable, "the namespace node is down");
    std::optional<decltype(call(*process))> result;
    Event done;
    Status posted = process->tasks().Post([&] {
      result.emplace(call(*process));
      done.Set();
    });
    if (!posted.ok()) return posted;
    done.Wait();  // a killed process runs its tasks to their end
    if (process->alive()) return std::move(*result);
    Read(*result);
    return Dead();
  }

  const std::unique_ptr<ManualScheduler> scheduler;
  const std::shared_ptr<rdma::SimNetwork> network;
  Trace trace;
  NamespaceNode ns;
  std::vector<std::unique_ptr<StorageNode>> storage;
  std::vector<std::unique_ptr<GpuNode>> gpus;

 private:
  static void Read(const Status& status) { status.Ignore(); }  // nobody hears it
  template <class T>
  static void Read(const Result<T>& result) {
    result.status().Ignore();
  }
};

}  // namespace perigee::sim
