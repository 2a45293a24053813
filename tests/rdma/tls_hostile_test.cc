// A `tls` server against peers that break the rules, and a client against such servers: each loses
// its connection, and nobody else notices.
#include <doctest/doctest.h>
#include <sys/socket.h>

#include <atomic>
#include <optional>
#include <vector>

#include "base/random.h"
#include "rdma/hello.h"
#include "rdma/tls/frame.h"
#include "rdma/tls/listener.h"
#include "tests/rdma/raw_tls.h"
#include "tests/rdma/tls_world.h"

using namespace perigee;
using namespace perigee::rdma;
using namespace perigee::rdma::tls;

namespace {

constexpr auto kPing = wire::Method::kPing;
constexpr size_t kBulk = 100'000;

FrameHeader Request(uint64_t id, uint32_t bulk_len = 0, uint32_t timeout_us = 20'000'000) {
  FrameHeader head;
  head.kind = FrameKind::kRequest;
  head.id = id;
  head.method = static_cast<uint16_t>(kPing);
  head.timeout_us = timeout_us;
  head.bulk_len = bulk_len;
  return head;
}
FrameHeader Data(uint64_t id, uint32_t offset, uint32_t bulk_len) {
  FrameHeader head;
  head.kind = FrameKind::kData;
  head.id = id;
  head.offset = offset;
  head.bulk_len = bulk_len;
  return head;
}
std::string Encoded(const FrameHeader& head) {
  uint8_t bytes[kFrameBytes];
  EncodeFrame(head, bytes);
  return std::string(AsView(bytes));
}

struct Victim {
  TlsWorld world;
  std::unique_ptr<Transport> server, client;
  std::atomic<int> served{0};
  CallShelf shelf;
  std::shared_ptr<FunctionHandler> handler;
  std::unique_ptr<Listener> listener;
  std::shared_ptr<Channel> bystander;

  explicit Victim(TransportOptions options = NodeOptions(1),
                  const std::function<void(TlsOptions&)>& change = nullptr) {
    if (change) change(world.files());
    server = world.NewTransport("s", options);
    client = world.NewTransport("c", NodeOptions(2));
    handler = std::make_shared<FunctionHandler>([this](std::unique_ptr<ServerCall> call) {
      ++served;
      if (call->header() == "hold") return shelf.Put(std::move(call));
      Payload payload;
      payload.header = std::string(call->header());
      payload.bulk = std::move(call->bulk());
      if (call->header() == "much") payload.header.resize(kHeaderBytesMax);
      call->Reply(std::move(payload));
    });
    auto listening = server->Listen(world.Address("s"), handler);
    REQUIRE(listening.ok());
    listener = std::move(*listening);
    bystander = *client->Connect(world.Address("s"));
    REQUIRE(bystander->CallAndWait(kPing, "", {}, {}).ok());
  }
  OwnedFd Dial() { return RawTls::Dial(world.Port("s")); }
  RawTlsFiles Good() {
    return {world.files().ca_file, world.files().cert_file, world.files().key_file};
  }
  RawTls Peer() {
    RawTls raw = RawTls::Client(Dial(), Good());
    REQUIRE(raw.shaken());
    return raw;
  }
  RawTlsFiles With(const CertifiedKey& node) {
    world.WriteNode("other", node);
    return {world.files().ca_file, world.dir() + "/other.crt", world.dir() + "/other.key"};
  }
  ~Victim() {
    // Whatever happened: the others are served, and by the connection they had.
    CHECK(handler->disconnects() <= 1);
    CHECK(bystander->CallAndWait(kPing, "", {}, {}).ok());
    listener->Stop();
  }
};

bool PlainEnd(OwnedFd fd) {
  timeval limit{10, 0};
  REQUIRE(setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0);
  char bytes[512];
  ssize_t n;
  while ((n = recv(fd.get(), bytes, sizeof bytes, 0)) > 0) {
  }
  return n == 0 || errno == ECONNRESET;
}

}  // namespace

