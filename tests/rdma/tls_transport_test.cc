// What is particular to `tls`: certificates, networks that fail, and bulk beside small calls.
#include <doctest/doctest.h>

#include <atomic>
#include <cstring>
#include <optional>
#include <vector>

#include "base/failpoint.h"
#include "tests/rdma/conformance_pair.h"
#include "tests/rdma/tcp_proxy.h"
#include "tests/rdma/tls_world.h"

using namespace perigee;
using namespace perigee::rdma;

namespace {

// A server, and a client that reaches it through a proxy.
struct Distant {
  TlsWorld world;
  CallShelf shelf;
  std::unique_ptr<Transport> server, client;
  std::unique_ptr<Listener> listener;
  std::optional<TcpProxy> proxy;
  std::shared_ptr<Channel> channel;

  explicit Distant(Nanos dead_after = 0) {
    if (dead_after != 0) world.files().dead_after = dead_after;
    server = world.NewTransport("s", NodeOptions(1));
    client = world.NewTransport("c", NodeOptions(2));
    auto handler = std::make_shared<FunctionHandler>([this](std::unique_ptr<ServerCall> call) {
      if (call->header() == "hold") return shelf.Put(std::move(call));
      Echo(std::move(call));
    });
    auto listening = server->Listen(world.Address("s"), handler);
    REQUIRE(listening.ok());
    listener = std::move(*listening);
    proxy.emplace(world.Port("s"));
    channel = *client->Connect("tls:127.0.0.1:" + std::to_string(proxy->port()));
  }
  Result<Payload> Call(const std::string& header, ConstBytes bulk = {}, Nanos timeout = kLong) {
    return channel->CallAndWait(kMethod, header, bulk, CallOptions{timeout});
  }
  ~Distant() {
    channel->Close();
    proxy->Silence(false);
    listener->Stop();
  }
};

// The end of a connection may still be under way: the next calls fail with it, or arrive whole.
void CheckGoesOn(Distant& distant, const std::string& data) {
  Result<Payload> whole = distant.Call("whole", AsBytes(data));
  for (int i = 0; i < 5 && !whole.ok(); ++i) {
    CHECK(whole.code() == Code::kUnavailable);
    whole = distant.Call("whole", AsBytes(data));
  }
  REQUIRE_MESSAGE(whole.ok(), whole.status().ToString());
  CHECK(AsView(whole->bulk.span()) == data);
}

}  // namespace

