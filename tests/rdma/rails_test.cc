#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "rdma/rails/rail_channel.h"
#include "tests/rdma/sim_world.h"

using namespace perigee;
using namespace perigee::rdma;

namespace {

constexpr auto kWrite = wire::Method::kShardWrite;  // may be sent again
constexpr auto kMkdir = wire::Method::kMetaMkdir;   // may not
constexpr size_t kBytes = 256 << 10;

// One address of the peer. It takes bulk at `bytes_per_s`, one call after the other.
struct Port {
  SimWorld& world;
  std::string name;
  double bytes_per_s;
  std::unique_ptr<Transport> transport;
  std::unique_ptr<Listener> listener;
  Nanos free_at = 0;
  size_t probes = 0;
  std::map<std::string, int> served;  // by the call's header

  Port(SimWorld& w, std::string n, double rate) : world(w), name(std::move(n)), bytes_per_s(rate) {
    transport = world.NewTransport(name, NodeOptions(1));
    auto listening = transport->Listen(
        "sim:" + name,
        std::make_shared<FunctionHandler>([this](auto call) { Serve(std::move(call)); }));
    REQUIRE(listening.ok());
    listener = std::move(*listening);
  }
  void Serve(std::unique_ptr<ServerCall> call) {
    if (call->method() == wire::Method::kPing) {
      ++probes;
      return call->Reply({});
    }
    ++served[std::string(call->header())];
    const Nanos now = world.scheduler().clock().Monotonic();
    free_at = std::max(free_at, now) +
              static_cast<Nanos>(static_cast<double>(call->bulk().size()) / bytes_per_s * kSecond);
    std::shared_ptr<ServerCall> shared = std::move(call);
    world.scheduler().PostAfter(free_at - now, [shared] {
      shared->bulk().Release();
      shared->Reply({});
    });
  }
  void Cut() {
    world.network().Partition("client", name);
    world.network().ResetHost(name);
  }
  void Mend() { world.network().Heal("client", name); }
};

// A client with rails to the given ports of one peer.
struct Scene {
  SimWorld world{3};
  std::vector<std::unique_ptr<Port>> ports;
  std::unique_ptr<Transport> client = world.NewTransport("client", NodeOptions(2));
  std::unique_ptr<metrics::Registry> registry = metrics::Registry::Create();
  std::shared_ptr<RailChannel> channel;
  std::string bulk = std::string(kBytes, 'x');
  size_t started = 0, done = 0;
  std::map<Code, size_t> outcomes;

  explicit Scene(const std::vector<double>& rates = {1e9, 1e9}) {
    std::vector<Rail> rails;
    for (size_t i = 0; i < rates.size(); ++i) {
      ports.push_back(std::make_unique<Port>(world, "port" + std::to_string(i), rates[i]));
      rails.push_back({ports[i]->name, *client->Connect("sim:" + ports[i]->name)});
    }
    channel =
        std::make_shared<RailChannel>(std::move(rails), world.scheduler().clock(), registry.get());
  }
  ~Scene() { channel->Close(); }

  Nanos Now() { return world.scheduler().clock().Monotonic(); }
  void Start(wire::Method method, ConstBytes bytes = {}) {
    channel->Call(method, "call " + std::to_string(started++), bytes, {.timeout = 30 * kSecond},
                  [this](Result<Payload> result) {
                    ++outcomes[result.code()];
                    ++done;
                  });
  }
  void StartBulk(size_t count) {
    for (size_t i = 0; i < count; ++i) Start(kWrite, AsBytes(bulk));
  }
  void Finish() {
    REQUIRE(world.manual().RunUntil([&] { return done == started; }));
  }
  Result<Payload> Ask(wire::Method method = kMkdir, Nanos timeout = 30 * kSecond) {
    return channel->CallAndWait(method, "asked", {}, {.timeout = timeout});
  }
  size_t Served(size_t port) {
    size_t calls = 0;
    for (auto& [header, times] : ports[port]->served) calls += static_cast<size_t>(times);
    return calls;
  }
  wire::RailInfo Info(size_t rail) { return channel->Rails()[rail]; }
};

}  // namespace

