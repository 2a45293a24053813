#pragma once
// What tests with hostile peers have: a server, and somebody else who uses it.

#include <doctest/doctest.h>

#include <memory>
#include <string>
#include <utility>

#include "rdma/rendezvous/frame.h"
#include "tests/rdma/conformance_pair.h"
#include "tests/rdma/rendezvous_world.h"

namespace perigee::rdma::rendezvous {

inline FrameHeader Request(uint64_t id) {
  FrameHeader head;
  head.kind = FrameKind::kRequest;
  head.id = id;
  head.method = static_cast<uint16_t>(wire::Method::kPing);
  head.timeout_us = 20'000'000;
  return head;
}

// A server that echoes, or keeps calls that say "hold"; and an honest client, whose calls must go
// on whatever the others do.
struct Scene {
  CallShelf shelf;
  std::shared_ptr<SlabPool> pool = Pool(64 << 20);
  Pair pair;

  static TransportOptions Server(const std::shared_ptr<SlabPool>& pool) {
    TransportOptions options = NodeOptions(1);
    options.pool = pool;
    options.credits = 4;
    return options;
  }
  explicit Scene(const ProviderUnderTest& provider,
                 uint64_t pull_bytes_max = FabricOptions().pull_bytes_max)
      : pair(
            std::make_unique<RendezvousWorld>(provider, 2, pull_bytes_max),
            [this](std::unique_ptr<ServerCall> call) {
              if (call->header() == "hold") return shelf.Put(std::move(call));
              Echo(std::move(call));
            },
            Server(pool)) {
    REQUIRE(pair.Call("connect").ok());
  }
  std::string address() const { return pair.listener->address(); }
  void CheckOthersGoOn() {
    std::string data = Pattern(100'000, 1);
    auto reply = pair.Call("honest", AsBytes(data));
    REQUIRE_MESSAGE(reply.ok(), reply.status().ToString());
    CHECK(AsView(reply->bulk.span()) == data);
    reply->bulk.Release();
    // Replies leave the pool once the client has them.
    Nanos limit = RealClock::Get().Monotonic() + 10 * kSecond;
    while (pool->BytesInUse() > 0 && RealClock::Get().Monotonic() < limit) {
    }
    CHECK(pool->BytesInUse() == 0);
  }
};

}  // namespace perigee::rdma::rendezvous
