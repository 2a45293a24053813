#include "objectd/s3/chunked_body.h"

#include <doctest/doctest.h>

#include "objectd/s3/aws_chunked.h"
#include "tests/objectd/s3/memory_http.h"

namespace perigee::objectd::s3 {
namespace {

using namespace test;

struct Decoded {
  std::string data;
  Code code;
  size_t left;  // of the input
  std::string trailer;
};

// A source whose input goes on behind the body, as on a connection.
class StringSource final : public ByteSource {
 public:
  explicit StringSource(std::string_view text, size_t piece) : text_(text), piece_(piece) {}
  Result<std::string_view> Peek() override { return text_.substr(0, piece_); }
  void Consume(size_t n) override { text_.remove_prefix(n); }
  Result<size_t> Read(MutableBytes out) override {
    size_t n = std::min({out.size(), piece_, text_.size()});
    std::memcpy(out.data(), text_.data(), n);
    text_.remove_prefix(n);
    return n;
  }
  size_t left() const { return text_.size(); }

 private:
  std::string_view text_;
  size_t piece_;
};

Decoded Http(const std::string& wire, size_t piece = 3) {
  StringSource source(wire, piece);
  ChunkedBody body(source);
  Decoded d;
  d.data = ReadAll(body, &d.code, 5);
  d.left = source.left();
  d.trailer = body.trailers().Get("x-t");
  return d;
}

TEST_CASE("chunks are joined, trailers are kept, and what follows the body is left alone") {
  for (size_t piece : {1, 2, 7, 1000}) {
    Decoded d = Http(
        "4\r\nWiki\r\n6;ext=1\r\npedia \r\nE\r\nin \r\n\r\nchunks.\r\n0\r\nX-T: v \r\n\r\nGET "
        "/next",
        piece);
    CHECK(d.code == Code::kOk);
    CHECK(d.data == "Wikipedia in \r\n\r\nchunks.");
    CHECK(d.trailer == "v");
    CHECK(d.left == 9);
  }
  CHECK(Http("0\r\n\r\n").code == Code::kOk);
}

TEST_CASE("malformed chunks are refused and nothing is guessed") {
  for (const char* bad :
       {"", "4", "4\r\nWi", "4\r\nWiki", "4\r\nWiki\r\n", "4\nWiki\n0\n\n",
        "4\r\nWikipedia\r\n0\r\n\r\n", "g\r\n", "-1\r\n", " 4\r\nWiki\r\n0\r\n\r\n",
        "4 \r\nWiki\r\n0\r\n\r\n", "\r\n", "10000000000000000\r\n", "0x4\r\nWiki\r\n0\r\n\r\n",
        "0\r\nno colon\r\n\r\n", "0\r\n: v\r\n\r\n", "0\r\n", "0\r\nX-T: v\r\n",
        "0\r\nX-T: v\n\n"}) {
    CAPTURE(bad);
    CHECK(Http(bad).code != Code::kOk);
  }
  CHECK(Http("4;" + std::string(kChunkLineBytesMax, 'x') + "\r\nWiki\r\n0\r\n\r\n").code ==
        Code::kInvalidArgument);
  CHECK(Http("0\r\n" + std::string("a: b\r\n") + std::string(kTrailerBytesMax, 'x') + ": 1\r\n\r\n")
            .code == Code::kInvalidArgument);
  std::string many = "0\r\n";
  for (size_t i = 0; i < kTrailerBytesMax / 4; ++i) many += "a: b\r\n";
  CHECK(Http(many + "\r\n").code == Code::kInvalidArgument);
}

TEST_CASE("a huge chunk size asks for its data and gives no more than came") {
  Decoded d = Http("ffffffffffffffff\r\nabc");
  CHECK(d.code == Code::kUnavailable);
  CHECK(d.data == "abc");
}

TEST_CASE("a failed body stays failed") {
  StringSource source("3\r\nabcX\r\n0\r\n\r\n", 100);
  ChunkedBody body(source);
  uint8_t out[8];
  CHECK(*body.Read(out) == 3);
  CHECK(body.Read(out).code() == Code::kInvalidArgument);
  CHECK(body.Read(out).code() == Code::kInvalidArgument);
}

Decoded Unsigned(const std::string& wire, uint64_t length) {
  MemoryBody raw(wire, 4);
  BodySource source(raw);
  AwsChunkedBody body(source, PayloadKind::kStreamUnsignedTrailer, {}, length);
  Decoded d;
  d.data = ReadAll(body, &d.code);
  d.trailer = body.trailers().Get("x-amz-checksum-crc32");
  return d;
}

TEST_CASE("an unsigned stream brings its checksum in the trailer") {
  Decoded d = Unsigned("5\r\nhello\r\n0\r\nx-amz-checksum-crc32:NhCmhg==\r\n\r\n", 5);
  CHECK(d.code == Code::kOk);
  CHECK(d.data == "hello");
  CHECK(d.trailer == "NhCmhg==");
  CHECK(Unsigned("5\r\nhello\r\n0\r\nx-amz-checksum-crc32:NhCmhg==\n\n", 5).trailer == "NhCmhg==");
  CHECK(Unsigned("5\r\nhello\r\n0\r\n\r\n", 6).code == Code::kUnavailable);
  CHECK(Unsigned("5\r\nhello\r\n0\r\n\r\n", 4).code == Code::kInvalidArgument);
  CHECK(Unsigned("5\r\nhello\r\n", 5).code == Code::kUnavailable);
  CHECK(Unsigned("5\r\nhello\r\n0\r\n\r\nGET /", 5).code == Code::kInvalidArgument);
}

TEST_CASE("random bytes never crash the chunk parser, and never decode to more than they hold") {
  const uint64_t seed = SecretU64();
  CAPTURE(seed);
  Random random(seed);
  const std::string alphabet = "0123456789abcdef;:=\r\n\r\n\r\nxX-";
  for (int round = 0; round < 3000; ++round) {
    std::string wire;
    size_t n = random.Below(200);
    for (size_t i = 0; i < n; ++i) {
      wire.push_back(random.OneIn(8) ? static_cast<char>(random.Next())
                                     : alphabet[random.Below(alphabet.size())]);
    }
    if (random.OneIn(2)) wire = "5\r\nhello\r\n" + wire;
    Decoded d = Http(wire, 1 + random.Below(9));
    REQUIRE(d.data.size() <= wire.size());
    d = Unsigned(wire, random.Below(300));
    REQUIRE(d.data.size() <= wire.size());
  }
}

}  // namespace
}  // namespace perigee::objectd::s3
