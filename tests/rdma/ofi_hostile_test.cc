// `ofi` against hostile peers: those of rendezvous_hostile.cc, and peers that use libfabric by
// hand.
#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <string>
#include <vector>

#include "tests/rdma/ofi_raw_peer.h"
#include "tests/rdma/ofi_world.h"
#include "tests/rdma/rendezvous_scene.h"

using namespace perigee;
using namespace perigee::rdma;
using namespace perigee::rdma::ofi;
using rendezvous::FrameHeader;
using rendezvous::FrameKind;
using rendezvous::Request;
using rendezvous::Scene;

TEST_CASE("ofi: what is not a message of ours, or not allowed now, ends the connection") {
  rendezvous::CheckBadMessages(ofi::Tcp());
}

TEST_CASE("ofi: without hello, or with another secret, there are no calls") {
  rendezvous::CheckHelloIsNeeded(ofi::Tcp());
}

TEST_CASE("ofi: announced bulk and bodies that do not have their checksum end the connection") {
  rendezvous::CheckChecksums(ofi::Tcp());
}

TEST_CASE("ofi: more calls than granted, and an id twice, end the connection") {
  rendezvous::CheckCredits(ofi::Tcp());
}

TEST_CASE("ofi: a peer that goes while it announces, or is answered, leaves nothing behind") {
  rendezvous::CheckPeersThatGo(ofi::Tcp());
}

TEST_CASE("ofi: who is silent, or holds on to bulk, is given up after a few seconds") {
  rendezvous::CheckSilentPeers(ofi::Tcp());
}

TEST_CASE("ofi: a server that lies loses its client's connection, and a late answer nothing") {
  rendezvous::CheckLyingServer(ofi::Tcp());
}

TEST_CASE("ofi: strangers that do not get as far as a connection hold up nobody") {
  Scene scene(Tcp());
  sockaddr_in at{};
  at.sin_family = AF_INET;
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const std::string address = scene.address();
  at.sin_port = htons(static_cast<uint16_t>(std::stoi(address.substr(address.rfind(':') + 1))));
  auto stranger = [&](const std::string& bytes) {
    OwnedFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    REQUIRE(connect(fd.get(), reinterpret_cast<sockaddr*>(&at), sizeof at) == 0);
    if (!bytes.empty()) REQUIRE(send(fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) > 0);
    return fd;
  };
  // The beginning of a request of libfabric's, which promises a hundred bytes more.
  const std::string half = std::string("\3\0\0\144", 4) + std::string(28, '\0');
  for (const std::string& bytes : {std::string(), std::string("x"), half, Pattern(500, 8)}) {
    stranger(bytes);  // and gone
  }
  scene.CheckOthersGoOn();
  std::vector<OwnedFd> waiting;
  for (const std::string& bytes : {std::string(), std::string("x"), half, half, half}) {
    waiting.push_back(stranger(bytes));
  }
  auto connect_anew = [&] {
    auto channel = *scene.pair.client->Connect(address);
    CHECK(channel->CallAndWait(kMethod, "new", {}, CallOptions{kLong}).ok());
  };
  connect_anew();
  scene.CheckOthersGoOn();
  scene.pair.listener->Stop();
  scene.pair.listener.reset();
  for (OwnedFd& fd : waiting) {
    char byte;
    CHECK(recv(fd.get(), &byte, 1, 0) <= 0);  // closed
  }
  CHECK(scene.pair.Call("nobody").code() == Code::kUnavailable);
  scene.pair.Listen();
  scene.CheckOthersGoOn();
}

