#include <doctest/doctest.h>
#include <ifaddrs.h>
#include <net/if.h>

#include <cstring>
#include <string>
#include <vector>

#include "base/failpoint.h"
#include "tests/rdma/conformance_pair.h"
#include "tests/rdma/rendezvous_raw_peer.h"
#include "tests/rdma/rendezvous_scene.h"

namespace perigee::rdma::rendezvous {

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

void CheckInterfaces(const ProviderUnderTest& provider) {
  auto [host, interface] = OutsideAddress();
  if (host.empty()) return;
  auto handler = std::make_shared<FunctionHandler>(Echo);
  const std::string prefix = provider.name + ":";
  std::string address = prefix + host + ":0";
  auto refused = *provider.transport(NodeOptions(1), {});
  CHECK(refused->Listen(address, handler).code() == Code::kPermissionDenied);
  CHECK(refused->Connect(prefix + host + ":9").code() == Code::kPermissionDenied);
  auto far = refused->Connect(prefix + "203.0.113.1:9");
  CHECK((far.code() == Code::kPermissionDenied || far.code() == Code::kUnavailable));
  FabricOptions listed;
  listed.devices = {interface};
  FabricOptions trusted;
  trusted.fabric_trusted = true;
  for (const FabricOptions& options : {listed, trusted}) {
    auto transport = *provider.transport(NodeOptions(1), options);
    auto listener = transport->Listen(address, handler);
    REQUIRE_MESSAGE(listener.ok(), listener.status().ToString());
    auto client = *provider.transport(NodeOptions(2), options);
    auto reply = (*client->Connect((*listener)->address()))->CallAndWait(kMethod, "x", {}, {});
    CHECK_MESSAGE(reply.ok(), reply.status().ToString());
  }
}

void CheckAddresses(const ProviderUnderTest& provider) {
  Pair pair(std::make_unique<RendezvousWorld>(provider), Echo);
  for (const char* bad :
       {"", "127.0.0.1", ":1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:65536", "::1:5"}) {
    INFO(bad);
    CHECK(pair.client->Connect(provider.name + ":" + bad).code() == Code::kInvalidArgument);
  }
  CHECK(pair.client->Connect("local:/x").code() == Code::kInvalidArgument);
  std::string address = pair.listener->address().substr(provider.name.size() + 1);
  CHECK(pair.channel->Describe() == provider.name + " " + address);
  REQUIRE(pair.Call("x").ok());
  CHECK(pair.channel->Describe() == provider.name + " " + address + " over " + provider.path);
}

void CheckLargeMessages(const ProviderUnderTest& provider) {
  Pair pair(std::make_unique<RendezvousWorld>(provider), Echo);
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

void CheckFailpoints(const ProviderUnderTest& provider) {
#ifdef PERIGEE_FAILPOINTS
  using failpoint::Id;
  const Id all[] = {Id::rdma_rendezvous_before_call,  Id::rdma_rendezvous_after_call,
                    Id::rdma_rendezvous_before_pull,  Id::rdma_rendezvous_after_pull,
                    Id::rdma_rendezvous_before_reply, Id::rdma_rendezvous_after_reply};
  std::vector<uint64_t> before;
  for (Id id : all) before.push_back(failpoint::Hits(id));
  Pair pair(std::make_unique<RendezvousWorld>(provider), Echo);
  std::string data = Pattern(100'000, 1);
  // Twice: what is behind the first reply happens while it is on its way.
  REQUIRE(pair.Call("x", AsBytes(data)).ok());
  REQUIRE(pair.Call("x", AsBytes(data)).ok());
  for (size_t i = 0; i < std::size(all); ++i) CHECK(failpoint::Hits(all[i]) > before[i]);
  // A pull that fails is that call's failure, and no more.
  REQUIRE(failpoint::Arm("rdma_rendezvous_after_pull=error").ok());
  CHECK(pair.Call("x", AsBytes(data)).code() == Code::kIo);
  failpoint::DisarmAll();
  CHECK(pair.Call("x", AsBytes(data)).ok());
  CHECK(pair.handler->disconnects() == 0);
#else
  (void)provider;
#endif
}

void CheckMemoryAtDeadline(const ProviderUnderTest& provider) {
  RendezvousWorld world(provider);
  RawPeer server(provider);
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
    request->arrival.announced.reset();
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

void CheckSlowBulk(const ProviderUnderTest& provider) {
  // One payload at a time is pulled, and each takes half of what a silent peer is given.
  const std::string bulk = Pattern(300'000, 9);
  Scene scene(provider, 4 * bulk.size());
  RawPeer peer(provider, scene.address());
  peer.Hello();
  for (uint64_t id = 1; id <= 4; ++id) {
    FrameHeader head = Request(id);
    head.data = DataKind::kBodyInHead;
    head.body_len = 4;
    head.bulk_len = static_cast<uint32_t>(bulk.size());
    head.data_crc = Crc32c(AsBytes(bulk));
    auto sending = std::make_unique<Sending>();
    sending->head = EncodeFrame(head, "hold");
    sending->data = AsBytes(bulk);
    peer.endpoint().Send(std::move(sending));
  }
  std::vector<std::unique_ptr<ServerCall>> calls;
  Event pause;
  auto take = [&] {
    while (!scene.shelf.Empty()) calls.push_back(scene.shelf.Take());
  };
  while (true) {
    pause.WaitFor(1500 * kMillisecond);  // in which the peer's library delivers nothing
    take();
    if (calls.size() == 4) break;
    INFO("payload ", calls.size() + 1);
    REQUIRE(peer.Await([&] { return !scene.shelf.Empty(); }));
    take();
  }
  for (auto& call : calls) CHECK(AsView(call->bulk().span()) == bulk);
  CHECK(scene.pair.handler->disconnects() == 0);
  peer.endpoint().Close();
  CHECK(scene.pair.handler->WaitForDisconnects(1));
  calls.clear();
  scene.CheckOthersGoOn();
}

}  // namespace perigee::rdma::rendezvous
