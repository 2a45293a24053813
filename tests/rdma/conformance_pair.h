#pragma once
// What the conformance suite's files share.

#include <doctest/doctest.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "base/random.h"
#include "tests/rdma/transport_conformance.h"

namespace perigee::rdma {

using WorldMaker = std::function<std::unique_ptr<TransportWorld>()>;

inline constexpr auto kMethod = wire::Method::kNetEcho;
inline constexpr Nanos kShort = 60 * kMillisecond;  // a deadline that is meant to pass
inline constexpr Nanos kLong = 20 * kSecond;        // one that is not

inline std::shared_ptr<SlabPool> Pool(uint64_t bytes) {
  SlabPool::Options options;
  options.bytes_max = bytes;
  auto pool = SlabPool::Create(options);
  REQUIRE(pool.ok());
  return *pool;
}

inline std::string Pattern(size_t bytes, uint64_t seed) {
  std::string out(bytes, '\0');
  Random random(seed);
  random.Fill(out.data(), out.size());
  return out;
}

// Answers with what it got.
inline void Echo(std::unique_ptr<ServerCall> call) {
  Payload payload;
  payload.header = std::string(call->header());
  payload.bulk = std::move(call->bulk());
  call->Reply(std::move(payload));
}

// A server and a client of one world, and the calls between them.
struct Pair {
  std::unique_ptr<TransportWorld> world;
  std::unique_ptr<Transport> server, client;
  std::shared_ptr<FunctionHandler> handler;
  std::unique_ptr<Listener> listener;
  std::shared_ptr<Channel> channel;

  Pair(std::unique_ptr<TransportWorld> w, std::function<void(std::unique_ptr<ServerCall>)> fn,
       TransportOptions server_options = NodeOptions(1),
       TransportOptions client_options = NodeOptions(2))
      : world(std::move(w)) {
    server = world->NewTransport("server", std::move(server_options));
    client = world->NewTransport("client", std::move(client_options));
    handler = std::make_shared<FunctionHandler>(std::move(fn));
    Listen();
    auto connected = client->Connect(world->Address("service"));
    REQUIRE(connected.ok());
    channel = *connected;
  }
  void Listen() {
    auto listening = server->Listen(world->Address("service"), handler);
    REQUIRE(listening.ok());
    listener = std::move(*listening);
    CHECK(listener->address() == world->Address("service"));
  }
  Result<Payload> Call(std::string header, ConstBytes bulk = {}, Nanos timeout = kLong) {
    return channel->CallAndWait(kMethod, std::move(header), bulk, CallOptions{timeout});
  }
};

// Outcomes of asynchronous calls, counted so that one that comes twice is seen.
struct Outcomes {
  std::mutex mu;
  CondVar changed;
  std::vector<Code> codes;

  Channel::Done Expect() {
    return [this](Result<Payload> result) {
      std::lock_guard lock(mu);
      codes.push_back(result.code());
      changed.NotifyAll();
    };
  }
  bool Wait(size_t count) {
    std::unique_lock lock(mu);
    return changed.WaitFor(lock, 10 * kSecond, [&] { return codes.size() >= count; });
  }
  size_t Count(Code code) {
    std::lock_guard lock(mu);
    return static_cast<size_t>(std::count(codes.begin(), codes.end(), code));
  }
};

// conformance_connections.cc
void CheckConnections(const WorldMaker& make_world);
// conformance_classes.cc
void CheckClasses(const WorldMaker& make_world);
// For providers whose receivers pull bulk.
void CheckBulkClasses(const WorldMaker& make_world);

}  // namespace perigee::rdma