TEST_CASE("rails: bulk is spread as the rails' rates are") {
  Scene scene({3e8, 1e8});
  scene.StartBulk(32);  // nothing is known yet
  scene.Finish();
  const size_t before = scene.Served(1);
  const Nanos begin = scene.Now();
  for (int burst = 0; burst < 10; ++burst) {
    scene.StartBulk(32);
    scene.Finish();
  }
  const double slow = static_cast<double>(scene.Served(1) - before) / 320;
  CHECK(slow > 0.2);
  CHECK(slow < 0.3);
  // Nearly what both can do together; halves on each would take half as long again.
  const double ideal = 320.0 * kBytes / 4e8;
  CHECK(static_cast<double>(scene.Now() - begin) / kSecond < 1.2 * ideal);
  CHECK(scene.outcomes == std::map<Code, size_t>{{Code::kOk, 352}});
  CHECK(scene.Info(0).bytes + scene.Info(1).bytes == 352 * kBytes);
  const double ratio = static_cast<double>(scene.Info(0).bytes_per_s) /
                       static_cast<double>(scene.Info(1).bytes_per_s);
  CHECK(ratio > 2.5);
  CHECK(ratio < 3.5);
}

TEST_CASE("rails: small calls go where fewest are in flight") {
  Scene scene;
  REQUIRE(scene.Ask().ok());
  scene.world.manual().RunFor(kSecond);
  const size_t before = scene.Served(0);
  for (int i = 0; i < 100; ++i) scene.Start(kMkdir);
  scene.Finish();
  CHECK(scene.Served(0) - before == 50);
}

TEST_CASE("rails: a rail that is cut under load loses no call, and comes back") {
  Scene scene;
  scene.StartBulk(64);
  scene.Finish();
  REQUIRE(scene.Info(0).state == "up");
  REQUIRE(scene.Info(1).state == "up");
  scene.StartBulk(64);
  const size_t early = scene.done;
  REQUIRE(scene.world.manual().RunUntil([&] { return scene.done >= early + 16; }));
  REQUIRE(scene.Info(0).calls_in_flight > 0);
  scene.ports[0]->Cut();
  scene.StartBulk(64);
  scene.Finish();
  CHECK(scene.outcomes == std::map<Code, size_t>{{Code::kOk, 192}});
  CHECK(scene.Info(0).state == "cooling down");
  CHECK_FALSE(scene.Info(0).problem.empty());
  CHECK(scene.channel->Healthy());
  // Everything goes by the other one until the cool-down is over and a probe was answered.
  const size_t before = scene.Served(0);
  scene.StartBulk(16);
  scene.Finish();
  CHECK(scene.Served(0) == before);
  scene.ports[0]->Mend();
  scene.world.manual().RunFor(kRailCoolDownMax);
  scene.StartBulk(1);  // probes
  scene.Finish();
  scene.world.manual().RunFor(kSecond);
  CHECK(scene.Info(0).state == "up");
  scene.StartBulk(32);
  scene.Finish();
  CHECK(scene.Served(0) > before);
  CHECK(scene.outcomes == std::map<Code, size_t>{{Code::kOk, 241}});
  const auto counted = [&](const char* name, size_t port) {
    return scene.registry->GetCounter(name, "", {{"rail", scene.ports[port]->name}})->Value();
  };
  CHECK(counted("perigee_net_rail_cooldowns_total", 0) == 1);
  CHECK(counted("perigee_net_rail_cooldowns_total", 1) == 0);
  CHECK(counted("perigee_net_rail_bytes_total", 0) + counted("perigee_net_rail_bytes_total", 1) ==
        241.0 * kBytes);
}