TEST_CASE("tls server: without the cluster's certificate there is no connection") {
  Victim victim;
  int before = victim.served;
  SUBCASE("plain bytes") {
    OwnedFd fd = victim.Dial();
    std::string bytes = Encoded(Request(1)) + std::string(500, 'g');
    CHECK(send(fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) > 0);
    CHECK(PlainEnd(std::move(fd)));
  }
  SUBCASE("TLS") {
    RawTlsFiles files = victim.Good();
    int64_t now = TlsWorld::Now();
    SUBCASE("1.2") { files.old_version = true; }
    SUBCASE("without a certificate") { files.cert = files.key = ""; }
    SUBCASE("with one of another authority") {
      files = victim.With(TlsWorld::IssueBy(TlsWorld::NewAuthority()));
    }
    SUBCASE("with one that has expired") {
      files = victim.With(victim.world.Issue({now - 100, now - 10}));
    }
    SUBCASE("with one that is not valid yet") {
      files = victim.With(victim.world.Issue({now + 100, now + 200}));
    }
    RawTls raw = RawTls::Client(victim.Dial(), files);
    // With TLS 1.3 a client learns of its refusal after its own handshake is done.
    if (raw.shaken()) {
      raw.Send({.kind = FrameKind::kHelloStart}, HelloClient(NodeOptions(66)).Start());
      CHECK(raw.Ended());
    }
  }
  CHECK(victim.served == before);
  CHECK(victim.handler->disconnects() == 0);
}

TEST_CASE("tls server: nothing is served before hello") {
  Victim victim;
  int before = victim.served;
  RawTls raw = victim.Peer();
  SUBCASE("garbage") { raw.SendBytes(std::string(500, 'g')); }
  SUBCASE("a call") { raw.Send(Request(1), "x"); }
  SUBCASE("a large message") {
    raw.Send({.kind = FrameKind::kHelloStart}, std::string(kHelloBytesMax + 1, 'x'));
  }
  SUBCASE("a malformed hello") { raw.Send({.kind = FrameKind::kHelloStart}, "\xff\xff"); }
  SUBCASE("an answer before the challenge") { raw.Send({.kind = FrameKind::kHelloAnswer}, ""); }
  SUBCASE("a server's frame") { raw.Send({.kind = FrameKind::kHelloVerdict}, ""); }
  SUBCASE("a grant") { raw.Send({.kind = FrameKind::kGrant, .id = 1}); }
  SUBCASE("a piece") { raw.Send(Data(1, 0, 10), "", AsBytes("0123456789")); }
  SUBCASE("hello of an earlier connection, replayed") {
    HelloClient hello(NodeOptions(66));
    std::string start = hello.Start(), message;
    RawTls first = victim.Peer();
    first.Send({.kind = FrameKind::kHelloStart}, start);
    REQUIRE(first.Receive(&message).has_value());
    auto answer = hello.Answer(message);
    REQUIRE(answer.ok());
    raw.Send({.kind = FrameKind::kHelloStart}, start);
    raw.Send({.kind = FrameKind::kHelloAnswer}, *answer);
  }
  CHECK(raw.Ended());
  CHECK(victim.served == before);
  CHECK(victim.handler->disconnects() == 0);
}

