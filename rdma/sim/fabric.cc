#include "rdma/sim/fabric.h"

#include <cstring>

#include "rdma/sim/server.h"

namespace perigee::rdma::sim {

// Always the same number of draws for a message, so that turning one fault on leaves the others'
// dice as they were.
Fate Fabric::Draw(const std::string& from, const std::string& to) {
  std::lock_guard lock(mu_);
  auto own = faults_between_.find(Between(from, to));
  const SimFaults& faults = own == faults_between_.end() ? faults_ : own->second;
  Nanos spread = faults.delay_max > faults.delay_min ? faults.delay_max - faults.delay_min : 0;
  auto delay = [&] {
    return faults.delay_min + static_cast<Nanos>(random_.Below(static_cast<uint64_t>(spread) + 1));
  };
  auto strikes = [&](uint32_t per_million) { return random_.Below(1'000'000) < per_million; };
  Fate fate;
  fate.delay = delay();
  fate.second_delay = delay();
  fate.lost = strikes(faults.lose_per_million);
  fate.duplicated = strikes(faults.duplicate_per_million);
  fate.reset = strikes(faults.reset_per_million);
  if (partitions_.contains(Between(from, to))) fate = Fate{.lost = true, .delay = fate.delay};
  ++counts_.messages;
  if (fate.reset) {
    ++counts_.resets;
  } else if (fate.lost) {
    ++counts_.lost;
  } else if (fate.duplicated) {
    ++counts_.duplicated;
  }
  return fate;
}

namespace {

// One payload that waits for a buffer.
struct Filling : std::enable_shared_from_this<Filling> {
  std::shared_ptr<Fabric> fabric;
  std::shared_ptr<SlabPool> pool;
  std::shared_ptr<const std::string> bytes;
  Nanos deadline = 0;
  std::function<void(Piece)> then;
  std::mutex mu;  // guards what follows
  bool done = false;
  bool watching = false;

  void Try() {
    std::function<void(Piece)> finish;
    Piece piece;
    bool watch = false;
    {
      std::lock_guard lock(mu);
      if (done) return;
      piece = pool->TryAllocate(bytes->size());
      if (piece || fabric->Now() >= deadline) {
        done = true;
        finish = std::move(then);
      } else {
        watch = !std::exchange(watching, true);
      }
    }
    if (finish) {
      if (piece) std::memcpy(piece.data(), bytes->data(), bytes->size());
      finish(std::move(piece));
    } else if (watch) {
      auto again = [self = shared_from_this()] {
        {
          std::lock_guard lock(self->mu);
          self->watching = false;
        }
        self->Try();
      };
      pool->OnNextFree([again, keep = fabric] { (void)keep->After(0, again); });
      // What came free before that registration is not told.
      (void)fabric->After(0, [self = shared_from_this()] { self->Try(); });
    }
  }
};

}  // namespace

void Fabric::FillPiece(std::shared_ptr<SlabPool> pool, std::shared_ptr<const std::string> bytes,
                       Nanos deadline, std::function<void(Piece)> then) {
  auto filling = std::make_shared<Filling>();
  filling->fabric = shared_from_this();
  filling->pool = std::move(pool);
  filling->bytes = std::move(bytes);
  filling->deadline = deadline;
  filling->then = std::move(then);
  filling->Try();
  std::lock_guard lock(filling->mu);
  if (!filling->done) (void)After(deadline - Now(), [filling] { filling->Try(); });
}

Status Fabric::AddServer(const std::string& name, const std::shared_ptr<Server>& server) {
  std::lock_guard lock(mu_);
  auto& place = servers_[name];
  if (!place.expired()) return Status(Code::kAlreadyExists, "somebody listens on sim:" + name);
  place = server;
  return Status::Ok();
}

void Fabric::RemoveServer(const std::string& name, const Server* server) {
  std::lock_guard lock(mu_);
  auto it = servers_.find(name);
  if (it == servers_.end()) return;
  auto current = it->second.lock();
  if (!current || current.get() == server) servers_.erase(it);
}

std::shared_ptr<Server> Fabric::FindServer(const std::string& name) {
  std::lock_guard lock(mu_);
  auto it = servers_.find(name);
  return it == servers_.end() ? nullptr : it->second.lock();
}

void Fabric::AddLink(const std::shared_ptr<Link>& link) {
  std::lock_guard lock(mu_);
  std::erase_if(links_, [](auto& weak) { return weak.expired(); });
  links_.push_back(link);
}

std::vector<std::shared_ptr<Link>> Fabric::LinksOf(const std::string& host) {
  std::vector<std::shared_ptr<Link>> found;
  std::lock_guard lock(mu_);
  for (auto& weak : links_) {
    auto link = weak.lock();
    if (link && (link->client_host() == host || link->server_host() == host)) found.push_back(link);
  }
  return found;
}

void Fabric::SetFaults(SimFaults faults) {
  std::lock_guard lock(mu_);
  faults_ = faults;
}
void Fabric::SetFaultsBetween(const std::string& a, const std::string& b, SimFaults faults) {
  std::lock_guard lock(mu_);
  faults_between_[Between(a, b)] = faults;
}
void Fabric::Partition(const std::string& a, const std::string& b, bool cut) {
  std::lock_guard lock(mu_);
  if (cut) {
    partitions_.insert(Between(a, b));
  } else {
    partitions_.erase(Between(a, b));
  }
}
void Fabric::HealAll() {
  std::lock_guard lock(mu_);
  partitions_.clear();
}
SimCounts Fabric::counts() const {
  std::lock_guard lock(mu_);
  return counts_;
}

}  // namespace perigee::rdma::sim
