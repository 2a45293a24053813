// Traffic classes: what goes first, what never waits forever, and what is counted.
#include <algorithm>
#include <string>
#include <utility>

#include "tests/rdma/conformance_pair.h"

namespace perigee::rdma {

namespace {

constexpr Nanos kNeverAges = 3600 * kSecond;

// Keeps every call; the client has `credits`.
struct Held {
  CallShelf shelf;
  Outcomes outcomes;
  Pair pair;

  Held(std::unique_ptr<TransportWorld> world, TransportOptions server, TransportOptions client)
      : pair(
            std::move(world),
            [this](std::unique_ptr<ServerCall> call) {
              if (call->header() == "connect") return Echo(std::move(call));
              shelf.Put(std::move(call));
            },
            std::move(server), std::move(client)) {
    REQUIRE(pair.Call("connect").ok());
  }
  ~Held() {
    while (!shelf.Empty()) shelf.Take();  // of a check that failed
  }
  void Ask(TrafficClass traffic, std::string header, ConstBytes bulk = {}) {
    pair.channel->Call(kMethod, std::move(header), bulk,
                       CallOptions{.timeout = kLong, .traffic = traffic}, outcomes.Expect());
  }
  std::unique_ptr<ServerCall> Next() {
    auto call = shelf.Take();
    REQUIRE(call != nullptr);
    return call;
  }
  // The next call that the server gets, answered at once.
  std::string Serve() {
    auto call = Next();
    std::string header(call->header());
    call->Reply({});
    return header;
  }
};

TransportOptions Client(uint32_t credits, Nanos class_age) {
  TransportOptions options = NodeOptions(2);
  options.credits = credits;
  options.class_age = class_age;
  return options;
}

}  // namespace

void CheckClasses(const WorldMaker& make_world) {
  SUBCASE("a server is told the class of a call") {
    Held held(make_world(), NodeOptions(1), NodeOptions(2));
    for (size_t i = 0; i < kTrafficClasses; ++i) {
      held.Ask(TrafficClassAt(i), "x");
      auto call = held.Next();
      CHECK(call->traffic() == TrafficClassAt(i));
      call->Reply({});
    }
    held.pair.channel->Call(kMethod, "x", {}, CallOptions{kLong}, held.outcomes.Expect());
    auto call = held.Next();
    CHECK(call->traffic() == TrafficClass::kForeground);
    call->Reply({});
    REQUIRE(held.outcomes.Wait(kTrafficClasses + 1));
  }

  SUBCASE("bytes are counted by class and peer, on both sides") {
    auto registry = metrics::Registry::Create();
    TransportOptions server = NodeOptions(1), client = NodeOptions(2);
    server.metrics = client.metrics = registry.get();
    std::string bulk = Pattern(100'000, 4);
    {
      Pair pair(make_world(), Echo, server, client);
      for (TrafficClass traffic :
           {TrafficClass::kFlush, TrafficClass::kFlush, TrafficClass::kCheckpoint}) {
        auto reply = pair.channel->CallAndWait(kMethod, "four", AsBytes(bulk),
                                               CallOptions{.timeout = kLong, .traffic = traffic});
        REQUIRE_MESSAGE(reply.ok(), reply.status().ToString());
      }
      auto counted = [&](const char* traffic, const char* peer, const char* direction) {
        return registry
            ->GetCounter("perigee_rdma_call_bytes_total", "",
                         {{"provider", pair.client->name()},
                          {"class", traffic},
                          {"peer", peer},
                          {"direction", direction}})
            ->Value();
      };
      for (const char* peer : {"0000000000000001", "0000000000000002"}) {
        for (const char* direction : {"in", "out"}) {
          INFO(peer, " ", direction);
          CHECK(counted("flush", peer, direction) == 200'008);
          CHECK(counted("checkpoint", peer, direction) == 100'004);
          CHECK(counted("foreground", peer, direction) == 0);
        }
      }
    }
  }

  if (make_world()->rails() > 1) return;  // each rail has queues of its own

  SUBCASE("a checkpoint call overtakes what waits, and flush calls leave it a credit") {
    TransportOptions client = Client(2, kNeverAges);
    client.waiting_max = 4;
    Held held(make_world(), NodeOptions(1), client);
    for (const char* name : {"flush 0", "flush 1", "flush 2"}) held.Ask(TrafficClass::kFlush, name);
    auto flush = held.Next();
    CHECK(flush->header() == "flush 0");
    held.Ask(TrafficClass::kCheckpoint, "checkpoint 0");
    auto checkpoint = held.Next();
    CHECK(checkpoint->header() == "checkpoint 0");
    held.Ask(TrafficClass::kForeground, "read");
    held.Ask(TrafficClass::kCheckpoint, "checkpoint 1");
    held.Ask(TrafficClass::kForeground, "one too many");
    REQUIRE(held.outcomes.Wait(1));  // so that all before it wait
    CHECK(held.outcomes.Count(Code::kBusy) == 1);
    checkpoint->Reply({});
    CHECK(held.Serve() == "checkpoint 1");
    CHECK(held.Serve() == "read");
    REQUIRE(held.outcomes.Wait(4));
    flush->Reply({});
    CHECK(held.Serve() == "flush 1");
    CHECK(held.Serve() == "flush 2");
    REQUIRE(held.outcomes.Wait(7));
    CHECK(held.outcomes.Count(Code::kOk) == 6);
  }

  SUBCASE("a full waiting room of flush calls has a place for a checkpoint call") {
    TransportOptions client = Client(2, kNeverAges);
    client.waiting_max = 2;
    Held held(make_world(), NodeOptions(1), client);
    for (int i = 0; i < 3; ++i) held.Ask(TrafficClass::kFlush, "flush");
    REQUIRE(held.outcomes.Wait(1));
    CHECK(held.outcomes.Count(Code::kBusy) == 1);
    for (int i = 0; i < 2; ++i) held.Ask(TrafficClass::kCheckpoint, "checkpoint");
    for (int i = 0; i < 4; ++i) held.Serve();
    REQUIRE(held.outcomes.Wait(5));
    CHECK(held.outcomes.Count(Code::kOk) == 4);
  }

  SUBCASE("a repair call is served while checkpoint calls keep coming") {
    Held held(make_world(), NodeOptions(1), Client(1, 5 * kMillisecond));
    Clock& clock = held.pair.world->scheduler().clock();
    const Nanos limit = clock.Monotonic() + 10 * kSecond;
    // One in flight, and others wait, at every moment.
    for (int i = 0; i < 3; ++i) held.Ask(TrafficClass::kCheckpoint, "checkpoint");
    held.Ask(TrafficClass::kRepair, "repair");
    size_t asked = 4;  // and as many are unanswered before each round
    std::string served;
    while (served != "repair" && clock.Monotonic() < limit) {
      held.Ask(TrafficClass::kCheckpoint, "checkpoint");
      ++asked;
      served = held.Serve();
    }
    CHECK(served == "repair");
    for (size_t left = 4; left > 0; --left) held.Serve();
    REQUIRE(held.outcomes.Wait(asked));
    CHECK(held.outcomes.Count(Code::kOk) == asked);
  }
}

void CheckBulkClasses(const WorldMaker& make_world) {
  if (make_world()->rails() > 1) return;  // see above
  TransportOptions server = NodeOptions(1);
  server.pool = Pool(128 << 10);  // room for one payload
  server.class_age = kNeverAges;
  Held held(make_world(), server, NodeOptions(2));
  auto full = server.pool->Allocate(128 << 10, 0);
  REQUIRE(full.ok());
  std::string bulk = Pattern(100'000, 6);
  held.Ask(TrafficClass::kRepair, "repair", AsBytes(bulk));
  held.Ask(TrafficClass::kFlush, "flush 0", AsBytes(bulk));
  held.Ask(TrafficClass::kFlush, "flush 1", AsBytes(bulk));
  held.Ask(TrafficClass::kCheckpoint, "checkpoint", AsBytes(bulk));
  held.Ask(TrafficClass::kForeground, "last");
  CHECK(held.Serve() == "last");  // and all before it wait for a buffer
  full->Release();
  for (const char* name : {"checkpoint", "flush 0", "flush 1", "repair"}) {
    auto call = held.Next();
    CHECK(call->header() == name);
    CHECK(AsView(call->bulk().span()) == bulk);
    call->bulk().Release();
    call->Reply({});
  }
  REQUIRE(held.outcomes.Wait(5));
  CHECK(held.outcomes.Count(Code::kOk) == 5);
}

}  // namespace perigee::rdma