TEST_CASE("ofi: connections that are cut at any step of their making leave nothing behind") {
  struct User : rendezvous::EndpointUser {
    std::shared_ptr<rendezvous::Endpoint> endpoint;
    void OnArrival(rendezvous::Arrival) override {}
    void OnFailure(const Status& why) override { why.Ignore(); }
  };
  enum class Cut { kClient, kClientsWorker, kListener, kServer, kServersWorker };
  for (Cut cut :
       {Cut::kClient, Cut::kClientsWorker, Cut::kListener, Cut::kServer, Cut::kServersWorker}) {
    for (int steps = 0; steps < 24; ++steps) {
      User here, there;
      auto server = *Tcp().worker(), client = *Tcp().worker();
      auto accept = [&](std::shared_ptr<rendezvous::ConnectionRequest> request) {
        auto endpoint = server->Accept(std::move(request), &there);
        REQUIRE(endpoint.ok());
        there.endpoint = *endpoint;
      };
      auto socket = server->Listen(*rendezvous::ParseAddress("127.0.0.1:0"), accept);
      REQUIRE(socket.ok());
      auto endpoint = client->Connect((*socket)->address(), &here);
      REQUIRE(endpoint.ok());
      here.endpoint = *endpoint;
      for (int i = 0; i < steps; ++i) (i % 3 == 0 ? client : server)->Progress();
      if (cut == Cut::kClient) here.endpoint->Close();
      if (cut == Cut::kClientsWorker) client.reset();
      if (cut == Cut::kListener) socket->reset();
      if (cut == Cut::kServer && there.endpoint) there.endpoint->Close();
      if (cut == Cut::kServersWorker) {
        socket->reset();
        server.reset();
      }
      for (int i = 0; i < 24; ++i) {
        if (client) client->Progress();
        if (server) server->Progress();
      }
    }
  }
}

