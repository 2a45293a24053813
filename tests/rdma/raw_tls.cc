#include "tests/rdma/raw_tls.h"

#include <doctest/doctest.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <cerrno>
#include <csignal>
#include <utility>

#include "rdma/hello.h"
#include "tests/rdma/transport_conformance.h"

namespace perigee::rdma {

using tls::FrameHeader;
using tls::FrameKind;

OwnedFd RawTls::Dial(uint16_t port) {
  OwnedFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  REQUIRE(connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  return fd;
}

RawTls RawTls::Client(OwnedFd fd, const RawTlsFiles& files) {
  return RawTls(std::move(fd), files, false);
}
RawTls RawTls::Server(OwnedFd fd, const RawTlsFiles& files) {
  return RawTls(std::move(fd), files, true);
}

RawTls::RawTls(OwnedFd fd, const RawTlsFiles& files, bool server) : fd_(std::move(fd)) {
  signal(SIGPIPE, SIG_IGN);  // the peer may hang up at any time
  timeval limit{10, 0};
  REQUIRE(setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0);
  context_ = SSL_CTX_new(TLS_method());
  if (files.old_version) REQUIRE(SSL_CTX_set_max_proto_version(context_, TLS1_2_VERSION) == 1);
  if (!files.ca.empty()) {
    REQUIRE(SSL_CTX_load_verify_locations(context_, files.ca.c_str(), nullptr) == 1);
    SSL_CTX_set_verify(context_, SSL_VERIFY_PEER, nullptr);
  }
  if (!files.cert.empty()) {
    REQUIRE(SSL_CTX_use_certificate_chain_file(context_, files.cert.c_str()) == 1);
    REQUIRE(SSL_CTX_use_PrivateKey_file(context_, files.key.c_str(), SSL_FILETYPE_PEM) == 1);
  }
  ssl_ = SSL_new(context_);
  REQUIRE(SSL_set_fd(ssl_, fd_.get()) == 1);
  shaken_ = (server ? SSL_accept(ssl_) : SSL_connect(ssl_)) == 1;
  ERR_clear_error();
}

RawTls::RawTls(RawTls&& o) noexcept
    : fd_(std::move(o.fd_)),
      context_(std::exchange(o.context_, nullptr)),
      ssl_(std::exchange(o.ssl_, nullptr)),
      shaken_(o.shaken_),
      ended_(o.ended_) {}

RawTls::~RawTls() {
  SSL_free(ssl_);
  SSL_CTX_free(context_);
}

void RawTls::Reset() {
  linger now{1, 0};
  REQUIRE(setsockopt(fd_.get(), SOL_SOCKET, SO_LINGER, &now, sizeof now) == 0);
  fd_.Reset(-1);
}

void RawTls::SendBytes(std::string_view bytes) {
  // The peer may have hung up already; the test then sees the end.
  (void)SSL_write(ssl_, bytes.data(), static_cast<int>(bytes.size()));
  ERR_clear_error();
}

void RawTls::Send(const FrameHeader& head, std::string_view message, ConstBytes bulk) {
  SendBytes(tls::FrameText(head, message, bulk));
}

bool RawTls::ReadFully(char* out, size_t bytes) {
  for (size_t done = 0; done < bytes;) {
    errno = 0;
    int n = SSL_read(ssl_, out + done, static_cast<int>(bytes - done));
    if (n <= 0) {
      // SO_RCVTIMEO shows as a wish to read on.
      ended_ = SSL_get_error(ssl_, n) != SSL_ERROR_WANT_READ;
      ERR_clear_error();
      return false;
    }
    done += static_cast<size_t>(n);
  }
  return true;
}

std::optional<FrameHeader> RawTls::ReceiveAny(std::string* body) {
  uint8_t bytes[tls::kFrameBytes];
  if (!ReadFully(reinterpret_cast<char*>(bytes), sizeof bytes)) return std::nullopt;
  auto head = tls::DecodeFrame(bytes, {kHeaderBytesMax, kPieceBytesMax});
  REQUIRE(head.ok());
  size_t follows = head->BodyBytes() + (head->kind == FrameKind::kData ? head->bulk_len : 0);
  std::string rest(follows, '\0');
  if (!ReadFully(rest.data(), rest.size())) return std::nullopt;
  if (body != nullptr) *body = std::move(rest);
  return *head;
}

std::optional<FrameHeader> RawTls::Receive(std::string* body) {
  auto head = ReceiveAny(body);
  while (head && head->kind == FrameKind::kBeat) head = ReceiveAny(body);
  return head;
}

bool RawTls::EndedThoughAlive() {
  constexpr int kBeatsMost = 100;
  for (int beats = 0; beats < kBeatsMost && ReceiveAny(nullptr); ++beats) {
    Send({.kind = FrameKind::kBeat});
  }
  return ended_;
}

bool RawTls::Ended() {
  while (Receive()) {
  }
  return ended_;
}

void RawTls::Hello() {
  HelloClient hello(NodeOptions(66));
  Send({.kind = FrameKind::kHelloStart}, hello.Start());
  std::string message;
  REQUIRE(Receive(&message).has_value());
  auto answer = hello.Answer(message);
  REQUIRE(answer.ok());
  Send({.kind = FrameKind::kHelloAnswer}, *answer);
  auto verdict = Receive(&message);
  REQUIRE(verdict.has_value());
  REQUIRE(verdict->kind == FrameKind::kHelloVerdict);
  REQUIRE(hello.Finish(message).ok());
}

void RawTls::ServeHello() {
  HelloServer hello(NodeOptions(66));
  std::string message;
  REQUIRE(Receive(&message).has_value());
  auto challenge = hello.Challenge(message);
  REQUIRE(challenge.ok());
  Send({.kind = FrameKind::kHelloChallenge}, *challenge);
  REQUIRE(Receive(&message).has_value());
  REQUIRE(hello.Verify(message).ok());
  Send({.kind = FrameKind::kHelloVerdict}, hello.Welcome());
}

}  // namespace perigee::rdma
