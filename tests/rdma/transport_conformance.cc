#include "tests/rdma/transport_conformance.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <optional>
#include <utility>
#include <vector>

#include "base/random.h"
#include "rdma/rpc.h"
#include "tests/rdma/conformance_pair.h"

namespace perigee::rdma {

TransportOptions NodeOptions(uint64_t node_id) {
  TransportOptions options;
  options.cluster_secret = "a secret of thirty-two characters";
  options.role = Role::kNode;
  options.node_id = node_id;
  return options;
}

void FunctionHandler::OnDisconnect(const Peer&) {
  std::lock_guard lock(mu_);
  ++disconnects_;
  changed_.NotifyAll();
}
size_t FunctionHandler::disconnects() const {
  std::lock_guard lock(mu_);
  return disconnects_;
}
bool FunctionHandler::WaitForDisconnects(size_t count) {
  std::unique_lock lock(mu_);
  return changed_.WaitFor(lock, 10 * kSecond, [&] { return disconnects_ >= count; });
}

void CallShelf::Put(std::unique_ptr<ServerCall> call) {
  std::lock_guard lock(mu_);
  calls_.push_back(std::move(call));
  changed_.NotifyAll();
}
bool CallShelf::Empty() const {
  std::lock_guard lock(mu_);
  return calls_.empty();
}
std::unique_ptr<ServerCall> CallShelf::Take() {
  std::unique_lock lock(mu_);
  if (!changed_.WaitFor(lock, 10 * kSecond, [&] { return !calls_.empty(); })) return nullptr;
  auto call = std::move(calls_.front());
  calls_.pop_front();
  return call;
}

namespace {

void CheckAnswers(const WorldMaker& make_world) {
  SUBCASE("a call is answered, and the server knows who called") {
    std::mutex mu;
    std::vector<Peer> peers;
    Pair pair(make_world(), [&](std::unique_ptr<ServerCall> call) {
      {
        std::lock_guard lock(mu);
        peers.push_back(call->peer());
      }
      Echo(std::move(call));
    });
    for (int i = 0; i < 3; ++i) {
      auto reply = pair.Call("hello " + std::to_string(i));
      REQUIRE_MESSAGE(reply.ok(), reply.status().ToString());
      CHECK(reply->header == "hello " + std::to_string(i));
      CHECK(!reply->bulk);
    }
    CHECK(pair.Call("").ok());
    std::lock_guard lock(mu);
    REQUIRE(peers.size() == 4);
    CHECK(peers[0].role == Role::kNode);
    CHECK(peers[0].node_id == 2);
    CHECK(peers[0].provider == pair.client->name());
    CHECK(peers[0].connection != 0);
    if (pair.world->rails() == 1) CHECK(peers[3].connection == peers[0].connection);
    CHECK(pair.channel->Healthy());
  }

  SUBCASE("bulk of every size arrives whole both ways, from the pool and from elsewhere") {
    auto pool = Pool(64 << 20);
    TransportOptions options = NodeOptions(2);
    options.pool = pool;
    Pair pair(make_world(), Echo, NodeOptions(1), options);
    for (size_t bytes : {size_t{1}, size_t{16} << 10, (size_t{16} << 10) + 1, size_t{64} << 10,
                         size_t{300'000}, kPieceBytesMax}) {
      std::string data = Pattern(bytes, bytes);
      auto reply = pair.Call("elsewhere", AsBytes(data));
      REQUIRE_MESSAGE(reply.ok(), reply.status().ToString());
      CHECK(AsView(reply->bulk.span()) == data);
      auto piece = pool->Allocate(bytes, kLong);
      REQUIRE(piece.ok());
      std::memcpy(piece->data(), data.data(), bytes);
      reply = pair.Call("pool", piece->span());
      REQUIRE_MESSAGE(reply.ok(), reply.status().ToString());
      CHECK(AsView(reply->bulk.span()) == data);
    }
    std::string large = Pattern(kHeaderBytesMax, 5);
    auto reply = pair.Call(large);
    REQUIRE(reply.ok());
    CHECK(reply->header == large);
    CHECK(pair.Call(large + "x").code() == Code::kTooLarge);
    CHECK(pair.Call("", AsBytes(std::string(kPieceBytesMax + 1, 'x'))).code() == Code::kTooLarge);
  }

  SUBCASE("errors keep their code and message, and a dropped call is an internal error") {
    Pair pair(make_world(), [&](std::unique_ptr<ServerCall> call) {
      if (call->header() == "fail") call->Fail(Status(Code::kStale, "the file was replaced"));
      if (call->header() == "too much") {
        Payload payload;
        payload.header.resize(kHeaderBytesMax + 1);
        call->Reply(std::move(payload));
      }
    });
    auto failed = pair.Call("fail");
    CHECK(failed.code() == Code::kStale);
    CHECK(failed.status().message().find("the file was replaced") != std::string::npos);
    CHECK(pair.Call("drop").code() == Code::kInternal);
    CHECK(pair.Call("too much").code() == Code::kInternal);
  }

  SUBCASE("concurrent callers each get their own answer") {
    const uint64_t seed = 7;
    INFO("seed ", seed);
    auto world = make_world();
    Scheduler* workers = &world->scheduler();
    Pair pair(std::move(world), [workers](std::unique_ptr<ServerCall> call) {
      std::shared_ptr<ServerCall> shared = std::move(call);
      if (shared->header().size() % 2 == 0) {
        Payload payload;
        payload.header = std::string(shared->header());
        payload.bulk = std::move(shared->bulk());
        shared->Reply(std::move(payload));
        return;
      }
      Status posted = workers->Post([shared] {
        Payload payload;
        payload.header = std::string(shared->header());
        payload.bulk = std::move(shared->bulk());
        shared->Reply(std::move(payload));
      });
      if (!posted.ok()) shared->Fail(posted);
    });
    struct Tally {
      std::atomic<int> wrong{0}, left{6};
      Event done;
    };
    auto tally = std::make_shared<Tally>();
    for (int caller = 0; caller < 6; ++caller) {
      REQUIRE(pair.world->scheduler()
                  .Post([tally, channel = pair.channel, caller] {
                    Random random(seed + static_cast<uint64_t>(caller));
                    for (int i = 0; i < 60; ++i) {
                      std::string header =
                          std::to_string(caller) + std::string(random.Below(300), 'x');
                      std::string bulk =
                          random.OneIn(4) ? Pattern(random.Below(90'000) + 1, random.Next()) : "";
                      auto reply = channel->CallAndWait(kMethod, header, AsBytes(bulk), {});
                      if (!reply.ok() || reply->header != header ||
                          AsView(reply->bulk.span()) != bulk) {
                        ++tally->wrong;
                      }
                    }
                    if (--tally->left == 0) tally->done.Set();
                  })
                  .ok());
    }
    REQUIRE(tally->done.WaitFor(60 * kSecond));
    CHECK(tally->wrong == 0);
  }

  SUBCASE("a router sends each method where it belongs and guards the nodes' own") {
    auto world = make_world();
    auto router = std::make_shared<Router>();
    std::atomic<int> inline_calls{0}, pool_calls{0};
    router->AddRaw(wire::Method::kPing, Access::kAnyone, nullptr,
                   [&](Context&, std::string_view header) -> Result<std::string> {
                     ++inline_calls;
                     return std::string(header) + "!";
                   });
    router->AddRaw(wire::Method::kMetaLookup, Access::kNodesOnly, &world->scheduler(),
                   [&](Context& ctx, std::string_view) -> Result<std::string> {
                     ++pool_calls;
                     return std::to_string(ctx.peer.node_id);
                   });
    auto server = world->NewTransport("server", NodeOptions(1));
    auto node = world->NewTransport("node", NodeOptions(2));
    auto listener = server->Listen(world->Address("service"), router);
    REQUIRE(listener.ok());
    auto channel = *node->Connect(world->Address("service"));
    auto reply = channel->CallAndWait(wire::Method::kPing, "a", {}, {});
    REQUIRE(reply.ok());
    CHECK(reply->header == "a!");
    reply = channel->CallAndWait(wire::Method::kMetaLookup, "", {}, {});
    REQUIRE(reply.ok());
    CHECK(reply->header == "2");
    CHECK(channel->CallAndWait(wire::Method::kMetaMkdir, "", {}, {}).code() ==
          Code::kUnimplemented);
    CHECK(channel->CallAndWait(static_cast<wire::Method>(5000), "", {}, {}).code() ==
          Code::kUnimplemented);
    CHECK(inline_calls == 1);
    CHECK(pool_calls == 1);
    (*listener)->Stop();
  }
}

void CheckTimeAndBounds(const WorldMaker& make_world) {
  SUBCASE("a call ends at its deadline, and its late answer goes nowhere") {
    CallShelf shelf;
    std::string data = Pattern(100'000, 3);
    Pair pair(make_world(), [&](std::unique_ptr<ServerCall> call) {
      if (call->header() == "hold") return shelf.Put(std::move(call));
      Echo(std::move(call));
    });
    REQUIRE(pair.Call("first").ok());  // connecting is no part of the short call
    auto late = pair.Call("hold", AsBytes(data), kShort);
    CHECK(late.code() == Code::kDeadlineExceeded);
    Outcomes outcomes;
    pair.channel->Call(kMethod, "hold", AsBytes(data), CallOptions{kShort}, outcomes.Expect());
    REQUIRE(outcomes.Wait(1));
    CHECK(outcomes.Count(Code::kDeadlineExceeded) == 1);
    for (int i = 0; i < 2; ++i) {
      auto call = shelf.Take();
      REQUIRE(call != nullptr);
      Echo(std::move(call));  // with bulk, that must not stay behind in anyone's pool
    }
    for (int i = 0; i < 3; ++i) {
      auto reply = pair.Call("again", AsBytes(data));
      REQUIRE_MESSAGE(reply.ok(), reply.status().ToString());
      CHECK(reply->header == "again");
    }
    CHECK(outcomes.codes.size() == 1);
  }

  SUBCASE("calls beyond the credits wait, and beyond the waiting room they are refused") {
    CallShelf shelf;
    TransportOptions client = NodeOptions(2);
    client.credits = 2;
    client.waiting_max = 3;
    Pair pair(
        make_world(),
        [&](std::unique_ptr<ServerCall> call) {
          if (call->header() == "hold") return shelf.Put(std::move(call));
          Echo(std::move(call));
        },
        NodeOptions(1), client);
    REQUIRE(pair.Call("connect").ok());
    const size_t held = size_t{5} * pair.world->rails();
    Outcomes outcomes;
    for (size_t i = 0; i <= held; ++i) {
      pair.channel->Call(kMethod, "hold", {}, CallOptions{kLong}, outcomes.Expect());
    }
    REQUIRE(outcomes.Wait(1));
    CHECK(outcomes.Count(Code::kBusy) == 1);
    for (size_t i = 0; i < held; ++i) {
      auto call = shelf.Take();
      REQUIRE(call != nullptr);
      Echo(std::move(call));
    }
    REQUIRE(outcomes.Wait(held + 1));
    CHECK(outcomes.Count(Code::kOk) == held);
    CHECK(pair.Call("after").ok());
  }

  SUBCASE("a waiting call meets its deadline without having been sent") {
    CallShelf shelf;
    TransportOptions client = NodeOptions(2);
    client.credits = 1;
    std::atomic<int> served{0};
    Pair pair(
        make_world(),
        [&](std::unique_ptr<ServerCall> call) {
          ++served;
          shelf.Put(std::move(call));
        },
        NodeOptions(1), client);
    Outcomes outcomes;
    std::vector<std::unique_ptr<ServerCall>> first;
    const size_t credits = pair.world->rails();
    for (size_t i = 0; i < credits; ++i) {
      pair.channel->Call(kMethod, "first", {}, CallOptions{kLong}, outcomes.Expect());
      first.push_back(shelf.Take());
      REQUIRE(first.back() != nullptr);
    }
    CHECK(pair.Call("second", {}, kShort).code() == Code::kDeadlineExceeded);
    CHECK(served == static_cast<int>(credits));
    for (auto& call : first) Echo(std::move(call));
    REQUIRE(outcomes.Wait(credits));
    CHECK(outcomes.Count(Code::kOk) == credits);
  }

  SUBCASE("bulk waits for a buffer of the receiver and is never lost") {
    TransportOptions server = NodeOptions(1);
    server.pool = Pool(256 << 10);  // room for two payloads
    CallShelf shelf;
    Pair pair(
        make_world(), [&](std::unique_ptr<ServerCall> call) { shelf.Put(std::move(call)); },
        server);
    Outcomes outcomes;
    std::vector<std::string> data;
    for (uint64_t i = 0; i < 8; ++i) data.push_back(Pattern(100'000, i));
    for (auto& bulk : data) {
      pair.channel->Call(kMethod, bulk.substr(0, 8), AsBytes(bulk), CallOptions{kLong},
                         outcomes.Expect());
    }
    for (size_t i = 0; i < data.size(); ++i) {
      auto call = shelf.Take();
      REQUIRE(call != nullptr);
      bool whole = false;
      for (auto& bulk : data) {
        whole =
            whole || (call->header() == bulk.substr(0, 8) && AsView(call->bulk().span()) == bulk);
      }
      CHECK(whole);
      call->bulk().Release();
      call->Reply({});
    }
    REQUIRE(outcomes.Wait(8));
    CHECK(outcomes.Count(Code::kOk) == 8);
    // Held for good: those that find no buffer end at their deadline, and nothing of them is left.
    auto held = server.pool->Allocate(256 << 10, 0);
    REQUIRE(held.ok());
    CHECK(pair.Call("late", AsBytes(data[0]), kShort).code() == Code::kDeadlineExceeded);
    held->Release();
    pair.channel->Call(kMethod, "after", AsBytes(data[1]), CallOptions{kLong}, outcomes.Expect());
    auto call = shelf.Take();
    REQUIRE(call != nullptr);
    CHECK(call->header() == "after");
    CHECK(AsView(call->bulk().span()) == data[1]);
    call->Reply({});
    REQUIRE(outcomes.Wait(9));
  }

  SUBCASE("an answer's bulk waits for a buffer of the caller") {
    TransportOptions client = NodeOptions(2);
    client.pool = Pool(128 << 10);
    std::string data = Pattern(100'000, 9);
    auto server_pool = Pool(16 << 20);
    TransportOptions server = NodeOptions(1);
    server.pool = server_pool;
    Pair pair(
        make_world(),
        [&](std::unique_ptr<ServerCall> call) {
          Payload payload;
          payload.bulk = server_pool->TryAllocate(data.size());
          std::memcpy(payload.bulk.data(), data.data(), data.size());
          call->Reply(std::move(payload));
        },
        server, client);
    auto held = client.pool->Allocate(128 << 10, 0);
    REQUIRE(held.ok());
    CHECK(pair.Call("", {}, kShort).code() == Code::kDeadlineExceeded);
    Outcomes outcomes;
    pair.channel->Call(kMethod, "", {}, CallOptions{kShort}, outcomes.Expect());
    REQUIRE(outcomes.Wait(1));
    CHECK(outcomes.Count(Code::kDeadlineExceeded) == 1);
    pair.channel->Call(kMethod, "", {}, CallOptions{kLong}, outcomes.Expect());
    held->Release();
    REQUIRE(outcomes.Wait(2));
    CHECK(outcomes.Count(Code::kOk) == 1);
    auto reply = pair.Call("");
    REQUIRE(reply.ok());
    CHECK(AsView(reply->bulk.span()) == data);
  }
}

}  // namespace

void CheckTransportConformance(const std::function<std::unique_ptr<TransportWorld>()>& make_world) {
  CheckAnswers(make_world);
  CheckTimeAndBounds(make_world);
  CheckConnections(make_world);
  CheckClasses(make_world);
}

}  // namespace perigee::rdma
