#include "objectd/s3/http_head.h"

#include <doctest/doctest.h>

#include "base/random.h"

namespace perigee::objectd::s3 {
namespace {

TEST_CASE("a request's head is found and read") {
  std::string wire =
      "\r\nPUT /b/k%20y?x=1 HTTP/1.1\r\nHost: h:1\r\nContent-Length: 5\r\nX-Amz-Meta-A:  two  "
      "words \r\n\r\nhello";
  size_t end = FindHeadEnd(wire);
  REQUIRE(end == wire.size() - 5);
  auto head = ParseHead(wire.substr(0, end));
  REQUIRE(head.ok());
  CHECK(head->method == "PUT");
  CHECK(head->target == "/b/k%20y?x=1");
  CHECK(head->content_length == 5);
  CHECK(head->keep_alive);
  CHECK_FALSE(head->chunked);
  CHECK(head->headers.Get("x-amz-meta-a") == "two  words");
  CHECK(FindHeadEnd(wire.substr(0, end - 1)) == 0);
}

TEST_CASE("eight kilobytes of headers are fine") {
  std::string wire = "GET / HTTP/1.1\r\nHost: h\r\n";
  for (int i = 0; i < 16; ++i)
    wire += "x-amz-meta-" + std::to_string(i) + ": " + std::string(500, 'v') + "\r\n";
  CHECK(ParseHead(wire + "\r\n").ok());
}

TEST_CASE("heads that could be read in two ways are refused") {
  auto code = [](const std::string& fields, const char* line = "GET / HTTP/1.1\r\n") {
    return ParseHead(line + fields + "\r\n").code();
  };
  CHECK(code("Host: h\r\n") == Code::kOk);
  CHECK(code("") == Code::kInvalidArgument);  // no Host
  CHECK(code("Host: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n") == Code::kInvalidArgument);
  CHECK(code("Host: h\r\nContent-Length: 1\r\nContent-Length: 1\r\n") == Code::kInvalidArgument);
  CHECK(code("Host: h\r\nContent-Length: -1\r\n") == Code::kInvalidArgument);
  CHECK(code("Host: h\r\nContent-Length: 99999999999999999999\r\n") == Code::kInvalidArgument);
  CHECK(code("Host: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n") ==
        Code::kInvalidArgument);
  CHECK(code("Host: h\r\nTransfer-Encoding: gzip, chunked\r\n") == Code::kUnimplemented);
  CHECK(code("Host: h\r\nTransfer-Encoding: chunked\r\n") == Code::kOk);
  CHECK(code("Host: h\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n") ==
        Code::kInvalidArgument);
  CHECK(code("Host: h\r\nTransfer-Encoding:\r\n chunked\r\n") == Code::kInvalidArgument);
  CHECK(code("Host: h\r\nTransfer-Encoding : chunked\r\n") == Code::kInvalidArgument);
  CHECK(code("Host: h\r\nTransfer-Encoding: \vchunked\r\n") != Code::kOk);
  CHECK(code("Host: h\r\nTransfer-Encoding: chunked\r\n", "PUT / HTTP/1.0\r\n") ==
        Code::kInvalidArgument);
  for (const char* length : {"1, 1", "+1", "0x1", "1 1", ""}) {
    CAPTURE(length);
    CHECK(code("Host: h\r\nContent-Length: " + std::string(length) + "\r\n") ==
          Code::kInvalidArgument);
  }
  CHECK(code("Host: h\r\nHost: i\r\n") == Code::kInvalidArgument);
  CHECK(code("Host: h\r\nX-Folded: a\r\n\tb\r\n") == Code::kInvalidArgument);
  CHECK(code("Host: h\nContent-Length: 1\r\n") == Code::kInvalidArgument);
  CHECK(code(std::string("Host: h\r\nX: a\0b\r\n", 17)) == Code::kInvalidArgument);
  CHECK(code("Host : h\r\n") == Code::kInvalidArgument);
  CHECK(code("Host: h\r\n", "GET  / HTTP/1.1\r\n") == Code::kInvalidArgument);
  CHECK(code("Host: h\r\n", "GET / HTTP/2.0\r\n") == Code::kInvalidArgument);
  CHECK(code("Host: h\r\n", "GET /\r\n") == Code::kInvalidArgument);
}

TEST_CASE("a stored value cannot end its header") {
  ResponseHead head;
  head.headers.Add("x-amz-meta-a", "1\r\nSet-Cookie: no");
  std::string out;
  AppendResponseHead(&out, head, {3, "now", "id", false});
  CHECK(out ==
        "HTTP/1.1 200 OK\r\nServer: Perigee\r\nDate: now\r\nContent-Length: 3\r\nx-amz-request-id: "
        "id\r\nConnection: close\r\n"
        "x-amz-meta-a: 1  Set-Cookie: no\r\n\r\n");
}

TEST_CASE("random bytes never crash the head parser") {
  const uint64_t seed = SecretU64();
  CAPTURE(seed);
  Random random(seed);
  const std::string good =
      "PUT /b/k?uploads HTTP/1.1\r\nHost: h\r\nContent-Length: 7\r\nTransfer-Encoding: "
      "chunked\r\nx-amz-meta-q: v\r\n\r\n";
  for (int round = 0; round < 5000; ++round) {
    std::string wire = good;
    for (uint64_t i = 0, n = 1 + random.Below(6); i < n; ++i) {
      size_t at = random.Below(wire.size());
      if (random.OneIn(3))
        wire.erase(at, random.Below(9));
      else if (random.OneIn(2))
        wire.insert(at, 1, static_cast<char>(random.Next()));
      else
        wire[at] = static_cast<char>(random.Next());
      if (wire.empty()) break;
    }
    size_t end = FindHeadEnd(wire);
    REQUIRE(end <= wire.size());
    auto head = ParseHead(end ? wire.substr(0, end) : wire);
    if (head.ok()) REQUIRE(!head->method.empty());
  }
}

}  // namespace
}  // namespace perigee::objectd::s3
