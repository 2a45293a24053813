#include "rdma/hello.h"

#include <doctest/doctest.h>

#include "base/bytes.h"

using namespace perigee;
using namespace perigee::rdma;

static TransportOptions Side(Role role, uint64_t node_id, std::string secret) {
  TransportOptions options;
  options.role = role;
  options.node_id = node_id;
  options.cluster_secret = std::move(secret);
  options.credits = 5;
  return options;
}

// What the client sees, and what the server sees.
struct Seen {
  Result<HelloPeer> client = Status(Code::kInternal, "not finished");
  Result<HelloPeer> server = Status(Code::kInternal, "not finished");
};
static Seen Meet(const TransportOptions& client_options, const TransportOptions& server_options) {
  HelloClient client(client_options);
  HelloServer server(server_options);
  Seen seen;
  auto challenge = server.Challenge(client.Start());
  REQUIRE(challenge.ok());
  auto answer = client.Answer(*challenge);
  if (!answer.ok()) {
    seen.client = answer.status();
    seen.server.status().Ignore();
    return seen;
  }
  seen.server = server.Verify(*answer);
  seen.client = client.Finish(seen.server.ok() ? server.Welcome()
                                               : HelloServer::Refusal(seen.server.status()));
  return seen;
}

TEST_CASE("hello: proofs have their golden values") {
  std::string client_nonce(32, '\x11'), server_nonce(32, '\x22');
  CHECK(HexEncode(
            HelloProof("secret", HelloSide::kClient, client_nonce, server_nonce, Role::kNode, 7)) ==
        "67381645678f195e865fde1f880a96d5ca9f59f4e7a4011e5a7576ca9504523e");
  CHECK(HexEncode(
            HelloProof("secret", HelloSide::kServer, client_nonce, server_nonce, Role::kNode, 7)) ==
        "85825b922a1db6040d0ee6c63e41f7fbee7becd3b5d94c5d3451ef0df66aab46");
}

TEST_CASE("hello: messages have their golden bytes") {
  CHECK(HexEncode(wire::Encode(HelloStart{1, Role::kNode, 7, "nn", {}})) == "08011001180722026e6e");
  CHECK(HexEncode(wire::Encode(HelloChallenge{1, Role::kNode, 7, "nn", "pp", {}})) ==
        "08011001180722026e6e2a027070");
  CHECK(HexEncode(wire::Encode(HelloAnswer{"pp", {}})) == "0a027070");
  CHECK(HexEncode(wire::Encode(HelloVerdict{Code::kUnauthenticated, "no", 5, {}})) ==
        "080512026e6f1805");
}

TEST_CASE("hello: two nodes with one secret know each other") {
  Seen seen = Meet(Side(Role::kNode, 2, "s"), Side(Role::kNode, 1, "s"));
  REQUIRE(seen.client.ok());
  REQUIRE(seen.server.ok());
  CHECK(seen.client->node_id == 1);
  CHECK(seen.client->credits == 5);
  CHECK(seen.server->node_id == 2);
  CHECK(seen.server->role == Role::kNode);
}

TEST_CASE("hello: nobody gets past another secret, none, or a role without proof") {
  CHECK(Meet(Side(Role::kNode, 2, "other"), Side(Role::kNode, 1, "s")).client.code() ==
        Code::kUnauthenticated);
  CHECK(Meet(Side(Role::kNode, 2, "s"), Side(Role::kUser, 1, "")).client.code() ==
        Code::kUnauthenticated);
  Seen claims = Meet(Side(Role::kNode, 2, ""), Side(Role::kNode, 1, "s"));
  CHECK(claims.server.code() == Code::kUnauthenticated);
  CHECK(claims.client.code() == Code::kUnauthenticated);
  Seen user = Meet(Side(Role::kUser, 2, ""), Side(Role::kNode, 1, "s"));
  REQUIRE(user.server.ok());
  CHECK(user.server->role == Role::kUser);
  CHECK(user.server->node_id == 0);
}

TEST_CASE("hello: a server's proof sent back is not a client's proof") {
  HelloServer server(Side(Role::kNode, 1, "s"));
  HelloStart start{kHelloVersion, Role::kNode, 1, std::string(32, 'n'), {}};
  auto challenge = wire::Decode<HelloChallenge>(*server.Challenge(wire::Encode(start)));
  REQUIRE(challenge.ok());
  CHECK(server.Verify(wire::Encode(HelloAnswer{challenge->proof, {}})).code() ==
        Code::kUnauthenticated);
}

TEST_CASE("hello: a proof does not serve another node id") {
  HelloServer server(Side(Role::kNode, 1, "s"));
  std::string nonce(32, 'n');
  auto challenge = wire::Decode<HelloChallenge>(
      *server.Challenge(wire::Encode(HelloStart{kHelloVersion, Role::kNode, 8, nonce, {}})));
  REQUIRE(challenge.ok());
  std::string proof = HelloProof("s", HelloSide::kClient, nonce, challenge->nonce, Role::kNode, 9);
  CHECK(server.Verify(wire::Encode(HelloAnswer{proof, {}})).code() == Code::kUnauthenticated);
}

TEST_CASE("hello: malformed, foreign and oversized messages are refused") {
  HelloServer server(Side(Role::kNode, 1, "s"));
  std::string nonce(32, 'n');
  CHECK(server.Challenge("\xff\xff").code() == Code::kCorrupt);
  CHECK(server.Challenge(std::string(kHelloBytesMax + 1, 'x')).code() == Code::kTooLarge);
  CHECK(server.Challenge(wire::Encode(HelloStart{2, Role::kNode, 1, nonce, {}})).code() ==
        Code::kUnimplemented);
  CHECK(server.Challenge(wire::Encode(HelloStart{1, static_cast<Role>(9), 1, nonce, {}})).code() ==
        Code::kInvalidArgument);
  CHECK(server.Challenge(wire::Encode(HelloStart{1, Role::kNode, 1, "short", {}})).code() ==
        Code::kInvalidArgument);
  HelloClient client(Side(Role::kUser, 0, ""));
  CHECK(client.Answer("\xff").code() == Code::kCorrupt);
  CHECK(client.Finish(wire::Encode(HelloVerdict{})).code() == Code::kCorrupt);
}
