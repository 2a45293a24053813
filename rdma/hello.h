#pragma once
// HELLO: how two processes prove to each other that they know the cluster's secret, before the
// first call of a connection. Three messages and a verdict, the same on every provider;
// docs/formats/hello.md has the fields.
//
//   client -> server  HelloStart      who I am, my nonce
//   server -> client  HelloChallenge  who I am, my nonce, my proof
//   client -> server  HelloAnswer     my proof (empty: I have no secret and am Role::kUser)
//   server -> client  HelloVerdict    welcome, or why not
//
// proof = HMAC-SHA256(secret, label || client nonce || server nonce || role || node id), with a
// label for each side, so that no side's proof can be sent back to it. Secrets are expected to be
// random (base/daemon.h LoadSecret): a connected stranger is shown the server's proof and could try
// short ones against it. Thread rule: a HelloClient or HelloServer belongs to one connection; not
// thread-safe.

#include <string>
#include <string_view>

#include "rdma/transport.h"
#include "rdma/wire/codec.h"

namespace perigee::rdma {

inline constexpr uint32_t kHelloVersion = 1;
inline constexpr size_t kHelloBytesMax = 1024;  // of each message
inline constexpr size_t kNonceBytes = 32;

struct HelloStart {
  uint32_t version = kHelloVersion;
  Role role = Role::kUser;
  uint64_t node_id = 0;
  std::string nonce;
  wire::Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.version);
    v(2, s.role);
    v(3, s.node_id);
    v(4, s.nonce);
    v.Rest(s.unknown);
  }
};
struct HelloChallenge {
  uint32_t version = kHelloVersion;
  Role role = Role::kNode;
  uint64_t node_id = 0;
  std::string nonce;
  std::string proof;  // empty: this server has no secret
  wire::Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.version);
    v(2, s.role);
    v(3, s.node_id);
    v(4, s.nonce);
    v(5, s.proof);
    v.Rest(s.unknown);
  }
};
struct HelloAnswer {
  std::string proof;
  wire::Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.proof);
    v.Rest(s.unknown);
  }
};
struct HelloVerdict {
  Code code = Code::kOk;
  std::string message;
  uint32_t credits = 0;  // calls the client may have in flight
  wire::Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.code);
    v(2, s.message);
    v(3, s.credits);
    v.Rest(s.unknown);
  }
};

// What one side learnt about the other.
struct HelloPeer {
  Role role = Role::kUser;
  uint64_t node_id = 0;
  uint32_t credits = 0;  // on the client: granted by the server
};

enum class HelloSide : uint8_t { kClient, kServer };
std::string HelloProof(std::string_view secret, HelloSide prover, std::string_view client_nonce,
                       std::string_view server_nonce, Role role, uint64_t node_id);

class HelloClient {
 public:
  explicit HelloClient(const TransportOptions& self);
  std::string Start();
  // The answer to send. kUnauthenticated: the server does not prove the secret that this side has.
  Result<std::string> Answer(std::string_view challenge);
  // The refusal that the server sent, or whom this connection leads to.
  Result<HelloPeer> Finish(std::string_view verdict);

 private:
  std::string secret_;
  Role role_;
  uint64_t node_id_;
  std::string nonce_;
  HelloPeer server_;
};

class HelloServer {
 public:
  explicit HelloServer(const TransportOptions& self);
  // The challenge to send.
  Result<std::string> Challenge(std::string_view start);
  // kUnauthenticated: the proof is wrong, or missing although the client says it is a node.
  Result<HelloPeer> Verify(std::string_view answer);
  std::string Welcome() const;
  static std::string Refusal(const Status& why);

 private:
  std::string secret_;
  Role role_;
  uint64_t node_id_;
  uint32_t credits_;
  std::string nonce_;
  std::string client_nonce_;
  HelloPeer client_;
};

}  // namespace perigee::rdma
