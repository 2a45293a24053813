// What `ucx` has that the conformance suite does not ask of every provider.
#include <doctest/doctest.h>
#include <ifaddrs.h>
#include <net/if.h>

#include <cstring>
#include <string>

#include "tests/rdma/conformance_pair.h"
#include "tests/rdma/ucx_raw_peer.h"

using namespace perigee;
using namespace perigee::rdma;
using namespace perigee::rdma::ucx;

namespace {

// An address of this machine that others can reach, and its interface. Empty when it has none.
std::pair<std::string, std::string> OutsideAddress() {
  ifaddrs* list = nullptr;
  REQUIRE(getifaddrs(&list) == 0);
  std::pair<std::string, std::string> found;
  for (ifaddrs* at = list; at != nullptr; at = at->ifa_next) {
    if (at->ifa_addr == nullptr || at->ifa_addr->sa_family != AF_INET ||
        (at->ifa_flags & IFF_LOOPBACK) != 0 || (at->ifa_flags & IFF_UP) == 0) {
      continue;
    }
    SocketAddress address;
    std::memcpy(&address.storage, at->ifa_addr, sizeof(sockaddr_in));
    std::string text = address.ToString();
    found = {text.substr(0, text.rfind(':')), at->ifa_name};
  }
  freeifaddrs(list);
  return found;
}

}  // namespace

TEST_CASE("ucx: interfaces that are not listed are refused unless the fabric is trusted") {
  auto [host, interface] = OutsideAddress();
  if (host.empty()) return;
  auto handler = std::make_shared<FunctionHandler>(Echo);
  std::string address = "ucx:" + host + ":0";
  auto refused = *CreateUcxTransport(NodeOptions(1));
  CHECK(refused->Listen(address, handler).code() == Code::kPermissionDenied);
  CHECK(refused->Connect("ucx:" + host + ":9").code() == Code::kPermissionDenied);
  auto far = refused->Connect("ucx:192.0.2.1:9");
  CHECK((far.code() == Code::kPermissionDenied || far.code() == Code::kUnavailable));
  UcxOptions listed;
  listed.devices = {interface};
  UcxOptions trusted;
  trusted.fabric_trusted = true;
  for (const UcxOptions& options : {listed, trusted}) {
    auto transport = *CreateUcxTransport(NodeOptions(1), options);
    auto listener = transport->Listen(address, handler);
    REQUIRE_MESSAGE(listener.ok(), listener.status().ToString());
    auto client = *CreateUcxTransport(NodeOptions(2), options);
    auto reply = (*client->Connect((*listener)->address()))->CallAndWait(kMethod, "x", {}, {});
    CHECK_MESSAGE(reply.ok(), reply.status().ToString());
  }
}

TEST_CASE("ucx: addresses are host and port, and a channel says what it runs over") {
  Pair pair(std::make_unique<UcxWorld>(), Echo);
  for (const char* bad : {"ucx:", "ucx:127.0.0.1", "ucx::1", "ucx:127.0.0.1:", "ucx:127.0.0.1:x",
                          "ucx:127.0.0.1:65536", "ucx:::1:5", "local:/x"}) {
    INFO(bad);
    CHECK(pair.client->Connect(bad).code() == Code::kInvalidArgument);
  }
  std::string address = pair.listener->address().substr(4);
  CHECK(pair.channel->Describe() == "ucx " + address);
  REQUIRE(pair.Call("x").ok());
  CHECK(pair.channel->Describe() == "ucx " + address + " over tcp/lo");
}

TEST_CASE("ucx: large messages beside bulk, in both directions") {
  Pair pair(std::make_unique<UcxWorld>(), Echo);
  for (size_t body : {size_t{0}, size_t{1}, kBodyInHeadMax, kBodyInHeadMax + 1, size_t{20'000},
                      kHeaderBytesMax}) {
    for (size_t bulk :
         {size_t{1}, kEagerBytesMax - 1, kEagerBytesMax, kEagerBytesMax + 1, kPieceBytesMax}) {
      INFO(body, " and ", bulk);
      std::string header = Pattern(body, 1), data = Pattern(bulk, 2);
      auto reply = pair.Call(header, AsBytes(data));
      REQUIRE_MESSAGE(reply.ok(), reply.status().ToString());
      CHECK(reply->header == header);
      CHECK(AsView(reply->bulk.span()) == data);
    }
  }
}

TEST_CASE("ucx: at the deadline a caller gets its memory back, whatever the peer does with it") {
  UcxWorld world;
  RawPeer server;
  std::string address = server.Listen();
  TransportOptions options = NodeOptions(2);
  options.pool = Pool(16 << 20);
  auto client = world.NewTransport("client", options);
  auto channel = *client->Connect(address);
  auto piece = options.pool->Allocate(300'000, kLong);
  REQUIRE(piece.ok());
  Outcomes outcomes;
  channel->Call(kMethod, "connect", {}, CallOptions{kLong}, outcomes.Expect());
  server.Welcome();
  auto request = server.Receive();
  REQUIRE(request.has_value());
  server.Send({.kind = FrameKind::kResponse, .id = request->head.id}, "");
  REQUIRE(outcomes.Wait(1));
  channel->Call(kMethod, "", piece->span(), CallOptions{500 * kMillisecond}, outcomes.Expect());
  request = server.Receive();
  REQUIRE(request.has_value());
  REQUIRE(request->arrival.announced);
  SUBCASE("it lets go") {
    request->arrival.announced.Release();
    CHECK(server.Await([&] {
      std::lock_guard lock(outcomes.mu);
      return outcomes.codes.size() == 2;
    }));
    CHECK(channel->Healthy());
  }
  SUBCASE("it holds on to it, and loses the connection") {
    CHECK(server.Ended());
    REQUIRE(outcomes.Wait(2));
    CHECK(!channel->Healthy());
  }
  CHECK(outcomes.Count(Code::kDeadlineExceeded) == 1);
}
