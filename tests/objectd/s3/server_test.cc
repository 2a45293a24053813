// The endpoint over real loopback sockets, by a client that sends exactly the bytes a test wants.
#include "objectd/s3/server.h"

#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/event.h"
#include "objectd/s3/http_server.h"
#include "tests/objectd/s3/fixture.h"

namespace perigee::objectd::s3 {
namespace {

using namespace test;

struct RawReply {
  int status = 0;
  std::string head, body;
  bool has(const std::string& text) const { return head.find(text) != std::string::npos; }
};

class RawClient {
 public:
  explicit RawClient(const std::string& address) : fd_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in to{};
    to.sin_family = AF_INET;
    size_t colon = address.rfind(':');
    to.sin_port = htons(static_cast<uint16_t>(std::stoi(address.substr(colon + 1))));
    inet_pton(AF_INET, address.substr(0, colon).c_str(), &to.sin_addr);
    connected = ::connect(fd_, reinterpret_cast<sockaddr*>(&to), sizeof to) == 0;
  }
  ~RawClient() { ::close(fd_); }
  RawClient(const RawClient&) = delete;
  void Write(std::string_view bytes) {
    while (!bytes.empty()) {
      ssize_t n = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (n <= 0) return;
      bytes.remove_prefix(static_cast<size_t>(n));
    }
  }
  // Empty when the server closed.
  std::string Some() {
    pollfd p{fd_, POLLIN, 0};
    if (::poll(&p, 1, 20000) <= 0) return {};
    char buffer[65536];
    ssize_t n = ::recv(fd_, buffer, sizeof buffer, 0);
    return n > 0 ? std::string(buffer, static_cast<size_t>(n)) : std::string();
  }
  RawReply Read(bool head_only = false) {
    RawReply reply;
    size_t end;
    while ((end = pending_.find("\r\n\r\n")) == std::string::npos) {
      std::string more = Some();
      if (more.empty()) return reply;
      pending_ += more;
    }
    reply.head = pending_.substr(0, end + 4);
    pending_.erase(0, end + 4);
    reply.status = std::stoi(reply.head.substr(9, 3));
    if (reply.status == 100 || head_only) return reply;
    size_t at = reply.head.find("Content-Length: ");
    size_t length = at == std::string::npos ? 0 : std::stoull(reply.head.substr(at + 16));
    while (pending_.size() < length) {
      std::string more = Some();
      if (more.empty()) break;
      pending_ += more;
    }
    reply.body = pending_.substr(0, length);
    pending_.erase(0, length);
    return reply;
  }
  bool Closed() { return pending_.empty() && Some().empty(); }
  bool connected = false;

