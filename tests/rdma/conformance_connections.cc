// The conformance suite's part about connections: their making, their end, and who may have one.

#include <doctest/doctest.h>

#include <mutex>
#include <optional>
#include <vector>

#include "tests/rdma/conformance_pair.h"

namespace perigee::rdma {

void CheckConnections(const WorldMaker& make_world) {
  SUBCASE("a stopped server fails its calls, and the channel finds the next one by itself") {
    CallShelf shelf;
    Pair pair(make_world(), [&](std::unique_ptr<ServerCall> call) {
      if (call->header() == "hold") return shelf.Put(std::move(call));
      Echo(std::move(call));
    });
    REQUIRE(pair.Call("connect").ok());
    Outcomes outcomes;
    pair.channel->Call(kMethod, "hold", {}, CallOptions{kLong}, outcomes.Expect());
    auto held = shelf.Take();
    REQUIRE(held != nullptr);
    pair.listener->Stop();
    CHECK(pair.handler->disconnects() == 1);
    REQUIRE(outcomes.Wait(1));
    CHECK(outcomes.Count(Code::kUnavailable) == 1);
    CHECK(pair.Call("nobody").code() == Code::kUnavailable);
    CHECK(!pair.channel->Healthy());
    Echo(std::move(held));  // into the void
    pair.listener.reset();
    pair.Listen();
    auto reply = pair.Call("back");
    REQUIRE_MESSAGE(reply.ok(), reply.status().ToString());
    CHECK(pair.channel->Healthy());
  }

  SUBCASE("a closed channel cancels its calls and stays closed") {
    CallShelf shelf;
    Pair pair(make_world(), [&](std::unique_ptr<ServerCall> call) { shelf.Put(std::move(call)); });
    Outcomes outcomes;
    pair.channel->Call(kMethod, "held", {}, CallOptions{kLong}, outcomes.Expect());
    auto held = shelf.Take();
    REQUIRE(held != nullptr);
    pair.channel->Close();
    REQUIRE(outcomes.Wait(1));
    CHECK(outcomes.Count(Code::kCancelled) == 1);
    CHECK(pair.Call("after").code() == Code::kCancelled);
    pair.channel->Call(kMethod, "after", {}, {}, outcomes.Expect());
    REQUIRE(outcomes.Wait(2));
    CHECK(outcomes.Count(Code::kCancelled) == 2);
    CHECK(pair.handler->WaitForDisconnects(1));
    held->Reply({});
  }

  SUBCASE("a client with another secret is refused, and so is a server with another one") {
    TransportOptions other = NodeOptions(2);
    other.cluster_secret = "some other secret";
    Pair pair(make_world(), Echo, NodeOptions(1), other);
    CHECK(pair.Call("x").code() == Code::kUnauthenticated);
    CHECK(pair.Call("x").code() == Code::kUnauthenticated);
    CHECK(pair.handler->disconnects() == 0);
    TransportOptions none;
    auto plain = pair.world->NewTransport("plain", none);
    auto listener = plain->Listen(pair.world->Address("plain"), pair.handler);
    REQUIRE(listener.ok());
    auto channel = *pair.client->Connect(pair.world->Address("plain"));
    CHECK(channel->CallAndWait(kMethod, "x", {}, {}).code() == Code::kUnauthenticated);
    (*listener)->Stop();
  }

  SUBCASE("a client without the secret is a user") {
    std::mutex mu;
    std::optional<Peer> seen;
    Pair pair(
        make_world(),
        [&](std::unique_ptr<ServerCall> call) {
          {
            std::lock_guard lock(mu);
            seen = call->peer();
          }
          Echo(std::move(call));
        },
        NodeOptions(1), TransportOptions{.node_id = 77});
    REQUIRE(pair.Call("x").ok());
    std::lock_guard lock(mu);
    CHECK(seen->role == Role::kUser);
    CHECK(seen->node_id == 0);
  }

  SUBCASE("where nobody listens a call fails soon, and one address has one listener") {
    Pair pair(make_world(), Echo);
    auto nowhere = *pair.client->Connect(pair.world->Address("nowhere"));
    CHECK(nowhere->Healthy());
    CHECK(nowhere->CallAndWait(kMethod, "", {}, {}).code() == Code::kUnavailable);
    CHECK(!nowhere->Healthy());
    CHECK(pair.client->Listen(pair.world->Address("service"), pair.handler).code() ==
          Code::kAlreadyExists);
    CHECK(pair.client->Listen("elsewhere:x", pair.handler).code() == Code::kInvalidArgument);
    CHECK(pair.client->Connect("elsewhere:x").code() == Code::kInvalidArgument);
    CHECK(pair.Call("still there").ok());
  }

  SUBCASE("each connection has its own number, and its end is told once") {
    std::mutex mu;
    std::vector<uint64_t> connections;
    Pair pair(make_world(), [&](std::unique_ptr<ServerCall> call) {
      {
        std::lock_guard lock(mu);
        connections.push_back(call->peer().connection);
      }
      Echo(std::move(call));
    });
    for (int i = 0; i < 3; ++i) {
      auto channel = *pair.client->Connect(pair.world->Address("service"));
      REQUIRE(channel->CallAndWait(kMethod, "", {}, {}).ok());
    }
    REQUIRE(pair.handler->WaitForDisconnects(3));
    pair.listener->Stop();
    CHECK(pair.handler->disconnects() == 3);
    std::lock_guard lock(mu);
    REQUIRE(connections.size() == 3);
    CHECK(connections[0] != connections[1]);
    CHECK(connections[1] != connections[2]);
  }

  SUBCASE("connections beyond the bound are turned away") {
    TransportOptions server = NodeOptions(1);
    server.connections_max = 1;
    Pair pair(make_world(), Echo, server);
    REQUIRE(pair.Call("first").ok());
    auto second = *pair.client->Connect(pair.world->Address("service"));
    CHECK(second->CallAndWait(kMethod, "", {}, {}).code() == Code::kUnavailable);
    pair.channel->Close();
    REQUIRE(pair.handler->WaitForDisconnects(1));
    Status last;
    // The place is free shortly after the disconnect was told.
    for (int i = 0; i < 1000; ++i) {
      last = second->CallAndWait(kMethod, "", {}, {}).status();
      if (last.ok()) break;
    }
    CHECK_MESSAGE(last.ok(), last.ToString());
  }

  SUBCASE("calls and bytes are counted") {
    auto registry = metrics::Registry::Create();
    TransportOptions server = NodeOptions(1), client = NodeOptions(2);
    client.metrics = registry.get();
    Pair pair(make_world(), Echo, server, client);
    for (int i = 0; i < 4; ++i) REQUIRE(pair.Call("x", AsBytes("some bulk")).ok());
    auto* calls = registry->GetCounter("perigee_rdma_calls_total", "",
                                       {{"provider", pair.client->name()}, {"direction", "out"}});
    auto* bytes = registry->GetCounter("perigee_rdma_bytes_total", "",
                                       {{"provider", pair.client->name()}, {"direction", "out"}});
    CHECK(calls->Value() >= 4);
    if (!pair.world->probes()) CHECK(calls->Value() == 4);
    CHECK(bytes->Value() >= 36);
    // The registry must outlive what counts.
    pair.channel.reset();
    pair.client.reset();
  }
}

}  // namespace perigee::rdma
