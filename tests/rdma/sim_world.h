#pragma once
// `sim` for tests, in manual time.

#include <doctest/doctest.h>

#include <memory>
#include <string>
#include <utility>

#include "rdma/sim_transport.h"
#include "tests/rdma/transport_conformance.h"

namespace perigee::rdma {

class SimWorld : public TransportWorld {
 public:
  explicit SimWorld(uint64_t seed)
      : scheduler_(ManualScheduler::Create(seed)),
        network_(SimNetwork::Create(seed, scheduler_.get())) {}
  std::unique_ptr<Transport> NewTransport(const std::string& host,
                                          TransportOptions options) override {
    auto transport = network_->CreateTransport(host, std::move(options));
    REQUIRE(transport.ok());
    return std::move(*transport);
  }
  std::string Address(const std::string& name) override { return "sim:" + name; }
  Scheduler& scheduler() override { return *scheduler_; }
  ManualScheduler& manual() { return *scheduler_; }
  SimNetwork& network() { return *network_; }

 private:
  std::unique_ptr<ManualScheduler> scheduler_;
  std::shared_ptr<SimNetwork> network_;
};

}  // namespace perigee::rdma