 private:
  int fd_;
  std::string pending_;
};

// On a connection of its own, within half a minute; the ones before are refused.
bool IsServedInTime(const std::string& address, const std::string& request) {
  const Nanos began = RealClock::Get().Monotonic();
  int status = 0;
  while (status != 200 && RealClock::Get().Monotonic() - began < 30 * kSecond) {
    RawClient client(address);
    client.Write(request);
    status = client.Read().status;
  }
  return status == 200;
}

struct ServerFixture : Fixture {
  explicit ServerFixture(S3Options options = {})
      : pool(CreateThreadPool({.name = "s3", .threads = 4})) {
    options.listen = "127.0.0.1:0";
    options.pool_threads = 4;
    options.access_key = credentials.access_key;
    options.secret_key = credentials.secret_key;
    server = std::move(S3Server::Start(options, deps(*pool))).value();
  }
  ~ServerFixture() {
    server->Stop();
    pool->Stop();
  }
  S3Deps deps(Scheduler& on) {
    return {ns.get(), blob_deps(), &peers, &on, &clock, registry.get()};
  }
  std::string Wire(const std::string& method, const std::string& target,
                   const std::string& body = {}, const HeaderList& extra = {}) {
    std::string out = method + " " + target + " HTTP/1.1\r\n";
    for (const auto& [name, value] :
         Authorized(method, target, extra, HexEncode(Hash(HashKind::kSha256, body)), body)) {
      out += name + ": " + value + "\r\n";
    }
    return out + "\r\n" + body;
  }
  std::unique_ptr<Scheduler> pool;
  std::unique_ptr<S3Server> server;
};

TEST_CASE("one connection carries many requests, pipelined or not") {
  ServerFixture f;
  RawClient client(f.server->address());
  std::string large = RandomText(3 << 20, 1);
  client.Write(f.Wire("PUT", "/bucket/large", large));
  CHECK(client.Read().status == 200);
  client.Write(f.Wire("PUT", "/bucket/a", "one") + f.Wire("GET", "/bucket/a") +
               f.Wire("HEAD", "/bucket/a"));
  CHECK(client.Read().status == 200);
  CHECK(client.Read().body == "one");
  RawReply head = client.Read(true);
  CHECK(head.has("Content-Length: 3\r\n"));
  client.Write(f.Wire("GET", "/bucket/large"));
  CHECK((client.Read().body == large));
  client.Write(f.Wire("DELETE", "/bucket/a"));
  RawReply gone = client.Read();
  CHECK(gone.status == 204);
  CHECK_FALSE(gone.has("Content-Length"));
  client.Write(f.Wire("GET", "/bucket/a", {}, {{"connection", "close"}}));
  RawReply last = client.Read();
  CHECK(last.status == 404);
  CHECK(last.has("Connection: close"));
  CHECK(client.Closed());
}

TEST_CASE("a body sent byte by byte, and one in chunks, arrive whole") {
  ServerFixture f;
  RawClient client(f.server->address());
  for (char c : f.Wire("PUT", "/bucket/slow", "hello")) client.Write(std::string(1, c));
  CHECK(client.Read().status == 200);
  // As boto3 sends streams over HTTPS: aws-chunked inside chunked.
  std::string inner = "5\r\nhello\r\n0\r\nx-amz-checksum-crc32:NhCmhg==\r\n\r\n";
  HeaderList extra{{"x-amz-decoded-content-length", "5"},
                   {"x-amz-trailer", "x-amz-checksum-crc32"},
                   {"content-encoding", "aws-chunked"}};
  HeaderList headers =
      f.Authorized("PUT", "/bucket/chunked", extra, "STREAMING-UNSIGNED-PAYLOAD-TRAILER", "");
  headers.back() = {"transfer-encoding", "chunked"};
  std::string wire = "PUT /bucket/chunked HTTP/1.1\r\n";
  for (const auto& [name, value] : headers) wire += name + ": " + value + "\r\n";
  wire += "\r\n";
  for (size_t at = 0; at < inner.size(); at += 10) {
    std::string piece = inner.substr(at, 10);
    char size[8];
    std::snprintf(size, sizeof size, "%zx", piece.size());
    wire += std::string(size) + "\r\n" + piece + "\r\n";
  }
  client.Write(wire + "0\r\n\r\n" + f.Wire("GET", "/bucket/chunked") +
               f.Wire("GET", "/bucket/slow"));
  CHECK(client.Read().status == 200);
  CHECK(client.Read().body == "hello");
  CHECK(client.Read().body == "hello");
}

TEST_CASE("100-continue is sent when the body is wanted and withheld when it is not") {
  ServerFixture f;
  std::string body(50000, 'x');
  std::string wire = f.Wire("PUT", "/bucket/k", body, {{"expect", "100-continue"}});
  {
    RawClient client(f.server->address());
    client.Write(wire.substr(0, wire.size() - body.size()));
    CHECK(client.Read().status == 100);
    client.Write(body);
    CHECK(client.Read().status == 200);
    // A body without a byte gets it too, and the connection goes on.
    client.Write(f.Wire("PUT", "/bucket/empty", "", {{"expect", "100-continue"}}));
    CHECK(client.Read().status == 100);
    CHECK(client.Read().status == 200);
    client.Write(f.Wire("GET", "/bucket/k"));
    CHECK(client.Read().status == 200);
  }
  std::string refused = f.Wire("PUT", "/absent/k", body, {{"expect", "100-continue"}});
  RawClient client(f.server->address());
  client.Write(refused.substr(0, refused.size() - body.size()));
  RawReply reply = client.Read();
  CHECK(reply.status == 404);
  CHECK(reply.has("Connection: close"));
}

TEST_CASE("a refusal reaches a client that is still sending a large body") {
  ServerFixture f;
  RawClient client(f.server->address());
  std::string wire = f.Wire("PUT", "/absent/k", std::string(2 << 20, 'x'));
  client.Write(wire);
  RawReply reply = client.Read();
  CHECK(reply.status == 404);
  CHECK(reply.body.find("NoSuchBucket") != std::string::npos);
}

TEST_CASE("what is no HTTP is refused and the connection ends") {
  ServerFixture f;
  for (const char* bad :
       {"nonsense\r\n\r\n", "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "GET / HTTP/9.9\r\nHost: h\r\n\r\n"}) {
    CAPTURE(bad);
    RawClient client(f.server->address());
    client.Write(bad);
    CHECK(client.Read().status == 400);
    CHECK(client.Closed());
  }
  RawClient client(f.server->address());
  client.Write("GET / HTTP/1.1\r\nHost: h\r\nx: " + std::string(kRequestHeadBytesMax, 'x'));
  CHECK(client.Read().status == 400);
}

TEST_CASE("heads of eight kilobytes are served") {
  ServerFixture f;
  RawClient client(f.server->address());
  HeaderList extra;
  for (int i = 0; i < 16; ++i)
    extra.push_back({"x-filler-" + std::to_string(i), std::string(500, 'v')});
  client.Write(f.Wire("PUT", "/bucket/k", "x", extra));
  CHECK(client.Read().status == 200);
}

TEST_CASE(
    "random bytes on a socket end in an answer or a closed connection, and the server lives on") {
  ServerFixture f;
  const uint64_t seed = SecretU64();
  CAPTURE(seed);
  Random random(seed);
  for (int round = 0; round < 60; ++round) {
    RawClient client(f.server->address());
    std::string wire = f.Wire("PUT", "/bucket/fuzz", "hello");
    for (uint64_t i = 0, n = 1 + random.Below(8); i < n; ++i)
      wire[random.Below(wire.size())] = static_cast<char>(random.Next());
    client.Write(wire);
  }
  RawClient client(f.server->address());
  client.Write(f.Wire("PUT", "/bucket/after", "ok"));
  CHECK(client.Read().status == 200);
}

TEST_CASE("more connections than allowed are told to slow down, and idle ones cost no thread") {
  S3Options options;
  options.connections_max = 200;
  ServerFixture f(options);
  std::vector<std::unique_ptr<RawClient>> idle;
  for (int i = 0; i < 199; ++i) idle.push_back(std::make_unique<RawClient>(f.server->address()));
  RawClient last(f.server->address());
  last.Write(f.Wire("GET", "/"));  // with four threads in the pool
  CHECK(last.Read().status == 200);
  RawClient over(f.server->address());
  RawReply refused = over.Read();
  CHECK(refused.status == 503);
  CHECK(refused.body.find("SlowDown") != std::string::npos);
  idle.clear();
  // The places come free as the server notices.
  CHECK(IsServedInTime(f.server->address(), f.Wire("GET", "/")));
}

TEST_CASE("a client that stalls in its head, in its body or between requests is let go") {
  S3Options options;
  options.head_timeout = options.body_timeout = options.idle_timeout = 50 * kMillisecond;
  ServerFixture f(options);
  RawClient head(f.server->address()), idle(f.server->address()), body(f.server->address());
  head.Write("GET / HTTP/1.1\r\n");
  std::string wire = f.Wire("PUT", "/bucket/k", std::string(40000, 'x'));
  body.Write(wire.substr(0, wire.size() - 10));
  CHECK(head.Closed());
  CHECK(idle.Closed());
  RawReply reply = body.Read();
  CHECK(reply.body.find("RequestTimeout") != std::string::npos);
}

TEST_CASE("clients that dribble their bodies take no thread from the others, and are let go") {
  S3Options options;
  options.body_timeout = 2 * kSecond;
  options.body_rate_min = 1 << 20;
  ServerFixture f(options);
  std::string wire = f.Wire("PUT", "/bucket/dribbled", std::string(40000, 'x'));
  std::vector<std::unique_ptr<RawClient>> slow;
  for (int i = 0; i < 40; ++i) {
    slow.push_back(std::make_unique<RawClient>(f.server->address()));
    slow.back()->Write(wire.substr(0, wire.size() - 1000));
  }
  RawClient client(f.server->address());
  const Nanos began = RealClock::Get().Monotonic();
  client.Write(f.Wire("GET", "/"));
  CHECK(client.Read().status == 200);
  CHECK(RealClock::Get().Monotonic() - began < 2 * kSecond);
  // A byte now and then does not help.
  for (int i = 0; i < 100; ++i) slow[0]->Write("x");
  for (size_t i = 0; i < slow.size(); ++i)
    CHECK(slow[i]->Read().body.find("RequestTimeout") != std::string::npos);
  client.Write(f.Wire("GET", "/bucket/dribbled"));
  CHECK(client.Read().status == 404);
}

TEST_CASE("nobody waits for the body of a client that is not who it says") {
  ServerFixture f;  // with half a minute for a body
  std::vector<std::unique_ptr<RawClient>> strangers;
  for (int i = 0; i < 20; ++i) {
    strangers.push_back(std::make_unique<RawClient>(f.server->address()));
    strangers.back()->Write("PUT /bucket/k HTTP/1.1\r\nHost: h\r\nContent-Length: 50000\r\n\r\nx");
  }
  const Nanos began = RealClock::Get().Monotonic();
  for (auto& stranger : strangers) {
    RawReply reply = stranger->Read();
    CHECK(reply.status == 403);
    CHECK(reply.has("Connection: close"));
    stranger->Write("more");
    CHECK(stranger->Closed());
  }
  CHECK(RealClock::Get().Monotonic() - began < 15 * kSecond);
  // What had arrived with the head is read away, and the connection goes on.
  RawClient client(f.server->address());
  client.Write("PUT /bucket/k HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello" +
               f.Wire("GET", "/"));
  CHECK(client.Read().status == 403);
  CHECK(client.Read().status == 200);
}

TEST_CASE("idle connections make room once most of the places are taken") {
  Fixture f;
  auto pool = CreateThreadPool({.name = "s3", .threads = 2});
  HttpServerOptions options;
  options.listen = "127.0.0.1:0";
  options.connections_max = 40;
  options.pressed_idle_timeout = 50 * kMillisecond;
  auto server = std::move(HttpServer::Start(
                              options, [](Request&, ResponseWriter& r) { r.Send({}, "done"); },
                              *pool, *f.registry))
                    .value();
  std::vector<std::unique_ptr<RawClient>> few, many;
  for (int i = 0; i < 30; ++i) few.push_back(std::make_unique<RawClient>(server->address()));
  few[0]->Write("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
  CHECK(few[0]->Read().body == "done");  // so long there is no need
  for (int i = 0; i < 10; ++i) many.push_back(std::make_unique<RawClient>(server->address()));
  CHECK(IsServedInTime(server->address(), "GET / HTTP/1.1\r\nHost: h\r\n\r\n"));
  server->Stop();
  pool->Stop();
}

TEST_CASE("a full pool refuses requests instead of queueing them without end") {
  Fixture f;
  auto pool = CreateThreadPool({.name = "one", .threads = 1, .queue_max = 1});
  Event entered, release;
  HttpServerOptions options;
  options.listen = "127.0.0.1:0";
  auto server = std::move(HttpServer::Start(
                              options,
                              [&](Request&, ResponseWriter& response) {
                                entered.Set();
                                release.Wait();
                                response.Send({}, "done");
                              },
                              *pool, *f.registry))
                    .value();
  std::vector<std::unique_ptr<RawClient>> clients;
  clients.push_back(std::make_unique<RawClient>(server->address()));
  clients[0]->Write("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
  entered.Wait();
  // One waits in the queue; of the others at least one is refused at once.
  for (int i = 0; i < 3; ++i) {
    clients.push_back(std::make_unique<RawClient>(server->address()));
    clients.back()->Write("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
  }
  CHECK(clients[3]->Read().status == 503);
  release.Set();
  CHECK(clients[0]->Read().body == "done");
  server->Stop();
  pool->Stop();
}

TEST_CASE(
    "the server stops with connections open, and starts only with credentials and an address of "
    "its own") {
  ServerFixture f;
  RawClient idle(f.server->address());
  RawClient used(f.server->address());
  used.Write(f.Wire("GET", "/"));
  CHECK(used.Read().status == 200);
  S3Options options;
  options.listen = f.server->address();
  CHECK(S3Server::Start(options, f.deps(*f.pool)).code() == Code::kInvalidArgument);
  options.access_key = options.secret_key = "x";
  CHECK_FALSE(S3Server::Start(options, f.deps(*f.pool)).ok());
  options.listen = "nowhere";
  CHECK_FALSE(S3Server::Start(options, f.deps(*f.pool)).ok());
  f.server->Stop();
  CHECK(idle.Closed());
  CHECK(used.Closed());
}

}  // namespace
}  // namespace perigee::objectd::s3