TEST_CASE("tls server: who does not get on with it is hung up on") {
  Victim victim(NodeOptions(1), [](TlsOptions& tls) {
    tls.handshake_timeout = 200 * kMillisecond;
    tls.dead_after = 600 * kMillisecond;
    tls.bulk_grace = 200 * kMillisecond;
  });
  SUBCASE("no TLS at all") { CHECK(PlainEnd(victim.Dial())); }
  SUBCASE("no hello") { CHECK(victim.Peer().Ended()); }
  SUBCASE("half a hello") {
    RawTls raw = victim.Peer();
    raw.Send({.kind = FrameKind::kHelloStart}, HelloClient(NodeOptions(66)).Start());
    CHECK(raw.Ended());
  }
  SUBCASE("silence after hello") {
    RawTls raw = victim.Peer();
    raw.Hello();
    CHECK(raw.Ended());
    CHECK(victim.handler->WaitForDisconnects(1));
  }
  SUBCASE("a granted payload that does not come") {
    RawTls raw = victim.Peer();
    raw.Hello();
    raw.Send(Request(1, kBulk, 50'000), "x");
    auto grant = raw.Receive();
    REQUIRE(grant.has_value());
    CHECK(grant->kind == FrameKind::kGrant);
    auto answer = raw.Receive();
    REQUIRE(answer.has_value());
    CHECK(answer->kind == FrameKind::kResponse);
    CHECK(answer->method == static_cast<uint16_t>(Code::kDeadlineExceeded));
    CHECK(raw.EndedThoughAlive());
    CHECK(victim.handler->WaitForDisconnects(1));
  }
  SUBCASE("an answer that is never taken") {
    RawTls raw = victim.Peer();
    raw.Hello();
    std::string data(kBulk, 'd');
    FrameHeader head = Request(1, kBulk, 50'000);
    raw.Send(head, "x");
    REQUIRE(raw.Receive().has_value());
    raw.Send(Data(1, 0, kBulk), "", AsBytes(data));
    auto answer = raw.Receive();
    REQUIRE(answer.has_value());
    CHECK(answer->method == 0);
    CHECK(answer->bulk_len == kBulk);
    CHECK(raw.EndedThoughAlive());
    CHECK(victim.handler->WaitForDisconnects(1));
  }
  SUBCASE("answers without end that are not read") {
    RawTls raw = victim.Peer();
    raw.Hello();
    for (uint64_t id = 1; id <= 128; ++id) raw.Send(Request(id), "much");
    CHECK(victim.handler->WaitForDisconnects(1));
  }
}

TEST_CASE("tls server: a peer that breaks the rules loses its connection") {
  Victim victim;
  RawTls raw = victim.Peer();
  raw.Hello();
  raw.Send(Request(1), "fine");
  std::string message;
  auto answer = raw.Receive(&message);
  REQUIRE(answer.has_value());
  CHECK(answer->kind == FrameKind::kResponse);
  CHECK(message == "fine");

  SUBCASE("garbage") { raw.SendBytes(std::string(500, 'g')); }
  SUBCASE("an id used again") { raw.Send(Request(1), "x"); }
  SUBCASE("a second hello") { raw.Send({.kind = FrameKind::kHelloStart}, ""); }
  SUBCASE("a server's frame") { raw.Send({.kind = FrameKind::kResponse, .id = 2}); }
  SUBCASE("a message beyond the limit") {
    FrameHeader head = Request(2);
    head.header_len = kHeaderBytesMax + 1;
    raw.SendBytes(Encoded(head));
  }
  SUBCASE("a payload beyond the limit") { raw.Send(Request(2, kPieceBytesMax + 1)); }
  SUBCASE("a frame cut off") {
    raw.SendBytes(Encoded(Request(2)).substr(0, 20));
    raw.Reset();
    CHECK(victim.handler->WaitForDisconnects(1));
    return;
  }
  SUBCASE("one bit of a frame turned") {
    const uint64_t seed = 78;
    INFO("seed ", seed);
    std::string bytes = Encoded(Request(2));
    bytes[Random(seed).Below(kFrameBytes)] ^= 0x40;
    raw.SendBytes(bytes);
  }
  SUBCASE("a kind that there is not") {
    FrameHeader head = Request(2);
    head.kind = static_cast<FrameKind>(99);
    raw.Send(head);
  }
  SUBCASE("a traffic class that there is not") {
    FrameHeader head = Request(2);
    head.traffic = static_cast<TrafficClass>(kTrafficClasses + 1);
    raw.Send(head, "x");
  }
  SUBCASE("a grant for what was not announced") { raw.Send({.kind = FrameKind::kGrant, .id = 1}); }
  SUBCASE("a piece that was not granted") {
    raw.Send(Data(1, 0, 10));
    raw.SendBytes("0123456789");
  }
  SUBCASE("a piece") {
    raw.Send(Request(2, kBulk), "x");
    auto grant = raw.Receive();
    REQUIRE(grant.has_value());
    REQUIRE(grant->kind == FrameKind::kGrant);
    SUBCASE("longer than the payload") { raw.Send(Data(2, 0, kBulk + 1)); }
    SUBCASE("longer than a piece may be") { raw.Send(Data(2, 0, kPieceMax + 1)); }
    SUBCASE("from somewhere else in it") { raw.Send(Data(2, 4096, 100)); }
    SUBCASE("sent twice") {
      std::string half(kBulk / 2, 'h');
      raw.Send(Data(2, 0, kBulk / 2));
      raw.SendBytes(half);
      raw.Send(Data(2, 0, kBulk / 2));
    }
    SUBCASE("of nothing") { raw.Send(Data(2, 0, 0)); }
    SUBCASE("of another payload") { raw.Send(Data(1, 0, 100)); }
  }
  CHECK(raw.Ended());
  CHECK(victim.handler->WaitForDisconnects(1));
}

TEST_CASE("tls server: more calls in flight than granted are a violation") {
  TransportOptions options = NodeOptions(1);
  options.credits = 3;
  Victim victim(options);
  RawTls raw = victim.Peer();
  raw.Hello();
  for (uint64_t id = 1; id <= 3; ++id) raw.Send(Request(id), "hold");
  std::vector<std::unique_ptr<ServerCall>> held;
  for (int i = 0; i < 3; ++i) held.push_back(victim.shelf.Take());
  REQUIRE(held[2] != nullptr);
  raw.Send(Request(4), "hold");
  CHECK(raw.Ended());
  CHECK(victim.handler->WaitForDisconnects(1));
}

TEST_CASE("tls server: strangers without end keep nobody out") {
  Victim victim;
  std::vector<OwnedFd> strangers;
  for (size_t i = 0; i < kStrangersMax + 40; ++i) strangers.push_back(victim.Dial());
  auto late = *victim.client->Connect(victim.world.Address("s"));
  auto reply = late->CallAndWait(kPing, "x", {}, {});
  CHECK_MESSAGE(reply.ok(), reply.status().ToString());
  // The oldest had to go.
  CHECK(PlainEnd(std::move(strangers[0])));
  late->Close();
  CHECK(victim.handler->WaitForDisconnects(1));
}

TEST_CASE("tls server: a frame that arrives byte by byte is a frame") {
  Victim victim;
  RawTls raw = victim.Peer();
  raw.Hello();
  FrameHeader head = Request(1);
  for (char byte : FrameText(head, "bytes", {})) raw.SendBytes(std::string_view(&byte, 1));
  std::string message;
  REQUIRE(raw.Receive(&message).has_value());
  CHECK(message == "bytes");
}

TEST_CASE("tls server: resets between any two messages of a conversation") {
  for (int messages = 0; messages <= 6; ++messages) {
    INFO("reset after message ", messages);
    Victim victim;
    RawTls raw = victim.Peer();
    std::string data(kBulk, 'd');
    FrameHeader bulk = Request(2, kBulk);
    if (messages == 1)
      raw.Send({.kind = FrameKind::kHelloStart}, HelloClient(NodeOptions(66)).Start());
    if (messages >= 2) raw.Hello();
    if (messages >= 3) raw.Send(Request(1), "x");
    if (messages >= 4) raw.Send(bulk, "x");
    if (messages >= 5) {
      while (true) {
        auto frame = raw.Receive();
        REQUIRE(frame.has_value());
        if (frame->kind == FrameKind::kGrant) break;
      }
      raw.Send(Data(2, 0, 40'000), "");
      raw.SendBytes(data.substr(0, 40'000));
    }
    if (messages >= 6) {
      raw.Send(Data(2, 40'000, kBulk - 40'000));
      raw.SendBytes(data.substr(40'000));
    }
    raw.Reset();
    if (messages >= 2) CHECK(victim.handler->WaitForDisconnects(1));
  }
}

namespace {

// A server that a test plays itself, and a client's call to it.
struct Impostor {
  TlsWorld world;
  std::unique_ptr<Transport> client;
  std::shared_ptr<Channel> channel;
  OwnedFd socket_fd;
  std::mutex mu;
  CondVar changed;
  std::optional<Status> outcome;

  Impostor() : socket_fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    int on = 1;
    REQUIRE(setsockopt(socket_fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(world.Port("s"));
    REQUIRE(bind(socket_fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    REQUIRE(listen(socket_fd.get(), 8) == 0);
    client = world.NewTransport("c", NodeOptions(2));
    channel = *client->Connect(world.Address("s"));
  }
  void Call(ConstBytes bulk = {}) {
    channel->Call(kPing, "x", bulk, CallOptions{5 * kSecond}, [this](Result<Payload> result) {
      std::lock_guard lock(mu);
      outcome = result.status();
      changed.NotifyAll();
    });
  }
  RawTls Accept(const RawTlsFiles& files) {
    OwnedFd fd(accept4(socket_fd.get(), nullptr, nullptr, SOCK_CLOEXEC));
    REQUIRE(fd.get() >= 0);
    return RawTls::Server(std::move(fd), files);
  }
  RawTls Accept() {
    return Accept({world.files().ca_file, world.files().cert_file, world.files().key_file});
  }
  Code Outcome() {
    std::unique_lock lock(mu);
    if (!changed.WaitFor(lock, 10 * kSecond, [&] { return outcome.has_value(); })) {
      return Code::kOk;
    }
    return outcome->code();
  }
};

}  // namespace

TEST_CASE("tls client: a server without the right certificate gets no call") {
  Impostor impostor;
  TlsWorld& world = impostor.world;
  int64_t now = TlsWorld::Now();
  CertifiedKey node = world.Issue();
  SUBCASE("of another authority") { node = TlsWorld::IssueBy(TlsWorld::NewAuthority()); }
  SUBCASE("of another host") { node = world.Issue({now - 60, now + 60}, {"elsewhere"}); }
  SUBCASE("expired") { node = world.Issue({now - 60, now - 30}); }
  world.WriteNode("other", node);
  impostor.Call();
  RawTls raw = impostor.Accept({"", world.dir() + "/other.crt", world.dir() + "/other.key"});
  CHECK(!raw.Receive().has_value());
  CHECK(impostor.Outcome() == Code::kUnauthenticated);
}

TEST_CASE("tls client: a server that breaks the rules loses the connection") {
  Impostor impostor;
  std::string bulk(kBulk, 'b');
  impostor.Call(AsBytes(bulk));
  RawTls raw = impostor.Accept();
  REQUIRE(raw.shaken());
  SUBCASE("garbage instead of hello") { raw.SendBytes(std::string(300, 'g')); }
  SUBCASE("after hello") {
    raw.ServeHello();
    auto request = raw.Receive();
    REQUIRE(request.has_value());
    CHECK(request->bulk_len == kBulk);
    FrameHeader answer;
    answer.kind = FrameKind::kResponse;
    answer.id = request->id;
    SUBCASE("garbage") { raw.SendBytes(std::string(300, 'g')); }
    SUBCASE("an answer to no call") { answer.id = 7, raw.Send(answer, "x"); }
    SUBCASE("a grant for no call") { raw.Send({.kind = FrameKind::kGrant, .id = 7}); }
    SUBCASE("a second grant") {
      raw.Send({.kind = FrameKind::kGrant, .id = request->id});
      raw.Send({.kind = FrameKind::kGrant, .id = request->id});
    }
    SUBCASE("a request") { raw.Send(Request(1), "x"); }
    SUBCASE("a piece that was not granted") {
      answer.kind = FrameKind::kData;
      answer.bulk_len = 100;
      raw.Send(answer);
    }
    SUBCASE("an answer twice") {
      answer.bulk_len = kBulk;
      raw.Send(answer, "x");
      raw.Send(answer, "x");
    }
    SUBCASE("a reset") { raw.Reset(); }
  }
  CHECK(impostor.Outcome() != Code::kOk);
  CHECK(impostor.Outcome() != Code::kDeadlineExceeded);
}
