#pragma once
// Fabric: what the simulated hosts share: the dice, the clock and tasks, and who listens where.
// Thread-safe; it calls nobody with its lock held.

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/random.h"
#include "base/scheduler.h"
#include "rdma/sim_transport.h"

namespace perigee::rdma::sim {

class Server;
class Link;

// What happens to one message.
struct Fate {
  bool lost = false;
  bool duplicated = false;
  bool reset = false;
  Nanos delay = 0;
  Nanos second_delay = 0;
};

class Fabric : public std::enable_shared_from_this<Fabric> {
 public:
  Fabric(uint64_t seed, Scheduler* scheduler) : scheduler_(scheduler), random_(seed) {}

  Fate Draw(const std::string& from, const std::string& to);
  // False once the scheduler has stopped.
  bool After(Nanos delay, Task task) { return scheduler_->PostAfter(delay, std::move(task)) != 0; }
  Scheduler& scheduler() { return *scheduler_; }
  Nanos Now() { return scheduler_->clock().Monotonic(); }
  // Copies `bytes` into a piece of `pool` once it has one, then runs `then` as a task; empty at the
  // deadline.
  void FillPiece(std::shared_ptr<SlabPool> pool, std::shared_ptr<const std::string> bytes,
                 Nanos deadline, std::function<void(Piece)> then);

  Status AddServer(const std::string& name, const std::shared_ptr<Server>& server);
  void RemoveServer(const std::string& name, const Server* server);
  std::shared_ptr<Server> FindServer(const std::string& name);
  void AddLink(const std::shared_ptr<Link>& link);
  std::vector<std::shared_ptr<Link>> LinksOf(const std::string& host);

  void SetFaults(SimFaults faults);
  void SetFaultsBetween(const std::string& a, const std::string& b, SimFaults faults);
  void Partition(const std::string& a, const std::string& b, bool cut);
  void HealAll();
  SimCounts counts() const;

 private:
  using Pair = std::pair<std::string, std::string>;
  static Pair Between(const std::string& a, const std::string& b) {
    return a < b ? Pair{a, b} : Pair{b, a};
  }

  Scheduler* const scheduler_;
  mutable std::mutex mu_;  // guards what follows
  Random random_;
  SimFaults faults_;
  std::map<Pair, SimFaults> faults_between_;
  std::set<Pair> partitions_;
  std::map<std::string, std::weak_ptr<Server>> servers_;
  std::vector<std::weak_ptr<Link>> links_;
  SimCounts counts_;
};

}  // namespace perigee::rdma::sim