TEST_CASE("rails: what may have been executed is not sent again, what was not sent is") {
  Scene scene({1e6, 1e6});
  REQUIRE(scene.Ask().ok());
  scene.world.manual().RunFor(kSecond);
  for (int i = 0; i < 8; ++i) scene.Start(kMkdir, AsBytes(scene.bulk));
  REQUIRE(scene.world.manual().RunUntil([&] { return scene.ports[0]->served.size() >= 4; }));
  scene.ports[0]->Cut();
  for (int i = 0; i < 8; ++i) scene.Start(kMkdir, AsBytes(scene.bulk));
  scene.Finish();
  CHECK(scene.outcomes == std::map<Code, size_t>{{Code::kOk, 12}, {Code::kUnavailable, 4}});
  for (auto& port : scene.ports)
    for (auto& [header, times] : port->served) {
      CHECK(times == 1);
      const bool twice = port == scene.ports[0] && scene.ports[1]->served.contains(header);
      CHECK_MESSAGE(!(twice && header != "asked"), header);
    }
}

TEST_CASE("rails: one that leads nowhere delays nobody and is left alone more and more") {
  Scene scene;
  scene.ports[0]->Cut();
  const Nanos begin = scene.Now();
  REQUIRE(scene.Ask().ok());
  CHECK(scene.Now() - begin < 10 * kMillisecond);  // to connect there would have taken a second
  for (int i = 0; i < 1200; ++i) {
    const Nanos asked = scene.Now();
    REQUIRE(scene.Ask().ok());
    CHECK(scene.Now() - asked < kMillisecond);
    scene.world.manual().RunFor(100 * kMillisecond);
  }
  // 1 s, 2, 4, 8, 16, and then each 30, with a second for each attempt.
  CHECK(scene.Info(0).cool_downs >= 7);
  CHECK(scene.Info(0).cool_downs <= 8);
  CHECK(scene.Served(0) == 0);
}

TEST_CASE("rails: while none answers calls say so for each, and go on as soon as one does") {
  Scene scene;
  REQUIRE(scene.Ask().ok());
  for (auto& port : scene.ports) port->Cut();
  auto failed = scene.Ask();
  CHECK(failed.code() == Code::kUnavailable);
  CHECK(failed.status().message().find("port0: ") != std::string::npos);
  CHECK(failed.status().message().find("port1: ") != std::string::npos);
  CHECK_FALSE(scene.channel->Healthy());
  CHECK(scene.Ask(kMkdir, 100 * kMillisecond).code() == Code::kDeadlineExceeded);
  scene.ports[1]->Mend();
  scene.world.manual().RunFor(kSecond);  // for the attempts of before to fail
  CHECK(scene.Ask().ok());
  CHECK(scene.channel->Healthy());
  CHECK(scene.Info(1).state == "up");
}

TEST_CASE("rails: a peer's own word that something is away cools no rail") {
  SimWorld world(4);
  auto server = world.NewTransport("server", NodeOptions(1));
  auto client = world.NewTransport("client", NodeOptions(2));
  auto handler = std::make_shared<FunctionHandler>([](std::unique_ptr<ServerCall> call) {
    if (call->method() == wire::Method::kPing) return call->Reply({});
    call->Fail(Status(Code::kUnavailable, "the drive is offline"));
  });
  auto one = server->Listen("sim:one", handler), two = server->Listen("sim:two", handler);
  REQUIRE(one.ok());
  REQUIRE(two.ok());
  RailChannel channel({{"one", *client->Connect("sim:one")}, {"two", *client->Connect("sim:two")}},
                      world.scheduler().clock());
  for (int i = 0; i < 5; ++i) {
    auto reply = channel.CallAndWait(kWrite, "x", {}, {});
    CHECK(reply.code() == Code::kUnavailable);
    CHECK(reply.status().message().find("the drive is offline") != std::string::npos);
  }
  for (auto& rail : channel.Rails()) CHECK(rail.cool_downs == 0);
}

