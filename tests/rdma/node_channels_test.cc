#include "rdma/node_channels.h"

#include <doctest/doctest.h>

#include "rdma/node_address.h"
#include "rdma/rails/rail_channel.h"
#include "rdma/sim_transport.h"
#include "rdma/transport_set.h"
#include "tests/rdma/local_world.h"

using namespace perigee;
using namespace perigee::rdma;

namespace {

constexpr wire::NodeId kNode = 7;

// Nodes "sim:a" and "sim:b" that answer with their names, and a caller that looks up kNode.
struct World {
  std::unique_ptr<Scheduler> pool = CreateThreadPool({"sim", 4, 4096});
  std::shared_ptr<SimNetwork> network = SimNetwork::Create(1, pool.get());
  std::vector<std::unique_ptr<Transport>> transports;
  std::map<std::string, std::unique_ptr<Listener>> nodes;
  Transport* caller = Host("caller");
  wire::GetNodeReply registered{.address = "sim:a"};
  int lookups = 0;
  NodeChannels channels{*caller, RealClock::Get(), [this](wire::NodeId) {
                          ++lookups;
                          return Result<wire::GetNodeReply>(registered);
                        }};

  World() {
    Start("a");
    Start("b");
  }
  ~World() {
    channels.Close();
    nodes.clear();
    transports.clear();
    pool->Stop();
  }
  Transport* Host(const std::string& name) {
    auto made = network->CreateTransport(name, NodeOptions(1));
    REQUIRE(made.ok());
    transports.push_back(std::move(*made));
    return transports.back().get();
  }
  void Start(const std::string& name) {
    auto handler = std::make_shared<FunctionHandler>(
        [name](std::unique_ptr<ServerCall> call) { call->Reply({.header = name}); });
    auto listener = Host(name)->Listen("sim:" + name, handler);
    REQUIRE(listener.ok());
    nodes[name] = std::move(*listener);
  }
  std::string Ask() {
    auto channel = channels.To(kNode);
    if (!channel.ok()) return channel.status().message();
    auto reply = (*channel)->CallAndWait(wire::Method::kPing, "", {}, {.timeout = 5 * kSecond});
    channels.Note(kNode, *channel, reply.ok() ? Status::Ok() : reply.status());
    return reply.ok() ? reply->header : "failed";
  }
};

}  // namespace

TEST_CASE("a node is looked up once, and again when it did not answer") {
  World world;
  CHECK(world.Ask() == "a");
  CHECK(world.Ask() == "a");
  CHECK(world.lookups == 1);
  auto links = world.channels.Links();
  REQUIRE(links.size() == 1);
  CHECK(links[0].to == "node 0000000000000007");
  CHECK(links[0].address == "sim:a");
  CHECK(links[0].connected);
  CHECK(links[0].since > 0);
  // It comes back elsewhere.
  world.nodes["a"]->Stop();
  world.registered.address = "sim:b";
  CHECK(world.Ask() == "failed");
  links = world.channels.Links();
  CHECK_FALSE(links[0].connected);
  CHECK_FALSE(links[0].problem.empty());
  CHECK(world.Ask() == "b");
  CHECK(world.lookups == 2);
  CHECK(world.channels.Links()[0].connected);
}

TEST_CASE("an address goes to those who can use it") {
  World world;
  const Transport& sim = *world.caller;
  const std::string here = ThisMachine();
  const auto ask = [&](const wire::NodeDoors& doors, const std::string& address = "sim:a") {
    auto chosen = ChooseAddress(address, doors, here, sim);
    return chosen.ok() ? *chosen : chosen.status().message();
  };
  CHECK(ask({}) == "sim:a");
  CHECK(ask({.machine = here, .network = {"sim:b"}}) == "sim:a");
  // The same path there is another socket.
  CHECK(ask({.machine = "elsewhere", .network = {"tls:b:1", "sim:b", "sim:c"}}) == "sim:b,sim:c");
  CHECK(ask({.machine = "elsewhere"}).find("--listen") != std::string::npos);
  CHECK(ask({.machine = "elsewhere", .network = {"tls:b:1"}}) ==
        "it is reached by tls:b:1, and this process speaks sim");
  CHECK(ask({.machine = here, .network = {"sim:b"}}, "local:/x") == "sim:b");
}

TEST_CASE("a machine's name is the same for all its processes, and has its namespaces") {
  CHECK(ThisMachine() == ThisMachine());
  CHECK(ThisMachine().find("net:[") != std::string::npos);
  CHECK(ThisMachine().find("mnt:[") != std::string::npos);
}

TEST_CASE("a node with several addresses has a rail to each, where this process speaks to it") {
  World world;
  TransportSet set;
  auto sim = world.network->CreateTransport("caller", NodeOptions(1));
  REQUIRE(sim.ok());
  set.Add(std::move(*sim));
  CHECK(set.Speaks("sim:a,sim:b"));
  CHECK_FALSE(set.Speaks("sim:a,tls:b:1"));
  NodeChannels channels(set, RealClock::Get(), [](wire::NodeId) {
    return Result<wire::GetNodeReply>(wire::GetNodeReply{
        .address = "sim:x",
        .doors = {.machine = "elsewhere", .network = {"sim:a", "tls:b:1", "sim:b"}}});
  });
  auto channel = channels.To(kNode);
  REQUIRE(channel.ok());
  CHECK((*channel)->CallAndWait(wire::Method::kPing, "").ok());
  auto links = channels.Links();
  REQUIRE(links.size() == 1);
  CHECK(links[0].address == "sim:a,sim:b");
  REQUIRE(links[0].rails.size() == 2);
  CHECK(links[0].rails[0].address == "sim:a");
  CHECK(links[0].rails[1].address == "sim:b");
  channels.Close();
  // One address, or one that is spoken, needs no rails.
  for (const char* address : {"sim:a", "sim:a,tls:b:1"}) {
    auto one = set.Connect(address);
    REQUIRE(one.ok());
    CHECK(RailsOf(**one).empty());
  }
  CHECK(set.Connect("tls:a:1,tls:b:1").code() == Code::kUnavailable);
  CHECK_FALSE(set.Speaks("local:/data/a,sim:b"));  // a path
}