TEST_CASE("tls: a connection may be cut anywhere, and the next call has its own") {
  Distant distant;
  std::string data = Pattern(100'000, 4);
  for (int64_t bytes : {0, 100, 600, 1200, 1800, 2400, 3000, 3300, 3600, 3900, 4200, 4500, 5000,
                        20'000, 60'000, 104'000, 105'000, 150'000, 205'000}) {
    INFO("cut after ", bytes);
    distant.channel->Close();
    distant.channel =
        *distant.client->Connect("tls:127.0.0.1:" + std::to_string(distant.proxy->port()));
    distant.proxy->CutAfter(bytes);
    auto cut = distant.Call("cut", AsBytes(data));
    if (cut.ok()) {
      CHECK(AsView(cut->bulk.span()) == data);
    } else {
      CHECK(cut.code() == Code::kUnavailable);
    }
    distant.proxy->CutAfter(INT64_MAX);
    CheckGoesOn(distant, data);
  }
}

TEST_CASE("tls: a payload that was changed on the way never arrives") {
  Distant distant;
  std::string data = Pattern(100'000, 4);
  for (int64_t bytes : {2'000, 60'000, 90'000, 130'000, 160'000}) {
    INFO("changed after ", bytes);
    REQUIRE(distant.Call("whole", AsBytes(data)).ok());
    distant.proxy->SpoilAfter(bytes);
    CHECK(distant.Call("spoiled", AsBytes(data)).code() == Code::kUnavailable);
    CheckGoesOn(distant, data);
  }
}

TEST_CASE("tls: a peer that falls silent is found, and its calls fail") {
  Distant distant(600 * kMillisecond);
  REQUIRE(distant.Call("connect").ok());
  Outcomes outcomes;
  distant.channel->Call(kMethod, "hold", {}, CallOptions{kLong}, outcomes.Expect());
  auto held = distant.shelf.Take();
  REQUIRE(held != nullptr);
  SUBCASE("an idle connection beats on") {
    std::atomic<int> unavailable{0};
    // Longer than a peer may be silent.
    CHECK(distant.Call("hold", {}, 1500 * kMillisecond).code() == Code::kDeadlineExceeded);
    CHECK(outcomes.codes.empty());
    held->Reply({});
    REQUIRE(outcomes.Wait(1));
    CHECK(outcomes.Count(Code::kOk) == 1);
    return;
  }
  distant.proxy->Silence(true);
  REQUIRE(outcomes.Wait(1));
  CHECK(outcomes.Count(Code::kUnavailable) == 1);
  distant.proxy->Silence(false);
  auto back = distant.Call("back");
  CHECK_MESSAGE(back.ok(), back.status().ToString());
}

TEST_CASE("tls: an address that no route leads to is unreachable at once, again and again") {
  Distant distant;
  auto nowhere = *distant.client->Connect("tls:224.0.0.1:9002");  // TCP has no multicast
  for (int i = 0; i < 3; ++i) {
    auto call = nowhere->CallAndWait(kMethod, "x", {}, CallOptions{kLong});
    CHECK(call.code() == Code::kUnavailable);
    CHECK(call.status().message().find("nreachable") != std::string::npos);
  }
  nowhere->Close();
}

TEST_CASE("tls: a host that swallows packets costs a call its patience and no more") {
  Distant distant;
  distant.proxy->Silence(true);
  CHECK(distant.Call("x", {}, kShort).code() == Code::kDeadlineExceeded);
  distant.proxy->Silence(false);
  CHECK(distant.Call("x").ok());
}

TEST_CASE("tls: small calls pass between the pieces of large ones") {
  Distant distant;
  REQUIRE(distant.Call("connect").ok());
  distant.proxy->Limit(8 << 20);
  std::string data = Pattern(kPieceBytesMax, 8);
  Outcomes outcomes;
  constexpr size_t kLarge = 3;
  for (size_t i = 0; i < kLarge; ++i) {
    distant.channel->Call(kMethod, "large", AsBytes(data), CallOptions{kLong}, outcomes.Expect());
  }
  int small = 0;
  while (true) {
    REQUIRE(distant.Call("small").ok());
    std::lock_guard lock(outcomes.mu);
    if (!outcomes.codes.empty()) break;
    ++small;
  }
  CHECK(small >= 5);
  REQUIRE(outcomes.Wait(kLarge));
  CHECK(outcomes.Count(Code::kOk) == kLarge);
}

TEST_CASE("tls: a call's memory is its own again when it ends, sent or not") {
  Distant distant;
  REQUIRE(distant.Call("connect").ok());
  distant.proxy->Limit(4 << 20);
  for (int i = 0; i < 3; ++i) {
    auto data = std::make_unique<std::string>(Pattern(kPieceBytesMax, 8));
    auto late = distant.Call("late", AsBytes(*data), 150 * kMillisecond);
    CHECK(late.code() == Code::kDeadlineExceeded);
    std::memset(data->data(), 0, data->size());
  }
  distant.proxy->Limit(0);
  std::string data = Pattern(300'000, 3);
  auto reply = distant.Call("after", AsBytes(data));
  REQUIRE_MESSAGE(reply.ok(), reply.status().ToString());
  CHECK(AsView(reply->bulk.span()) == data);
}

TEST_CASE("tls: renewed certificates serve the next connection") {
  TlsWorld world;
  // Of the right authority, for another host.
  world.WriteNode("server", world.Issue({TlsWorld::Now() - 60, TlsWorld::Now() + 60}, {"other"}));
  TlsOptions files = world.files();
  files.cert_file = world.dir() + "/server.crt";
  files.key_file = world.dir() + "/server.key";
  auto server = std::move(*CreateTlsTransport(NodeOptions(1), files));
  auto client = world.NewTransport("c", NodeOptions(2));
  auto listener = server->Listen(world.Address("s"), std::make_shared<FunctionHandler>(Echo));
  REQUIRE(listener.ok());
  auto channel = *client->Connect(world.Address("s"));
  auto call = [&] { return channel->CallAndWait(kMethod, "x", {}, {}).code(); };
  CHECK(call() == Code::kUnauthenticated);
  world.WriteNode("server", world.Issue());
  CHECK(call() == Code::kOk);
  SUBCASE("one that cannot be used changes nothing") {
    WriteText(files.cert_file, "no certificate");
    channel = *client->Connect(world.Address("s"));
    CHECK(call() == Code::kOk);
  }
  SUBCASE("the client's too") {
    world.WriteNode("node", TlsWorld::IssueBy(TlsWorld::NewAuthority()));
    channel = *client->Connect(world.Address("s"));
    Code refused = call();
    // The alert that says why may be lost to the reset.
    bool failed = refused == Code::kUnauthenticated || refused == Code::kUnavailable;
    CHECK(failed);
    world.WriteNode("node", world.Issue());
    CHECK(call() == Code::kOk);
  }
  (*listener)->Stop();
}

TEST_CASE("tls: files that cannot be used are named, and hosts may have names") {
  TlsWorld world;
  TlsOptions files = world.files();
  files.key_file = world.dir() + "/none.key";
  auto made = CreateTlsTransport(NodeOptions(1), files);
  CHECK(made.code() == Code::kInvalidArgument);
  CHECK(made.status().message().find("none.key") != std::string::npos);
  TlsOptions mixed = world.files();
  world.WriteNode("other", world.Issue());
  mixed.key_file = world.dir() + "/other.key";
  CHECK(CreateTlsTransport(NodeOptions(1), mixed).code() == Code::kInvalidArgument);

  auto transport = world.NewTransport("s", NodeOptions(1));
  for (const char* wrong : {"tls:", "tls:host", "tls::1", "tls:h:99999", "local:x:1"}) {
    CHECK(transport->Connect(wrong).code() == Code::kInvalidArgument);
  }
  auto listener = transport->Listen("tls:127.0.0.1:0", std::make_shared<FunctionHandler>(Echo));
  REQUIRE(listener.ok());
  std::string port = (*listener)->address().substr(std::string("tls:127.0.0.1:").size());
  CHECK(port != "0");
  auto channel = *transport->Connect("tls:localhost:" + port);
  auto reply = channel->CallAndWait(kMethod, "x", {}, {});
  CHECK_MESSAGE(reply.ok(), reply.status().ToString());
  auto nowhere = *transport->Connect("tls:no-such-host.invalid:" + port);
  CHECK(nowhere->CallAndWait(kMethod, "x", {}, {}).code() == Code::kUnavailable);
  auto refused_by_kernel =
      *transport->Connect("tls:255.255.255.255:" + port);  // no connection is begun
  CHECK(refused_by_kernel->CallAndWait(kMethod, "x", {}, {}).code() == Code::kUnavailable);
  (*listener)->Stop();
}

TEST_CASE("tls: a peer without the secret is nobody, whoever it is at home") {
  TlsWorld world;
  auto server = world.NewTransport("s", NodeOptions(1));
  auto client = world.NewTransport("c", TransportOptions{});
  std::atomic<uint32_t> uid{0}, gid{0};
  auto listener = server->Listen(
      world.Address("s"), std::make_shared<FunctionHandler>([&](std::unique_ptr<ServerCall> call) {
        uid = call->peer().uid;
        gid = call->peer().gid;
        Echo(std::move(call));
      }));
  REQUIRE(listener.ok());
  auto channel = *client->Connect(world.Address("s"));
  REQUIRE(channel->CallAndWait(kMethod, "x", {}, {}).ok());
  CHECK(uid == 65534);
  CHECK(gid == 65534);
  (*listener)->Stop();
}

#ifdef PERIGEE_FAILPOINTS
TEST_CASE("tls: its failpoints are hit") {
  using failpoint::Id;
  Id all[] = {Id::rdma_tls_before_call, Id::rdma_tls_after_call, Id::rdma_tls_before_reply,
              Id::rdma_tls_after_reply};
  std::vector<uint64_t> before;
  for (Id id : all) before.push_back(failpoint::Hits(id));
  Pair pair(std::make_unique<TlsWorld>(), Echo);
  REQUIRE(pair.Call("x").ok());
  REQUIRE(pair.Call("x").ok());
  for (size_t i = 0; i < std::size(all); ++i) CHECK(failpoint::Hits(all[i]) > before[i]);
}
#endif
