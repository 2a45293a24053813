#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "tests/rdma/rendezvous_raw_peer.h"
#include "tests/rdma/rendezvous_scene.h"

namespace perigee::rdma::rendezvous {

namespace {

std::string Flipped(std::string head, size_t at) {
  head[at] = static_cast<char>(head[at] ^ 1);
  return head;
}

}  // namespace

void CheckBadMessages(const ProviderUnderTest& provider) {
  Scene scene(provider);
  const std::string body(100, 'b'), large = Pattern(100'000, 2);
  auto body_with = [&](auto change) {
    FrameHeader head = Request(1);
    head.body_len = 100;
    head.data_crc = Crc32c(AsBytes(body));
    change(head);
    return EncodeFrame(head, "");
  };
  auto none = [](FrameHeader&) {};
  struct Attack {
    const char* name;
    std::string head, data;
  };
  std::vector<Attack> attacks = {
      {"empty header", "", body},
      {"short header", body_with(none).substr(0, kFrameBytes - 1), body},
      {"magic", Flipped(body_with(none), 0), body},
      {"version", Flipped(body_with(none), 4), body},
      {"flipped length", Flipped(body_with(none), 20), body},
      {"more behind the header", body_with(none) + "x", body},
      {"checksum lie", body_with([](FrameHeader& f) { ++f.data_crc; }), body},
      {"body too long", body_with([](FrameHeader& f) { f.body_len = UINT32_MAX; }), body},
      {"bulk too long", body_with([](FrameHeader& f) { f.bulk_len = UINT32_MAX; }), body},
      {"less data than said", body_with([](FrameHeader& f) { f.body_len = 101; }), body},
      {"more data than said", body_with([](FrameHeader& f) { f.body_len = 99; }), body},
      {"announced, longer than said", body_with(none), large},
      {"kind 0", body_with([](FrameHeader& f) { f.kind = FrameKind{0}; }), body},
      {"kind 10", body_with([](FrameHeader& f) { f.kind = FrameKind{10}; }), body},
      {"data kind 3", body_with([](FrameHeader& f) { f.data = DataKind{3}; }), body},
      {"traffic class 6", body_with([](FrameHeader& f) { f.traffic = TrafficClass{6}; }), body},
      {"a response", body_with([](FrameHeader& f) { f.kind = FrameKind::kResponse; }), body},
      {"hello again", body_with([](FrameHeader& f) { f.kind = FrameKind::kHelloStart; }), body},
      {"answer again", body_with([](FrameHeader& f) { f.kind = FrameKind::kHelloAnswer; }), body},
  };
  for (const Attack& attack : attacks) {
    INFO(attack.name);
    RawPeer peer(provider, scene.address());
    peer.Hello();
    peer.SendRaw(attack.head, attack.data);
    CHECK(peer.Ended());
  }
  CHECK(scene.pair.handler->WaitForDisconnects(attacks.size()));
  scene.CheckOthersGoOn();
}

void CheckHelloIsNeeded(const ProviderUnderTest& provider) {
  Scene scene(provider);
  {
    RawPeer peer(provider, scene.address());
    peer.Send(Request(1), "hold");
    CHECK(peer.Ended());
  }
  {
    RawPeer peer(provider, scene.address());
    HelloClient hello(NodeOptions(66));
    peer.Send({.kind = FrameKind::kHelloStart}, hello.Start());
    REQUIRE(peer.Receive().has_value());
    peer.Send({.kind = FrameKind::kHelloAnswer}, wire::Encode(HelloAnswer{"a wrong proof", {}}));
    auto verdict = peer.Receive();
    REQUIRE(verdict.has_value());
    CHECK(hello.Finish(verdict->body).code() == Code::kUnauthenticated);
    CHECK(peer.Ended());
  }
  {
    // Goes on before it knows that it was refused.
    RawPeer peer(provider, scene.address());
    peer.Send({.kind = FrameKind::kHelloStart}, HelloClient(NodeOptions(66)).Start());
    peer.Send({.kind = FrameKind::kHelloAnswer}, wire::Encode(HelloAnswer{"a wrong proof", {}}));
    for (int i = 0; i < 10; ++i) peer.Send(Request(1), "hold");
    CHECK(peer.Ended());
  }
  {
    RawPeer peer(provider, scene.address());
    peer.SendBulk({.kind = FrameKind::kHelloStart}, Pattern(100'000, 1));
    CHECK(peer.Ended());
  }
  CHECK(scene.pair.handler->disconnects() == 0);
  scene.CheckOthersGoOn();
}

void CheckChecksums(const ProviderUnderTest& provider) {
  Scene scene(provider);
  const std::string bulk = Pattern(300'000, 3);
  SUBCASE("bulk") {
    RawPeer peer(provider, scene.address());
    peer.Hello();
    FrameHeader head = Request(1);
    head.data = DataKind::kBodyInHead;
    head.bulk_len = static_cast<uint32_t>(bulk.size());
    head.data_crc = Crc32c(AsBytes(bulk)) + 1;
    peer.SendRaw(EncodeFrame(head, ""), bulk);
    CHECK(peer.Ended());
  }
  SUBCASE("a large body") {
    RawPeer peer(provider, scene.address());
    peer.Hello();
    FrameHeader head = Request(1);
    head.body_len = static_cast<uint32_t>(bulk.size());
    peer.SendRaw(EncodeFrame(head, ""), bulk);
    CHECK(peer.Ended());
  }
  SUBCASE("a body apart, of another length") {
    RawPeer peer(provider, scene.address());
    peer.Hello();
    FrameHeader head = Request(1);
    head.data = DataKind::kBodyApart;
    head.body_len = 2000;
    head.bulk_len = static_cast<uint32_t>(bulk.size());
    head.data_crc = Crc32c(AsBytes(bulk));
    peer.SendRaw(EncodeFrame(head, ""), bulk);
    FrameHeader body{.kind = FrameKind::kBody, .id = 1};
    peer.Send(body, std::string(1999, 'b'));
    CHECK(peer.Ended());
  }
  SUBCASE("two bodies of one message") {
    RawPeer peer(provider, scene.address());
    peer.Hello();
    FrameHeader body{.kind = FrameKind::kBody, .id = 1};
    peer.Send(body, "one");
    peer.Send(body, "two");
    CHECK(peer.Ended());
  }
  CHECK(scene.pair.handler->WaitForDisconnects(1));
  scene.CheckOthersGoOn();
}

void CheckCredits(const ProviderUnderTest& provider) {
  Scene scene(provider);
  {
    RawPeer peer(provider, scene.address());
    peer.Hello();
    for (uint64_t id = 1; id <= 5; ++id) peer.Send(Request(id), "hold");
    CHECK(peer.Ended());
  }
  {
    RawPeer peer(provider, scene.address());
    peer.Hello();
    peer.Send(Request(1), "hold");
    peer.Send(Request(1), "hold");
    CHECK(peer.Ended());
  }
  for (size_t bytes : {size_t{10}, size_t{100'000}}) {
    INFO("bodies without messages, of ", bytes);
    RawPeer peer(provider, scene.address());
    peer.Hello();
    for (uint64_t id = 1; id <= 25; ++id) {
      peer.Send({.kind = FrameKind::kBody, .id = id}, std::string(bytes, 'b'));
    }
    CHECK(peer.Ended());
  }
  CHECK(scene.pair.handler->WaitForDisconnects(4));
  for (int i = 0; i < 5; ++i) REQUIRE(scene.shelf.Take() != nullptr);  // answered into the void
  scene.CheckOthersGoOn();
}

void CheckPeersThatGo(const ProviderUnderTest& provider) {
  Scene scene(provider);
  for (int i = 0; i < 5; ++i) {
    RawPeer peer(provider, scene.address());
    peer.Hello();
    peer.SendBulk(Request(1), Pattern(kPieceBytesMax, 4));
    peer.SendBulk(Request(2), Pattern(kPieceBytesMax, 5));
    if (i % 2 == 0) (void)peer.Receive();
  }
  CHECK(scene.pair.handler->WaitForDisconnects(5));
  scene.CheckOthersGoOn();
}

void CheckSilentPeers(const ProviderUnderTest& provider) {
  Scene scene(provider);
  Nanos start = RealClock::Get().Monotonic();
  // Alive, but never fetches its answer, whose call is soon over.
  RawPeer holder(provider, scene.address());
  holder.Hello();
  FrameHeader head = Request(1);
  head.timeout_us = 300'000;
  holder.SendBulk(head, Pattern(300'000, 6));
  auto answer = holder.Receive();
  REQUIRE(answer.has_value());
  REQUIRE(answer->arrival.announced);
  CHECK(scene.pool->BytesInUse() > 0);
  // Announces more than it may send at once, and is not heard of again.
  RawPeer silent(provider, scene.address());
  silent.Hello();
  for (uint64_t id = 1; id <= 4; ++id) silent.SendBulk(Request(id), Pattern(kPieceBytesMax, id));
  CHECK(scene.pair.Call("meanwhile", AsBytes(Pattern(300'000, 9))).ok());
  Nanos next_ping = 0;
  CHECK(holder.Await([&] {
    Nanos now = RealClock::Get().Monotonic();
    if (now > next_ping && !holder.endpoint().closed()) {
      holder.Send({.kind = FrameKind::kPing});
      next_ping = now + 300 * kMillisecond;
    }
    return scene.pair.handler->disconnects() == 2;
  }));
  CHECK(RealClock::Get().Monotonic() - start > 2 * kSecond);
  answer->arrival.announced.reset();
  scene.CheckOthersGoOn();
}

void CheckLyingServer(const ProviderUnderTest& provider) {
  RendezvousWorld world(provider);
  RawPeer server(provider);
  std::string address = server.Listen();
  auto client = world.NewTransport("client", NodeOptions(2));
  auto channel = *client->Connect(address);
  Outcomes outcomes;
  auto call = [&](Nanos timeout) {
    channel->Call(kMethod, "", {}, CallOptions{timeout}, outcomes.Expect());
  };
  call(kLong);
  server.Welcome();
  auto request = server.Receive();
  REQUIRE(request.has_value());
  FrameHeader answer{.kind = FrameKind::kResponse, .id = request->head.id};

  SUBCASE("unknown ids are dropped, their bulk is not fetched") {
    FrameHeader unknown = answer;
    unknown.id += 1000;
    server.SendBulk(unknown, Pattern(300'000, 7));
    server.Send(unknown, "nobody asked");
    server.Send(answer, "asked");
    REQUIRE(outcomes.Wait(1));
    CHECK(outcomes.Count(Code::kOk) == 1);
  }
  SUBCASE("a checksum lie") {
    answer.body_len = 3;
    server.SendRaw(EncodeFrame(answer, ""), "lie");
    CHECK(server.Ended());
    REQUIRE(outcomes.Wait(1));
    CHECK(outcomes.Count(Code::kUnavailable) == 1);
  }
  SUBCASE("a lie about announced bulk") {
    std::string bulk = Pattern(300'000, 8);
    answer.data = DataKind::kBodyInHead;
    answer.bulk_len = static_cast<uint32_t>(bulk.size());
    server.SendRaw(EncodeFrame(answer, ""), bulk);
    CHECK(server.Ended());
    REQUIRE(outcomes.Wait(1));
    CHECK(outcomes.Count(Code::kUnavailable) == 1);
  }
  SUBCASE("a request where only answers go") {
    server.Send(Request(1), "");
    CHECK(server.Ended());
    REQUIRE(outcomes.Wait(1));
  }
  SUBCASE("an answer to a channel that is closed") {
    // The client's last word leaves the connection open for a moment.
    channel->Close();
    REQUIRE(outcomes.Wait(1));
    auto last = server.Receive();
    REQUIRE(last.has_value());
    CHECK(last->head.kind == FrameKind::kGoAway);
    server.SendBulk(answer, Pattern(300'000, 7));
    server.Send(answer, "late");
    CHECK(server.Ended());
  }
  SUBCASE("silence") {
    // The library answers nobody while its worker rests.
    REQUIRE(outcomes.Wait(1));
    CHECK(outcomes.Count(Code::kUnavailable) == 1);
    CHECK(!channel->Healthy());
  }
}

}  // namespace perigee::rdma::rendezvous