TEST_CASE("ofi: what is not a message of ours ends the connection") {
  Scene scene(Tcp());
  Envelope control;
  control.token = 1;
  auto message = [](Envelope envelope, EnvelopeKind kind, size_t data_bytes = 0) {
    envelope.kind = kind;
    envelope.data_bytes = static_cast<uint32_t>(data_bytes);
    std::string out(kEnvelopeBytes, '\0');
    EncodeEnvelope(envelope, reinterpret_cast<uint8_t*>(out.data()));
    return out;
  };
  struct Attack {
    const char* name;
    std::string bytes;
  };
  std::vector<Attack> attacks = {
      {"nothing", ""},
      {"short", std::string(kEnvelopeBytes - 1, 'x')},
      {"noise", Pattern(1000, 1)},
      {"larger than any message", std::string(kBufferBytes + 1, 'x')},
      {"much larger", std::string(1 << 20, 'x')},
      {"an empty message", message({}, EnvelopeKind::kMessage)},
      {"memory for nothing", message(control, EnvelopeKind::kGrant, 100'000)},
      {"nothing is written", message(control, EnvelopeKind::kWritten)},
      {"nothing is let go", message(control, EnvelopeKind::kRelease)},
      {"an announcement without a head", message(control, EnvelopeKind::kAnnounce, 100'000)},
  };
  for (const Attack& attack : attacks) {
    INFO(attack.name);
    RawFabric peer(scene.address());
    peer.Hello();
    peer.SendBytes(attack.bytes);
    CHECK(peer.Ended());
  }
  CHECK(scene.pair.handler->WaitForDisconnects(attacks.size()));
  scene.CheckOthersGoOn();
}

TEST_CASE("ofi: a reply goes where it was asked for, once, and nowhere else") {
  Scene scene(Tcp());
  RawFabric peer(scene.address());
  peer.Hello();
  std::string bulk = Pattern(100'000, 2), space(100'000 + 200, 'z');
  Exposure offered = peer.Expose(bulk, Memory::Access::kRemoteRead);
  Envelope envelope;
  envelope.token = 1;
  envelope.addr = offered.addr;
  envelope.key = offered.key;
  peer.Announce(Request(1), bulk, envelope);
  auto fetched = peer.Must();
  CHECK(fetched.envelope.kind == EnvelopeKind::kRelease);
  CHECK(fetched.envelope.token == 1);
  auto answer = peer.Must();
  REQUIRE(answer.envelope.kind == EnvelopeKind::kAnnounce);
  CHECK(answer.envelope.addr == 0);
  CHECK(answer.envelope.key == 0);
  Exposure granted = peer.Expose(space, Memory::Access::kRemoteWrite);
  Envelope grant;
  grant.kind = EnvelopeKind::kGrant;
  grant.token = answer.envelope.token;
  grant.data_bytes = answer.envelope.data_bytes;
  grant.addr = granted.addr + 100;
  grant.key = granted.key;
  SUBCASE("as asked") {
    peer.Send(grant);
    CHECK(peer.Must().envelope.kind == EnvelopeKind::kWritten);
    CHECK(space == std::string(100, 'z') + bulk + std::string(100, 'z'));
    // It is done: there is no more to write.
    peer.Send(grant);
    CHECK(peer.Ended());
  }
  SUBCASE("twice") {
    peer.Send(grant);
    peer.Send(grant);
    CHECK(peer.Ended());
  }
  SUBCASE("more than there is") {
    grant.data_bytes += 1;
    peer.Send(grant);
    CHECK(peer.Ended());
    CHECK(space == std::string(space.size(), 'z'));
  }
  SUBCASE("less than there is") {
    grant.data_bytes -= 1;
    peer.Send(grant);
    CHECK(peer.Ended());
    CHECK(space == std::string(space.size(), 'z'));
  }
  SUBCASE("granted and let go") {
    Envelope release;
    release.kind = EnvelopeKind::kRelease;
    release.token = grant.token;
    peer.Send(release);
    peer.Send(grant);
    CHECK(peer.Ended());
    CHECK(space == std::string(space.size(), 'z'));
  }
  SUBCASE("to a key that there is not") {
    grant.key ^= 1;
    peer.Send(grant);
    CHECK(peer.Ended());
    CHECK(space == std::string(space.size(), 'z'));
  }
  SUBCASE("beyond the memory") {
    grant.addr = granted.addr + 201;
    peer.Send(grant);
    CHECK(peer.Ended());
    CHECK(space == std::string(space.size(), 'z'));
  }
  CHECK(scene.pair.handler->WaitForDisconnects(1));
  scene.CheckOthersGoOn();
}

TEST_CASE("ofi: a request's bulk that cannot be read ends the connection") {
  Scene scene(Tcp());
  std::string bulk = Pattern(100'000, 3);
  for (const char* what : {"no such key", "beyond", "too short", "only to write", "token twice"}) {
    INFO(what);
    RawFabric peer(scene.address());
    peer.Hello();
    std::string name = what, shorter = bulk.substr(1);
    Exposure offered = peer.Expose(
        name == "too short" ? shorter : bulk,
        name == "only to write" ? Memory::Access::kRemoteWrite : Memory::Access::kRemoteRead);
    Envelope envelope;
    envelope.token = 1;
    envelope.addr = offered.addr + (name == "beyond" ? 1 : 0);
    envelope.key = offered.key ^ (name == "no such key" ? 1 : 0);
    peer.Announce(Request(1), bulk, envelope);
    if (name == "token twice") peer.Announce(Request(2), bulk, envelope);
    CHECK(peer.Ended());
  }
  CHECK(scene.pair.handler->WaitForDisconnects(5));
  scene.CheckOthersGoOn();
}

TEST_CASE("ofi: nobody reads or writes a server's memory") {
  Scene scene(Tcp());
  // Where the server's memory is, this process knows; keys there are none.
  std::string secret = Pattern(100'000, 4);
  auto piece = scene.pool->Allocate(secret.size(), kLong);
  REQUIRE(piece.ok());
  std::memcpy(piece->data(), secret.data(), secret.size());
  auto there = reinterpret_cast<uint64_t>(piece->data());
  size_t attempts = 0;
  for (uint64_t key = 0; key < 8; ++key) {
    for (uint64_t addr : {uint64_t{0}, there}) {
      for (bool write : {true, false}) {
        RawFabric peer(scene.address());
        peer.Hello();
        std::string space(secret.size(), 'z');
        write ? peer.Write(space, addr, key) : peer.Read(&space, addr, key);
        CHECK(peer.Ended());
        CHECK(space == std::string(secret.size(), 'z'));
        ++attempts;
      }
    }
  }
  CHECK(AsView(piece->span()) == secret);
  piece->Release();
  CHECK(scene.pair.handler->WaitForDisconnects(attempts));
  scene.CheckOthersGoOn();
}

TEST_CASE("ofi: a server reaches what its client grants, as it grants it, and nothing else") {
  rendezvous::RendezvousWorld world(Tcp());
  RawFabric server;
  std::string address = server.Listen();
  TransportOptions options = NodeOptions(2);
  options.pool = Pool(16 << 20);
  auto client = world.NewTransport("client", options);
  auto channel = *client->Connect(address);
  // The call's bulk lies between bytes that are nobody's business.
  const size_t kBulk = 100'000, kAround = 1000;
  const std::string before = Pattern(kBulk + 2 * kAround, 5), bulk = before.substr(kAround, kBulk);
  auto piece = options.pool->Allocate(before.size(), kLong);
  REQUIRE(piece.ok());
  std::memcpy(piece->data(), before.data(), before.size());
  Outcomes outcomes;
  channel->Call(kMethod, "", {piece->data() + kAround, kBulk}, CallOptions{kLong},
                outcomes.Expect());
  server.Welcome();
  auto request = server.Must();
  REQUIRE(request.envelope.kind == EnvelopeKind::kAnnounce);
  REQUIRE(request.head.bulk_len == kBulk);
  const Envelope offer = request.envelope;
  std::string space(kBulk, 'z');
  Envelope release;
  release.kind = EnvelopeKind::kRelease;
  release.token = offer.token;
  FrameHeader answer{.kind = FrameKind::kResponse, .id = request.head.id};
  auto lost = [&] {
    CHECK(server.Ended());
    REQUIRE(outcomes.Wait(1));
    CHECK(outcomes.Count(Code::kUnavailable) == 1);
    CHECK(AsView(piece->span()) == before);
  };

  SUBCASE("what it was given") {
    server.Read(&space, offer.addr, offer.key);
    CHECK(server.Await([&] { return space == bulk; }));
    server.Send(release);
    server.Send(answer, "");
    REQUIRE(outcomes.Wait(1));
    CHECK(outcomes.Count(Code::kOk) == 1);
    CHECK(AsView(piece->span()) == before);
    // The call is over.
    std::string again(kBulk, 'z');
    server.Read(&again, offer.addr, offer.key);
    CHECK(server.Ended());
    CHECK(again == std::string(kBulk, 'z'));
  }
  SUBCASE("reads beyond it") {
    server.Read(&space, offer.addr + 1, offer.key);
    lost();
    CHECK(space == std::string(kBulk, 'z'));
  }
  SUBCASE("reads before it") {
    server.Read(&space, offer.addr - 1, offer.key);
    lost();
    CHECK(space == std::string(kBulk, 'z'));
  }
  SUBCASE("writes it") {
    server.Write(space, offer.addr, offer.key);
    lost();
  }
  SUBCASE("lets go of it twice") {
    server.Send(release);
    server.Send(release);
    lost();
  }
  SUBCASE("says it wrote what was not granted") {
    Envelope written = release;
    written.kind = EnvelopeKind::kWritten;
    server.Send(written);
    lost();
  }
  SUBCASE("offers memory") {
    Envelope envelope;
    envelope.token = 1;
    envelope.key = 1;
    server.Announce(answer, bulk, envelope);
    CHECK(!server.Receive().has_value());
    lost();
  }
  SUBCASE("an answer") {
    server.Send(release);
    std::string reply = Pattern(kBulk, 6);
    Envelope announced;
    announced.token = 1;
    server.Announce(answer, reply, announced);
    auto grant = server.Must();
    REQUIRE(grant.envelope.kind == EnvelopeKind::kGrant);
    CHECK(grant.envelope.token == 1);
    CHECK(grant.envelope.data_bytes == kBulk);
    Envelope written;
    written.kind = EnvelopeKind::kWritten;
    written.token = 1;
    SUBCASE("written in two parts") {
      std::string first = reply.substr(0, 60'000), second = reply.substr(60'000);
      server.Write(first, grant.envelope.addr, grant.envelope.key);
      server.Write(second, grant.envelope.addr + first.size(), grant.envelope.key);
      server.Send(written);
      REQUIRE(outcomes.Wait(1));
      CHECK(outcomes.Count(Code::kOk) == 1);
      // Nobody wants it any more.
      server.Write(reply, grant.envelope.addr, grant.envelope.key);
      CHECK(server.Ended());
    }
    SUBCASE("written beyond") {
      server.Write(reply, grant.envelope.addr + 1, grant.envelope.key);
      lost();
    }
    SUBCASE("longer") {
      std::string more = reply + "x";
      server.Write(more, grant.envelope.addr, grant.envelope.key);
      lost();
    }
    SUBCASE("read instead") {
      server.Read(&space, grant.envelope.addr, grant.envelope.key);
      lost();
      CHECK(space == std::string(kBulk, 'z'));
    }
    SUBCASE("not written") {
      server.Send(written);
      lost();
    }
    SUBCASE("other bytes") {
      reply[1000] = static_cast<char>(reply[1000] ^ 1);
      server.Write(reply, grant.envelope.addr, grant.envelope.key);
      server.Send(written);
      lost();
    }
  }
}
