// Network: what a daemon is told to listen on is what others reach, by `tls` and by `ucx`.
#include "rdma/network/network.h"

#include <doctest/doctest.h>

#include "tests/rdma/tls_world.h"

using namespace perigee;
using namespace perigee::rdma;

namespace {

constexpr auto kMethod = wire::Method::kPing;

struct World {
  TlsWorld files;  // and an authority
  TempDir run;

  NetworkOptions Options(const std::string& transport) {
    NetworkOptions o;
    o.transport = transport;
    o.listen = "127.0.0.1:0";
    if (transport == "ucx") return o;
    o.ca_file = files.files().ca_file;
    o.cert_file = files.files().cert_file;
    o.key_file = files.files().key_file;
    return o;
  }
  std::unique_ptr<Network> Make(const std::string& transport, TransportOptions who) {
    auto made = Network::Create(Options(transport), std::move(who));
    REQUIRE_MESSAGE(made.ok(), made.status().ToString());
    return std::move(*made);
  }
  std::string socket() const { return "local:" + run.path() + "/daemon.sock"; }
};

std::shared_ptr<Handler> Provider() {
  return std::make_shared<FunctionHandler>(
      [](std::unique_ptr<ServerCall> call) { call->Reply({.header = call->peer().provider}); });
}

std::string Ask(Transport& transport, const std::string& address) {
  auto channel = transport.Connect(address);
  REQUIRE_MESSAGE(channel.ok(), channel.status().ToString());
  auto reply = (*channel)->CallAndWait(kMethod, "");
  (*channel)->Close();
  return reply.ok() ? reply->header : reply.status().ToString();
}

}  // namespace

TEST_CASE("network: a daemon is reached on its socket and from elsewhere, each by its address") {
  for (const std::string transport : {"tls", "ucx"}) {
    CAPTURE(transport);
    World world;
    auto server = world.Make(transport, NodeOptions(1));
    auto client = world.Make(transport, NodeOptions(2));
    REQUIRE(server->Listen(world.socket(), Provider()).ok());
    CHECK(server->info().provider == transport);
    REQUIRE(server->info().addresses.size() == 1);
    const std::string address = server->info().addresses[0];
    CHECK(address.starts_with(transport + ":127.0.0.1:"));
    CHECK_FALSE(address.ends_with(":0"));
    CHECK(Ask(client->transport(), server->socket()) == "local");
    CHECK(Ask(client->transport(), address) == transport);
    auto unknown = client->transport().Connect("sim:x");
    CHECK(unknown.code() == Code::kUnavailable);
    CHECK(unknown.status().message() == "sim:x: this process speaks local, " + transport + " only");
    server->Stop();
  }
}

TEST_CASE("network: without a listener there are sockets alone") {
  World world;
  auto made = Network::Create(NetworkOptions(), NodeOptions(1));
  REQUIRE(made.ok());
  REQUIRE((*made)->Listen(world.socket(), Provider()).ok());
  CHECK((*made)->info().addresses.empty());
  CHECK_FALSE((*made)->transport().Speaks("tls:127.0.0.1:1"));
  CHECK(Ask((*made)->transport(), (*made)->socket()) == "local");
  (*made)->Stop();
}

TEST_CASE("network: a certificate without the cluster secret opens no door") {
  World world;
  auto server = world.Make("tls", NodeOptions(1));
  REQUIRE(server->Listen(world.socket(), Provider()).ok());
  auto stranger = world.Make("tls", TransportOptions());
  CHECK(Ask(stranger->transport(), server->info().addresses[0]).find("cluster secret") !=
        std::string::npos);
  // Users of this machine are known by their sockets.
  CHECK(Ask(stranger->transport(), server->socket()) == "local");
  server->Stop();
}

TEST_CASE("network: what others are told is --advertise, with the port that was bound") {
  World world;
  for (auto [advertise, end] :
       {std::pair{"node1.example.org", ""}, {"node1.example.org:77", ":77"}}) {
    NetworkOptions o = world.Options("tls");
    o.advertise = advertise;
    auto made = Network::Create(o, NodeOptions(1));
    REQUIRE(made.ok());
    REQUIRE((*made)->Listen(world.socket(), Provider()).ok());
    const wire::NetworkInfo& info = (*made)->info();
    const std::string port = info.listen.substr(info.listen.rfind(':'));
    CHECK(info.addresses[0] ==
          "tls:node1.example.org" + (std::string(end).empty() ? port : std::string(end)));
    (*made)->Stop();
  }
}

TEST_CASE("network: several listeners are several addresses, and one listener may be told so too") {
  for (const std::string transport : {"tls", "ucx"}) {
    CAPTURE(transport);
    World world;
    NetworkOptions o = world.Options(transport);
    o.listen = "127.0.0.1:0,127.0.0.1:0";
    auto made = Network::Create(o, NodeOptions(1));
    REQUIRE_MESSAGE(made.ok(), made.status().ToString());
    auto client = world.Make(transport, NodeOptions(2));
    REQUIRE((*made)->Listen(world.socket(), Provider()).ok());
    const std::vector<std::string> addresses = (*made)->info().addresses;
    REQUIRE(addresses.size() == 2);
    CHECK(addresses[0] != addresses[1]);
    CHECK((*made)->info().listen == addresses[0] + "," + addresses[1]);
    for (const std::string& address : addresses)
      CHECK(Ask(client->transport(), address) == transport);
    CHECK(Ask(client->transport(), addresses[0] + "," + addresses[1]) == transport);
    (*made)->Stop();
    CHECK(Ask(client->transport(), addresses[1]) != transport);  // both have ended
  }
  World world;
  NetworkOptions o = world.Options("tls");
  o.listen = "0.0.0.0:0";
  o.advertise = "10.0.0.1,10.1.0.1:77";
  auto made = Network::Create(o, NodeOptions(1));
  REQUIRE(made.ok());
  REQUIRE((*made)->Listen(world.socket(), Provider()).ok());
  const wire::NetworkInfo& info = (*made)->info();
  const std::string port = info.listen.substr(info.listen.rfind(':'));
  CHECK(info.addresses == std::vector<std::string>{"tls:10.0.0.1" + port, "tls:10.1.0.1:77"});
  (*made)->Stop();
}

TEST_CASE("network: what cannot be used is one line about the option") {
  World world;
  NetworkOptions o = world.Options("tls");
  o.key_file = "/no/such.key";
  auto made = Network::Create(o, NodeOptions(1));
  CHECK(made.code() == Code::kInvalidArgument);
  CHECK(made.status().message().find("/no/such.key") != std::string::npos);
  o = world.Options("ucx");
  o.listen = "192.0.2.1:0";  // no interface of any machine has it
  made = Network::Create(o, NodeOptions(1));
  CHECK(made.code() == Code::kInvalidArgument);
  CHECK(made.status().message().find("--listen 192.0.2.1:0") != std::string::npos);
}