TEST_CASE("rails: a bulk call that meets its deadline on a rail that is silent cools it") {
  Scene scene;
  scene.StartBulk(8);
  scene.Finish();
  scene.world.network().Partition("client", "port0");  // nobody is told
  scene.StartBulk(8);
  scene.Finish();
  CHECK(scene.outcomes[Code::kOk] >= 8);
  CHECK(scene.outcomes[Code::kOk] + scene.outcomes[Code::kDeadlineExceeded] == 16);
  CHECK(scene.Info(0).cool_downs == 1);
  CHECK(scene.Info(1).cool_downs == 0);
}

TEST_CASE("rails: a peer that dies slows no calls to another one") {
  Scene scene;
  REQUIRE(scene.Ask().ok());
  Port other(scene.world, "other", 1e9);
  RailChannel well({{"other", *scene.client->Connect("sim:other")},
                    {"nowhere", *scene.client->Connect("sim:nowhere")}},
                   scene.world.scheduler().clock());
  const auto round = [&] {
    const Nanos begin = scene.Now();
    for (int i = 0; i < 50; ++i) REQUIRE(well.CallAndWait(kMkdir, "x", {}, {}).ok());
    return scene.Now() - begin;
  };
  REQUIRE(round() > 0);
  for (auto& port : scene.ports) port->Cut();
  scene.StartBulk(200);
  CHECK(round() < 50 * kMillisecond);
  scene.Finish();
  CHECK(scene.outcomes == std::map<Code, size_t>{{Code::kUnavailable, 200}});
}

TEST_CASE("rails: closing cancels calls and takes no rail for lost") {
  Scene scene({1e6, 1e6});
  REQUIRE(scene.Ask().ok());
  scene.world.manual().RunFor(kSecond);
  scene.StartBulk(4);
  REQUIRE(scene.world.manual().RunUntil([&] { return scene.Served(0) + scene.Served(1) >= 5; }));
  scene.channel->Close();
  scene.StartBulk(1);
  scene.Finish();
  CHECK(scene.Ask().code() == Code::kCancelled);
  CHECK(scene.outcomes == std::map<Code, size_t>{{Code::kCancelled, 5}});
  for (auto& rail : scene.channel->Rails()) CHECK(rail.cool_downs == 0);
}

TEST_CASE("rails: a rate is bytes over busy time, and does not last") {
  RailMeter meter;
  CHECK(meter.Rate(kSecond) == 0);
  // Two at once, over a rail that moves a megabyte a second.
  meter.Moved(0, kSecond, 1'000'000);
  meter.Moved(0, 2 * kSecond, 1'000'000);
  CHECK(meter.Rate(2 * kSecond) == doctest::Approx(1e6));
  for (int i = 3; i < 60; ++i) meter.Moved((i - 1) * kSecond, i * kSecond, 4'000'000);
  CHECK(meter.Rate(60 * kSecond) == doctest::Approx(4e6).epsilon(0.05));
  meter.Moved(60 * kSecond, 61 * kSecond, 100);  // too small to tell
  CHECK(meter.Rate(61 * kSecond) == doctest::Approx(4e6).epsilon(0.05));
  CHECK(meter.Rate(59 * kSecond + kRailRateAgeMax + 1) == 0);
}

TEST_CASE("rails: cool-downs double up to a bound, and begin anew after an answer") {
  RailMeter meter;
  std::vector<Nanos> lengths;
  Nanos now = kSecond;
  for (int i = 0; i < 7; ++i) {
    REQUIRE(meter.Cool(now, "away"));
    CHECK_FALSE(meter.Cool(now + 1, "still"));  // one is going on
    Nanos length = 1;
    while (!meter.Rested(now + length)) length += kSecond / 2;
    lengths.push_back(length / kSecond);
    now += length;
    meter.Up(kMillisecond);  // a probe alone proves little
  }
  CHECK(lengths == std::vector<Nanos>{1, 2, 4, 8, 16, 30, 30});
  meter.Answered(now);
  REQUIRE(meter.Cool(now, "away"));
  CHECK(meter.Rested(now + kRailCoolDownMin));
}
