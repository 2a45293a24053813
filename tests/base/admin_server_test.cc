#include "base/admin_server.h"

#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>

#include "base/options.h"

using namespace perigee;

namespace {

int Connect(const std::string& address) {
  auto at = *ParseHostPort(address);
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(at.port);
  inet_pton(AF_INET, at.host.c_str(), &to.sin_addr);
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  REQUIRE(connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof to) == 0);
  return fd;
}

void Send(int fd, std::string_view text) {
  REQUIRE(send(fd, text.data(), text.size(), MSG_NOSIGNAL) == ssize_t(text.size()));
}

// Until the other side closes.
std::string ReceiveAll(int fd) {
  std::string out;
  char buf[4096];
  for (ssize_t n; (n = recv(fd, buf, sizeof buf, 0)) > 0;) out.append(buf, static_cast<size_t>(n));
  return out;
}

std::string Ask(const std::string& address, const std::string& line, const std::string& more = "") {
  int fd = Connect(address);
  Send(fd, line + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + more + "\r\n");
  std::string reply = ReceiveAll(fd);
  close(fd);
  return reply;
}

bool Says(const std::string& reply, std::string_view status) {
  return reply.starts_with("HTTP/1.1 " + std::string(status));
}

struct Server {
  std::unique_ptr<metrics::Registry> registry = metrics::Registry::Create();
  std::atomic<bool> healthy = true;
  std::unique_ptr<AdminServer> server;
  Server() {
    auto started = AdminServer::Start("127.0.0.1:0", registry.get(), [this] {
      return healthy ? Status::Ok() : Status(Code::kUnavailable, "2 drives lost");
    });
    REQUIRE(started.ok());
    server = *std::move(started);
  }
  std::string at() const { return server->address(); }
};

}  // namespace

TEST_CASE("metrics are served in the text format") {
  Server s;
  s.registry->GetCounter("perigee_test_total", "t")->Add(5);
  std::string reply = Ask(s.at(), "GET /metrics");
  CHECK(Says(reply, "200"));
  CHECK(reply.find("Content-Type: text/plain; version=0.0.4") != reply.npos);
  CHECK(reply.find("\nperigee_test_total 5\n") != reply.npos);
  CHECK(Says(Ask(s.at(), "GET /metrics?x=1"), "200"));
}

TEST_CASE("health is ok, or 503 and why") {
  Server s;
  std::string reply = Ask(s.at(), "GET /healthz");
  CHECK(Says(reply, "200"));
  CHECK(reply.ends_with("\r\n\r\nok\n"));
  s.healthy = false;
  reply = Ask(s.at(), "GET /healthz");
  CHECK(Says(reply, "503"));
  CHECK(reply.find("2 drives lost") != reply.npos);
}

TEST_CASE("anything else is refused, and HEAD has no body") {
  Server s;
  CHECK(Says(Ask(s.at(), "GET /"), "404"));
  CHECK(Says(Ask(s.at(), "GET /healthz/.."), "404"));
  std::string post = Ask(s.at(), "POST /metrics", "Content-Length: 0\r\n");
  CHECK(Says(post, "405"));
  CHECK(post.find("Allow: GET, HEAD") != post.npos);
  CHECK(Says(Ask(s.at(), "DELETE /healthz"), "405"));
  std::string head = Ask(s.at(), "HEAD /healthz");
  CHECK(Says(head, "200"));
  CHECK(head.find("Content-Length: 3") != head.npos);
  CHECK(head.ends_with("\r\n\r\n"));
}

TEST_CASE("a connection serves several requests") {
  Server s;
  int fd = Connect(s.at());
  Send(fd,
       "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /nope HTTP/1.1\r\nHost: x\r\nConnection: "
       "close\r\n\r\n");
  std::string reply = ReceiveAll(fd);
  close(fd);
  CHECK(Says(reply, "200"));
  CHECK(reply.find("HTTP/1.1 404") != reply.npos);
}

TEST_CASE("garbage and oversized headers only close the connection") {
  Server s;
  for (const std::string& bad : {std::string("\x16\x03\x01 not http\r\n\r\n"),
                                 "GET / HTTP/1.1\r\nX: " + std::string(20'000, 'x') + "\r\n\r\n"}) {
    int fd = Connect(s.at());
    send(fd, bad.data(), bad.size(), MSG_NOSIGNAL);
    CHECK(ReceiveAll(fd).empty());
    close(fd);
  }
  CHECK(Says(Ask(s.at(), "GET /healthz"), "200"));
}

TEST_CASE("the 65th connection is closed at once, and the others go on") {
  Server s;
  std::vector<int> held;
  for (int i = 0; i < 64; ++i) {
    int fd = Connect(s.at());
    Send(fd, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
    char byte;
    REQUIRE(recv(fd, &byte, 1, 0) == 1);  // it has its slot
    held.push_back(fd);
  }
  int over = Connect(s.at());
  CHECK(ReceiveAll(over).empty());
  close(over);
  Send(held[0], "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  CHECK(ReceiveAll(held[0]).find("HTTP/1.1 200") != std::string::npos);
  for (int fd : held) close(fd);
}

TEST_CASE("an address in use or malformed is an error that names it") {
  Server s;
  auto again = AdminServer::Start(s.at(), s.registry.get(), nullptr);
  REQUIRE_FALSE(again.ok());
  CHECK(again.status().message().find(s.at()) != std::string::npos);
  CHECK(AdminServer::Start("nonsense", s.registry.get(), nullptr).code() == Code::kInvalidArgument);
}

TEST_CASE("Stop ends open connections and may be called twice") {
  Server s;
  int fd = Connect(s.at());
  Send(fd, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
  char byte;
  REQUIRE(recv(fd, &byte, 1, 0) == 1);
  s.server->Stop();
  s.server->Stop();
  s.server.reset();
  ReceiveAll(fd);  // ends
  close(fd);
}
