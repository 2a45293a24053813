#include <doctest/doctest.h>

#include "tests/objectd/s3/fixture.h"

namespace perigee::objectd::s3 {
namespace {

using namespace test;

TEST_CASE("objects of every size come back whole, by range and as headers") {
  Fixture f;
  for (size_t size : {0, 1, 4096, 16384, 16385, 300000, (9 << 20) + 7}) {
    CAPTURE(size);
    std::string body = RandomText(size, size + 1);
    MemoryResponse put = f.Do("PUT", "/bucket/k%20" + std::to_string(size), body,
                              {{"content-type", "text/x"}, {"x-amz-meta-a", "b c"}});
    REQUIRE(put.head.status == 200);
    CHECK(put.header("etag") == "\"" + Md5Hex(body) + "\"");
    std::string target = "/bucket/k%20" + std::to_string(size);
    MemoryResponse got = f.Do("GET", target);
    CHECK(got.head.status == 200);
    CHECK((got.body == body));
    CHECK(got.content_length == size);
    CHECK(got.header("content-type") == "text/x");
    CHECK(got.header("x-amz-meta-a") == "b c");
    CHECK(got.header("x-amz-request-id").size() == 16);
    MemoryResponse head = f.Do("HEAD", target);
    CHECK(head.content_length == size);
    CHECK(head.body.empty());
    if (size < 10) continue;
    for (auto [first, length] :
         {std::pair<size_t, size_t>{0, 1}, {size / 3, size / 2}, {size - 10, 10}}) {
      MemoryResponse part = f.Do(
          "GET", target, {},
          {{"range", "bytes=" + std::to_string(first) + "-" + std::to_string(first + length - 1)}});
      CHECK(part.head.status == 206);
      CHECK((part.body == body.substr(first, length)));
      CHECK(part.header("content-range") == "bytes " + std::to_string(first) + "-" +
                                                std::to_string(first + length - 1) + "/" +
                                                std::to_string(size));
    }
  }
  MemoryResponse outside = f.Do("GET", "/bucket/k%204096", {}, {{"range", "bytes=4096-"}});
  CHECK(outside.head.status == 416);
  CHECK(outside.header("content-range") == "bytes */4096");
}

TEST_CASE("what is missing is named, and HEAD says it without a body") {
  Fixture f;
  MemoryResponse key = f.Do("GET", "/bucket/none");
  CHECK(key.head.status == 404);
  CHECK(key.element("Code") == "NoSuchKey");
  CHECK(key.element("Resource") == "/bucket/none");
  CHECK(key.element("RequestId") == key.header("x-amz-request-id"));
  CHECK(f.Do("GET", "/nobody/none").element("Code") == "NoSuchBucket");
  CHECK(f.Do("PUT", "/nobody/none", "x").element("Code") == "NoSuchBucket");
  CHECK(f.Do("PUT", "/nobody/none", std::string(20000, 'x')).element("Code") == "NoSuchBucket");
  CHECK(f.Do("DELETE", "/nobody/none").element("Code") == "NoSuchBucket");
  CHECK(f.Do("DELETE", "/bucket/none").head.status == 204);
  MemoryResponse head = f.Do("HEAD", "/bucket/none");
  CHECK(head.head.status == 404);
  CHECK(head.body.empty());
}

TEST_CASE("reads obey conditions and overrides") {
  Fixture f;
  f.Do("PUT", "/bucket/k", "hello",
       {{"content-type", "text/plain"}, {"content-encoding", "aws-chunked,gzip"}});
  std::string etag = "\"" + Md5Hex("hello") + "\"";
  MemoryResponse unchanged = f.Do("GET", "/bucket/k", {}, {{"if-none-match", etag}});
  CHECK(unchanged.head.status == 304);
  CHECK(unchanged.body.empty());
  CHECK(unchanged.header("etag") == etag);
  CHECK(f.Do("GET", "/bucket/k", {}, {{"if-match", "\"x\""}}).element("Code") ==
        "PreconditionFailed");
  MemoryResponse got =
      f.Do("GET", "/bucket/k?response-content-type=text%2Fx&response-cache-control=no-store");
  CHECK(got.header("content-type") == "text/x");
  CHECK(got.header("cache-control") == "no-store");
  CHECK(got.header("content-encoding") == "gzip");
}

TEST_CASE("conditional writes replace only what they expect") {
  Fixture f;
  CHECK(f.Do("PUT", "/bucket/k", "1", {{"if-none-match", "*"}}).head.status == 200);
  CHECK(f.Do("PUT", "/bucket/k", "2", {{"if-none-match", "*"}}).element("Code") ==
        "PreconditionFailed");
  CHECK(f.Do("PUT", "/bucket/k", "2", {{"if-match", "\"x\""}}).element("Code") ==
        "PreconditionFailed");
  CHECK(f.Do("PUT", "/bucket/k", "2", {{"if-match", "\"" + Md5Hex("1") + "\""}}).head.status ==
        200);
  CHECK(f.Do("GET", "/bucket/k").body == "2");
  CHECK(f.Do("PUT", "/bucket/absent", "2", {{"if-match", "\"x\""}}).head.status == 404);
}

TEST_CASE("a refused body is never asked for") {
  Fixture f;
  MemoryBody body(std::string(100000, 'x'));
  HeaderList headers = f.Authorized("PUT", "/nobody/k", {{"expect", "100-continue"}},
                                    "UNSIGNED-PAYLOAD", std::string(100000, 'x'));
  CHECK(f.Send("PUT", "/nobody/k", headers, body).head.status == 404);
  CHECK(body.reads == 0);
  headers.erase(headers.begin() + 2);
  CHECK(f.Send("PUT", "/bucket/k", headers, body).element("Code") == "InvalidRequest");
  CHECK(body.reads == 0);
}

TEST_CASE("a body that fails a check is not stored") {
  Fixture f;
  auto code = [&](const HeaderList& extra, const std::string& body = "hello") {
    return f.Do("PUT", "/bucket/k", body, extra).element("Code");
  };
  std::string large(50000, 'x');
  CHECK(code({{"content-md5", Base64Encode(Hash(HashKind::kMd5, "other"))}}) == "BadDigest");
  CHECK(code({{"content-md5", Base64Encode(Hash(HashKind::kMd5, "other"))}}, large) == "BadDigest");
  CHECK(code({{"content-md5", "nonsense"}}) == "InvalidDigest");
  CHECK(code({{"x-amz-checksum-crc32", "AAAAAA=="}}) == "BadDigest");
  CHECK(code({{"x-amz-checksum-crc32", "AAAA"}}) == "InvalidRequest");
  CHECK(code({{"x-amz-checksum-crc32", "NhCmhg=="},
              {"x-amz-checksum-sha1", "qvTGHdzF6KLavt4PO0gs2a6pQ00="}}) == "InvalidRequest");
  MemoryBody other("hallo");
  CHECK(f.Send("PUT", "/bucket/k",
               f.Authorized("PUT", "/bucket/k", {}, HexEncode(Hash(HashKind::kSha256, "hello")),
                            "hello"),
               other)
            .element("Code") == "XAmzContentSHA256Mismatch");
  for (auto [end, want] : {std::pair{Code::kUnavailable, "IncompleteBody"},
                           {Code::kDeadlineExceeded, "RequestTimeout"},
                           {Code::kOk, "IncompleteBody"}}) {
    MemoryBody cut(large.substr(0, 40000), 1000, end);
    CHECK(f.Send("PUT", "/bucket/k",
                 f.Authorized("PUT", "/bucket/k", {}, "UNSIGNED-PAYLOAD", large), cut)
              .element("Code") == want);
  }
  CHECK(f.Do("HEAD", "/bucket/k").head.status == 404);
}

TEST_CASE("a checksum that was given is kept and returned when asked for") {
  Fixture f;
  MemoryResponse put =
      f.Do("PUT", "/bucket/k", "hello",
           {{"x-amz-checksum-crc32", "NhCmhg=="}, {"x-amz-sdk-checksum-algorithm", "CRC32"}});
  CHECK(put.header("x-amz-checksum-crc32") == "NhCmhg==");
  CHECK_FALSE(f.Do("GET", "/bucket/k").head.headers.Has("x-amz-checksum-crc32"));
  MemoryResponse got = f.Do("HEAD", "/bucket/k", {}, {{"x-amz-checksum-mode", "ENABLED"}});
  CHECK(got.header("x-amz-checksum-crc32") == "NhCmhg==");
  CHECK(got.header("x-amz-checksum-type") == "FULL_OBJECT");
}

TEST_CASE("an unsigned stream with a trailer is stored without its chunks") {
  Fixture f;
  for (bool good : {true, false}) {
    std::string data(30000, 'q');
    Checksum crc(ChecksumKind::kCrc32);
    crc.Update(AsBytes(data));
    std::string sum = good ? Base64Encode(crc.Finish()) : "AAAAAA==";
    std::string wire = "7530\r\n" + data + "\r\n0\r\nx-amz-checksum-crc32:" + sum + "\r\n\r\n";
    MemoryBody body(wire, 999);
    HeaderList extra{{"x-amz-decoded-content-length", "30000"},
                     {"x-amz-trailer", "x-amz-checksum-crc32"},
                     {"content-encoding", "aws-chunked"}};
    MemoryResponse put = f.Send(
        "PUT", "/bucket/s",
        f.Authorized("PUT", "/bucket/s", extra, "STREAMING-UNSIGNED-PAYLOAD-TRAILER", wire), body);
    if (good) {
      CHECK(put.head.status == 200);
      CHECK((f.Do("GET", "/bucket/s").body == data));
      CHECK_FALSE(f.Do("HEAD", "/bucket/s").head.headers.Has("content-encoding"));
      f.Do("DELETE", "/bucket/s");
    } else {
      CHECK(put.element("Code") == "BadDigest");
      CHECK(f.Do("HEAD", "/bucket/s").head.status == 404);
    }
  }
}

TEST_CASE("RDMA requests are declined by name and store nothing") {
  Fixture f;
  for (const char* header : {"x-amz-rdma-token", "x-rdma-info"}) {
    MemoryResponse put = f.Do("PUT", "/bucket/r", "", {{header, "0123"}});
    CHECK(put.head.status == 501);
    CHECK(put.element("Code") == "NotImplemented");
    CHECK(put.header("x-amz-rdma-reply") == "501");
    CHECK(f.Do("HEAD", "/bucket/r").head.status == 404);
  }
}

TEST_CASE("what would silently not happen is refused") {
  Fixture f;
  for (auto [name, value] : {std::pair{"x-amz-server-side-encryption", "AES256"},
                             {"x-amz-tagging", "a=b"},
                             {"x-amz-acl", "public-read"},
                             {"x-amz-storage-class", "GLACIER"},
                             {"x-amz-object-lock-mode", "COMPLIANCE"}}) {
    CAPTURE(name);
    MemoryResponse put = f.Do("PUT", "/bucket/k", "x", {{name, value}});
    CHECK(put.head.status == 501);
  }
  CHECK(
      f.Do("PUT", "/bucket/k", "x", {{"x-amz-acl", "private"}, {"x-amz-storage-class", "STANDARD"}})
          .head.status == 200);
  for (const char* sub : {"?acl", "?tagging", "?policy", "/k?acl", "/k?tagging", "/k?attributes"}) {
    CAPTURE(sub);
    MemoryResponse r = f.Do("PUT", std::string("/bucket") + sub, "<x/>");
    CHECK(r.head.status == 501);
    CHECK(r.element("Code") == "NotImplemented");
  }
  CHECK(f.Do("GET", "/bucket/k").body == "x");
}

TEST_CASE("names and metadata have their limits") {
  Fixture f;
  CHECK(f.Do("PUT", "/bucket/" + std::string(1024, 'k'), "x").head.status == 200);
  CHECK(f.Do("PUT", "/bucket/" + std::string(1025, 'k'), "x").element("Code") == "KeyTooLongError");
  CHECK(f.Do("PUT", "/bucket/k", "x", {{"x-amz-meta-a", std::string(2047, 'v')}}).head.status ==
        200);
  CHECK(f.Do("PUT", "/bucket/k", "x", {{"x-amz-meta-a", std::string(2048, 'v')}}).element("Code") ==
        "MetadataTooLarge");
  MemoryBody none("");
  CHECK(f.Send("PUT", "/bucket/%ff", {{"host", "h"}}, none).element("Code") == "InvalidURI");
  HeaderList big = f.Authorized("PUT", "/bucket/k", {}, "UNSIGNED-PAYLOAD", "");
  big.back().second = std::to_string((uint64_t{5} << 30) + 1);
  CHECK(f.Send("PUT", "/bucket/k", big, none).element("Code") == "EntityTooLarge");
  big.pop_back();
  CHECK(f.Send("PUT", "/bucket/k", big, none).element("Code") == "MissingContentLength");
}

TEST_CASE("a directory of its own is an empty object") {
  Fixture f;
  CHECK(f.Do("PUT", "/bucket/dir/", "").head.status == 200);
  MemoryResponse head = f.Do("HEAD", "/bucket/dir/");
  CHECK(head.head.status == 200);
  CHECK(head.content_length == 0);
  CHECK(head.header("etag") == "\"d41d8cd98f00b204e9800998ecf8427e\"");
  CHECK(f.Do("HEAD", "/bucket/dir").head.status == 404);
}

}  // namespace
}  // namespace perigee::objectd::s3
