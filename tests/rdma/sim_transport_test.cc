#include "rdma/sim_transport.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <string>
#include <vector>

#include "tests/rdma/sim_world.h"

using namespace perigee;
using namespace perigee::rdma;

namespace {

// Two hosts, an echo service that counts, and a channel to it.
struct Cluster {
  SimWorld world;
  std::atomic<int> served{0};
  std::shared_ptr<FunctionHandler> handler = std::make_shared<FunctionHandler>([this](auto call) {
    ++served;
    Payload payload;
    payload.header = std::string(call->header());
    call->Reply(std::move(payload));
  });
  std::unique_ptr<Transport> a, b;
  std::unique_ptr<Listener> listener;
  std::shared_ptr<Channel> channel;

  explicit Cluster(uint64_t seed) : world(seed) {
    a = world.NewTransport("a", NodeOptions(1));
    b = world.NewTransport("b", NodeOptions(2));
    auto listening = a->Listen("sim:a", handler);
    REQUIRE(listening.ok());
    listener = std::move(*listening);
    channel = *b->Connect("sim:a");
  }
  Code Call(Nanos timeout = kSecond) {
    return channel->CallAndWait(wire::Method::kPing, "x", {}, CallOptions{timeout}).code();
  }
};

}  // namespace

TEST_CASE("sim conforms") {
  CheckTransportConformance([] { return std::make_unique<SimWorld>(11); });
}

TEST_CASE("sim: a partition loses what is sent, and heals") {
  Cluster cluster(1);
  REQUIRE(cluster.Call() == Code::kOk);
  cluster.world.network().Partition("a", "b");
  Nanos before = cluster.world.manual().manual_clock().Monotonic();
  CHECK(cluster.Call(2 * kSecond) == Code::kDeadlineExceeded);
  CHECK(cluster.world.manual().manual_clock().Monotonic() - before >= 2 * kSecond);
  CHECK(cluster.served == 1);
  cluster.world.network().Heal("b", "a");
  CHECK(cluster.Call() == Code::kOk);
  cluster.world.network().Partition("a", "b");
  auto fresh = *cluster.b->Connect("sim:a");
  CHECK(fresh->CallAndWait(wire::Method::kPing, "", {}, {}).code() == Code::kUnavailable);
  cluster.world.network().HealAll();
  CHECK(fresh->CallAndWait(wire::Method::kPing, "", {}, {}).ok());
}

TEST_CASE(
    "sim: a reset fails the calls under way, tells the server, and the next call reconnects") {
  Cluster cluster(2);
  REQUIRE(cluster.Call() == Code::kOk);
  cluster.world.network().ResetHost("a");
  CHECK(!cluster.channel->Healthy());
  CHECK(cluster.handler->WaitForDisconnects(1));
  CHECK(cluster.Call() == Code::kOk);
  SimFaults faults;
  faults.reset_per_million = 1'000'000;
  cluster.world.network().SetFaults(faults);
  CHECK(cluster.Call() == Code::kUnavailable);
  CHECK(cluster.handler->WaitForDisconnects(2));
}

TEST_CASE("sim: a duplicated request is served twice and answered once") {
  Cluster cluster(3);
  REQUIRE(cluster.Call() == Code::kOk);
  SimFaults faults;
  faults.duplicate_per_million = 1'000'000;
  cluster.world.network().SetFaultsBetween("b", "a", faults);
  std::vector<Code> outcomes;
  for (int i = 0; i < 5; ++i) outcomes.push_back(cluster.Call());
  cluster.world.manual().RunFor(kSecond);
  CHECK(outcomes == std::vector<Code>(5, Code::kOk));
  CHECK(cluster.served == 11);
}

TEST_CASE("sim: the same seed gives the same run, another seed another one") {
  auto run = [](uint64_t seed) {
    Cluster cluster(seed);
    SimFaults faults;
    faults.lose_per_million = 100'000;
    faults.duplicate_per_million = 100'000;
    faults.reset_per_million = 50'000;
    cluster.world.network().SetFaults(faults);
    std::string trace;
    for (int i = 0; i < 100; ++i) {
      trace += std::to_string(static_cast<int>(cluster.Call(10 * kMillisecond))) + "@" +
               std::to_string(cluster.world.manual().manual_clock().Monotonic()) + " ";
    }
    return trace + std::to_string(cluster.served);
  };
  std::string first = run(42);
  CHECK(first == run(42));
  CHECK(first != run(43));
  CHECK(first.find(std::to_string(static_cast<int>(Code::kDeadlineExceeded)) + "@") !=
        std::string::npos);
  CHECK(first.find(std::to_string(static_cast<int>(Code::kUnavailable)) + "@") !=
        std::string::npos);
}

TEST_CASE("sim: calls of one connection overtake each other") {
  Cluster cluster(5);
  std::mutex mu;
  std::vector<int> order;
  Event all;
  for (int i = 0; i < 50; ++i) {
    cluster.channel->Call(wire::Method::kPing, "x", {}, {}, [&, i](Result<Payload> result) {
      std::lock_guard lock(mu);
      order.push_back(result.ok() ? i : -1);
      if (order.size() == 50) all.Set();
    });
  }
  REQUIRE(all.WaitFor(kSecond));
  CHECK(!std::is_sorted(order.begin(), order.end()));
  std::sort(order.begin(), order.end());
  for (int i = 0; i < 50; ++i) CHECK(order[static_cast<size_t>(i)] == i);
}

TEST_CASE("sim runs on real threads too") {
  auto pool = CreateThreadPool({"sim", 3, 1024});
  auto network = SimNetwork::Create(9, pool.get());
  {
    auto a = *network->CreateTransport("a", NodeOptions(1));
    auto b = *network->CreateTransport("b", NodeOptions(2));
    auto handler = std::make_shared<FunctionHandler>([](auto call) { call->Reply({}); });
    auto listener = *a->Listen("sim:a", handler);
    auto channel = *b->Connect("sim:a");
    for (int i = 0; i < 50; ++i) CHECK(channel->CallAndWait(wire::Method::kPing, "", {}, {}).ok());
    listener->Stop();
    CHECK(handler->disconnects() == 1);
  }
  pool->Stop();
}
