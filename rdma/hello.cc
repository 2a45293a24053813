#include "rdma/hello.h"

#include <algorithm>

#include "base/bytes.h"
#include "base/crypto.h"
#include "base/random.h"

namespace perigee::rdma {

namespace {

constexpr std::string_view kClientLabel = "perigee hello 1 client";
constexpr std::string_view kServerLabel = "perigee hello 1 server";

Status CheckCommon(uint32_t version, Role role, std::string_view nonce) {
  if (version != kHelloVersion) {
    return Status(Code::kUnimplemented, "the peer speaks hello version " + std::to_string(version) +
                                            ", this process " + std::to_string(kHelloVersion));
  }
  if (role != Role::kUser && role != Role::kNode) {
    return Status(Code::kInvalidArgument, "hello: unknown role");
  }
  if (nonce.size() != kNonceBytes) {
    return Status(Code::kInvalidArgument, "hello: a nonce has 32 bytes");
  }
  return Status::Ok();
}

template <class M>
Result<M> DecodeHello(std::string_view message) {
  if (message.size() > kHelloBytesMax) return Status(Code::kTooLarge, "hello message too large");
  return wire::Decode<M>(message);
}

}  // namespace

std::string HelloProof(std::string_view secret, HelloSide prover, std::string_view client_nonce,
                       std::string_view server_nonce, Role role, uint64_t node_id) {
  std::string text(prover == HelloSide::kClient ? kClientLabel : kServerLabel);
  text.append(client_nonce);
  text.append(server_nonce);
  text.push_back(static_cast<char>(role));
  uint8_t id[8];
  PutLe<uint64_t>(id, node_id);
  text.append(AsView(ConstBytes(id, sizeof id)));
  return HmacSha256(secret, text);
}

HelloClient::HelloClient(const TransportOptions& self)
    : secret_(self.cluster_secret),
      role_(self.role),
      node_id_(self.node_id),
      nonce_(SecretBytes(kNonceBytes)) {}

std::string HelloClient::Start() {
  return wire::Encode(HelloStart{kHelloVersion, role_, node_id_, nonce_, {}});
}

Result<std::string> HelloClient::Answer(std::string_view message) {
  PERIGEE_ASSIGN(HelloChallenge challenge, DecodeHello<HelloChallenge>(message));
  PERIGEE_TRY(CheckCommon(challenge.version, challenge.role, challenge.nonce));
  server_ = {challenge.role, challenge.node_id, 0};
  HelloAnswer answer;
  if (!secret_.empty()) {
    if (challenge.proof.empty()) {
      return Status(Code::kUnauthenticated, "the server has no cluster secret");
    }
    std::string expected = HelloProof(secret_, HelloSide::kServer, nonce_, challenge.nonce,
                                      challenge.role, challenge.node_id);
    if (!ConstantTimeEqual(challenge.proof, expected)) {
      return Status(Code::kUnauthenticated, "the server has another cluster secret");
    }
    answer.proof =
        HelloProof(secret_, HelloSide::kClient, nonce_, challenge.nonce, role_, node_id_);
  }
  return wire::Encode(answer);
}

Result<HelloPeer> HelloClient::Finish(std::string_view message) {
  PERIGEE_ASSIGN(HelloVerdict verdict, DecodeHello<HelloVerdict>(message));
  if (verdict.code != Code::kOk) {
    return Status(verdict.code, "refused by the server: " + verdict.message);
  }
  if (verdict.credits == 0) return Status(Code::kCorrupt, "hello: the server grants no credits");
  server_.credits = verdict.credits;
  return server_;
}

HelloServer::HelloServer(const TransportOptions& self)
    : secret_(self.cluster_secret),
      role_(self.role),
      node_id_(self.node_id),
      credits_(std::max<uint32_t>(self.credits, 1)),
      nonce_(SecretBytes(kNonceBytes)) {}

Result<std::string> HelloServer::Challenge(std::string_view message) {
  PERIGEE_ASSIGN(HelloStart start, DecodeHello<HelloStart>(message));
  PERIGEE_TRY(CheckCommon(start.version, start.role, start.nonce));
  client_ = {start.role, start.node_id, 0};
  client_nonce_ = start.nonce;
  HelloChallenge challenge{kHelloVersion, role_, node_id_, nonce_, "", {}};
  if (!secret_.empty()) {
    challenge.proof =
        HelloProof(secret_, HelloSide::kServer, client_nonce_, nonce_, role_, node_id_);
  }
  return wire::Encode(challenge);
}

Result<HelloPeer> HelloServer::Verify(std::string_view message) {
  PERIGEE_ASSIGN(HelloAnswer answer, DecodeHello<HelloAnswer>(message));
  if (answer.proof.empty()) {
    if (client_.role == Role::kNode) {
      return Status(Code::kUnauthenticated, "a node proves that it knows the cluster secret");
    }
    client_.node_id = 0;  // nothing vouches for it
    return client_;
  }
  if (secret_.empty()) {
    return Status(Code::kUnauthenticated, "this server has no cluster secret");
  }
  std::string expected =
      HelloProof(secret_, HelloSide::kClient, client_nonce_, nonce_, client_.role, client_.node_id);
  if (!ConstantTimeEqual(answer.proof, expected)) {
    return Status(Code::kUnauthenticated, "wrong cluster secret");
  }
  if (client_.role == Role::kUser) client_.node_id = 0;
  return client_;
}

std::string HelloServer::Welcome() const {
  return wire::Encode(HelloVerdict{Code::kOk, "", credits_, {}});
}

std::string HelloServer::Refusal(const Status& why) {
  PERIGEE_CHECK(!why.ok());
  return wire::Encode(HelloVerdict{why.code(), why.message().substr(0, 512), 0, {}});
}

}  // namespace perigee::rdma
