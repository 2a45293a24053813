// Objects whose bytes still lie in a node's burst buffer.
#include <doctest/doctest.h>

#include "tests/objectd/s3/fixture.h"

namespace perigee::objectd::s3 {
namespace {

using namespace test;

struct BurstFixture : Fixture {
  // "bucket/file" as the mount on node 7 left it.
  void Publish(const std::string& content, uint64_t generation = 1) {
    bytes = content;
    if (generation == 1) {
      wire::FileId bucket = ns->HeadBucket("bucket")->id;
      wire::MakeRequest make;
      make.parent = bucket;
      make.name = "file";
      make.mode = 0644;
      make.writer = wire::WriterInfo{.node = 7, .burst = 70};
      file = std::move(ns->CreateFile(make)).value().record.id;
    }
    wire::PublishRequest publish;
    publish.id = file;
    publish.node = 7;
    publish.burst = 70;
    publish.generation = generation;
    publish.size = content.size();
    publish.durability = wire::Durability::kLocal;
    REQUIRE(ns->Publish(publish, "").ok());
    peers.answer = [this, generation](uint64_t asked, uint64_t offset,
                                      uint32_t length) -> Result<std::string> {
      if (asked != generation) return Status(Code::kStale, "moved on");
      return bytes.substr(offset, length);
    };
  }
  std::string bytes;
  wire::FileId file = 0;
};

TEST_CASE("a burst object is served from its node, whole and by range") {
  BurstFixture f;
  f.Publish(RandomText((9 << 20) + 5, 1));
  MemoryResponse got = f.Do("GET", "/bucket/file");
  CHECK(got.head.status == 200);
  CHECK((got.body == f.bytes));
  MemoryResponse range = f.Do("GET", "/bucket/file", {}, {{"range", "bytes=4194300-4194310"}});
  CHECK((range.body == f.bytes.substr(4194300, 11)));
}

TEST_CASE("a node that cannot be reached is 503, and never 404 or part of the object") {
  BurstFixture f;
  f.Publish(RandomText(100000, 2));
  for (Code code : {Code::kUnavailable, Code::kDeadlineExceeded}) {
    f.peers.answer = [&](uint64_t, uint64_t, uint32_t) -> Result<std::string> {
      return Status(code, "away");
    };
    MemoryResponse got = f.Do("GET", "/bucket/file");
    CHECK(got.head.status == 503);
    CHECK(got.element("Code") == "ServiceUnavailable");
  }
  f.peers.answer = [&](uint64_t, uint64_t, uint32_t) -> Result<std::string> {
    return Status(Code::kStale, "being rewritten");
  };
  f.peers.reads = 0;
  MemoryResponse stale = f.Do("GET", "/bucket/file");
  CHECK(stale.head.status == 503);
  CHECK(f.peers.reads > 1);
  f.peers.answer = [&](uint64_t, uint64_t, uint32_t) -> Result<std::string> {
    return Status(Code::kNotFound, "no such burst file");
  };
  CHECK(f.Do("GET", "/bucket/file").head.status == 503);
  CHECK(f.Do("HEAD", "/bucket/file").head.status == 200);
}

TEST_CASE("a generation that moved on while it was looked up is read again from its record") {
  BurstFixture f;
  f.Publish("first");
  auto real = f.peers.answer;
  f.peers.answer = [&](uint64_t, uint64_t, uint32_t) -> Result<std::string> {
    f.Publish("second!", 2);
    return Status(Code::kStale, "moved on");
  };
  MemoryResponse got = f.Do("GET", "/bucket/file");
  CHECK(got.head.status == 200);
  CHECK(got.body == "second!");
  CHECK(got.content_length == 7);
}

TEST_CASE(
    "an object that changes in the middle of a response ends the connection, not the object") {
  BurstFixture f;
  f.Publish(RandomText(13 << 20, 3));
  auto real = f.peers.answer;
  f.peers.answer = [&](uint64_t generation, uint64_t offset,
                       uint32_t length) -> Result<std::string> {
    if (offset >= (8 << 20)) return Status(Code::kStale, "moved on");
    return real(generation, offset, length);
  };
  MemoryResponse got = f.Do("GET", "/bucket/file");
  CHECK(got.head.status == 200);
  CHECK(got.body.size() < got.content_length);
  CHECK_FALSE(got.ok());
}

TEST_CASE("a burst object is copied by its bytes") {
  BurstFixture f;
  f.Publish(RandomText(200000, 4));
  MemoryResponse copy = f.Do("PUT", "/bucket/copy", "", {{"x-amz-copy-source", "/bucket/file"}});
  CHECK(copy.head.status == 200);
  CHECK(copy.element("ETag") == "&quot;" + Md5Hex(f.bytes) + "&quot;");
  CHECK((f.Do("GET", "/bucket/copy").body == f.bytes));
  f.peers.answer = [&](uint64_t, uint64_t, uint32_t) -> Result<std::string> {
    return Status(Code::kUnavailable, "away");
  };
  CHECK(f.Do("PUT", "/bucket/copy2", "", {{"x-amz-copy-source", "/bucket/file"}}).head.status ==
        503);
  CHECK(f.Do("HEAD", "/bucket/copy2").head.status == 404);
}

}  // namespace
}  // namespace perigee::objectd::s3
