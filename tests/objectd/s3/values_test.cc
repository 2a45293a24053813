// The small pure parts: addresses, times, ranges and conditions, XML, checksums, tokens.
#include <doctest/doctest.h>

#include "base/checksum.h"
#include "base/random.h"
#include "objectd/s3/checksums.h"
#include "objectd/s3/conditions.h"
#include "objectd/s3/continuation_token.h"
#include "objectd/s3/crc.h"
#include "objectd/s3/time_format.h"
#include "objectd/s3/uri.h"
#include "objectd/s3/xml.h"

namespace perigee::objectd::s3 {
namespace {

TEST_CASE("a target is a bucket, a key and parameters") {
  auto t = ParseTarget("/b/a%2Fb//c+d%C3%BC?list-type=2&prefix=a+b%2B&acl");
  REQUIRE(t.ok());
  CHECK(t->bucket == "b");
  CHECK(t->key == "a/b//c+dü");
  CHECK(t->query.Get("prefix") == "a b+");
  CHECK(t->query.Has("acl"));
  CHECK(ParseTarget("http://host:1/b/k")->key == "k");
  CHECK(ParseTarget("http://host?a=/b")->path == "/");
  CHECK(ParseTarget("http://host?a=/b")->query.Has("a"));
  CHECK(ParseTarget("http://host")->path == "/");
  CHECK(ParseTarget("/")->bucket.empty());
  CHECK(ParseTarget("/b")->key.empty());
  for (const char* bad :
       {"", "b/k", "/b/%", "/b/%4", "/b/%zz", "/b/%ff", "/b/%c0%80", "/b/%ed%a0%80", "/b?x=%g0"}) {
    CAPTURE(bad);
    CHECK_FALSE(ParseTarget(bad).ok());
  }
  CHECK(UriEncode("a b/ü~*", Slash::kKeep) == "a%20b/%C3%BC~%2A");
  CHECK(UriEncode("a/b", Slash::kEncode) == "a%2Fb");
}

TEST_CASE("times are written and read in S3's three forms") {
  const Nanos t = 1369353600 * kSecond + 7 * kMillisecond;
  CHECK(FormatHttpDate(t) == "Fri, 24 May 2013 00:00:00 GMT");
  CHECK(FormatIsoMillis(t) == "2013-05-24T00:00:00.007Z");
  CHECK(FormatIsoMillis(t - 8 * kMillisecond) == "2013-05-23T23:59:59.999Z");
  CHECK(FormatIsoMillis(-1) == "1969-12-31T23:59:59.999Z");
  CHECK(FormatAmzDate(t) == "20130524T000000Z");
  CHECK(ParseHttpDate("Fri, 24 May 2013 00:00:00 GMT") == 1369353600 * kSecond);
  CHECK(ParseHttpDate("Friday, 24-May-13 00:00:00 GMT") == 1369353600 * kSecond);
  CHECK(ParseHttpDate("Fri May 24 00:00:00 2013") == 1369353600 * kSecond);
  CHECK_FALSE(ParseHttpDate("Fri, 31 Feb 2013 00:00:00 GMT"));
  CHECK_FALSE(ParseHttpDate("yesterday"));
  CHECK_FALSE(ParseAmzDate("20130524T000000"));
  CHECK_FALSE(ParseAmzDate("20131324T000000Z"));
  CHECK_FALSE(ParseAmzDate("2013052-T000000Z"));
}

Headers With(std::string_view name, std::string_view value) {
  Headers h;
  h.Add(name, value);
  return h;
}

TEST_CASE("ranges select bytes, are ignored when malformed, and fail outside") {
  auto select = [](const char* range, uint64_t size) -> std::string {
    std::optional<ByteRange> out;
    Outcome o = SelectRange(With("range", range), size, "e", 0, &out);
    if (!o.ok()) return std::string(InfoOf(o.error().code).name);
    return out ? std::to_string(out->offset) + "+" + std::to_string(out->length) : "whole";
  };
  CHECK(select("bytes=0-0", 10) == "0+1");
  CHECK(select("bytes=2-5", 10) == "2+4");
  CHECK(select("bytes=2-", 10) == "2+8");
  CHECK(select("bytes=2-99", 10) == "2+8");
  CHECK(select("bytes=-3", 10) == "7+3");
  CHECK(select("bytes=-99", 10) == "0+10");
  CHECK(select("bytes=0-99999999999999999999999", 10) == "0+10");
  CHECK(select("bytes=10-", 10) == "InvalidRange");
  CHECK(select("bytes=-0", 10) == "InvalidRange");
  CHECK(select("bytes=0-", 0) == "InvalidRange");
  for (const char* ignored : {"bytes=5-2", "bytes=-", "bytes=a-b", "bytes=1-2,4-5", "lines=1-2",
                              "bytes 1-2", "bytes=1"}) {
    CAPTURE(ignored);
    CHECK(select(ignored, 10) == "whole");
  }
  ByteRange copy;
  CHECK(ParseCopyRange("bytes=1-4", 5, &copy).ok());
  CHECK(copy.length == 4);
  CHECK(ParseCopyRange("bytes=1-5", 5, &copy).Is(ErrorCode::kInvalidRange));
  CHECK(ParseCopyRange("bytes=1-", 5, &copy).Is(ErrorCode::kInvalidArgument));
}

TEST_CASE("conditions follow their precedence") {
  const Nanos modified = *ParseHttpDate("Fri, 24 May 2013 00:00:00 GMT") + 500 * kMillisecond;
  auto check = [&](const Headers& h) -> std::string {
    Outcome o = CheckConditions(h, ConditionSet::kRead, "abc", modified);
    return o.ok() ? "ok" : std::string(InfoOf(o.error().code).name);
  };
  CHECK(check(With("if-match", "\"abc\"")) == "ok");
  CHECK(check(With("if-match", "abc")) == "ok");
  CHECK(check(With("if-match", "\"x\", \"abc\"")) == "ok");
  CHECK(check(With("if-match", "*")) == "ok");
  CHECK(check(With("if-match", "\"x\"")) == "PreconditionFailed");
  CHECK(check(With("if-none-match", "\"abc\"")) == "NotModified");
  CHECK(check(With("if-none-match", "\"x\"")) == "ok");
  CHECK(check(With("if-modified-since", "Fri, 24 May 2013 00:00:00 GMT")) == "NotModified");
  CHECK(check(With("if-modified-since", "Thu, 23 May 2013 23:59:59 GMT")) == "ok");
  CHECK(check(With("if-unmodified-since", "Fri, 24 May 2013 00:00:00 GMT")) == "ok");
  CHECK(check(With("if-unmodified-since", "Thu, 23 May 2013 23:59:59 GMT")) ==
        "PreconditionFailed");
  Headers both = With("if-match", "\"abc\"");
  both.Add("if-unmodified-since", "Thu, 23 May 2013 23:59:59 GMT");
  CHECK(check(both) == "ok");
  Headers none = With("if-none-match", "\"x\"");
  none.Add("if-modified-since", "Fri, 24 May 2013 00:00:00 GMT");
  CHECK(check(none) == "ok");
  CHECK(CheckConditions(With("x-amz-copy-source-if-none-match", "abc"), ConditionSet::kCopySource,
                        "abc", 0)
            .Is(ErrorCode::kPreconditionFailed));
}

TEST_CASE("text that comments and CDATA sections divide is read whole") {
  auto del = ParseDelete("<Delete><Object><Key>a<!-- x -->b<![CDATA[c]]></Key></Object></Delete>");
  REQUIRE(del.ok());
  CHECK(del->items[0].key == "abc");
}

TEST_CASE("XML is escaped going out and read coming in") {
  XmlWriter xml;
  xml.Open("A");
  xml.Text("K", "a<&>\"\x01\r\n");
  xml.Close("A");
  CHECK(
      xml.Take() ==
      "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<A><K>a&lt;&amp;&gt;&quot;&#1;&#13;\n</K></A>");

  auto del = ParseDelete(
      "<?xml version=\"1.0\"?><Delete "
      "xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Quiet>true</Quiet>"
      "<Object><Key>a&amp;b &#252;</Key></Object><Object><Key> "
      "</Key><ETag>\"e\"</ETag></Object></Delete>");
  REQUIRE(del.ok());
  CHECK(del->quiet);
  REQUIRE(del->items.size() == 2);
  CHECK(del->items[0].key == "a&b ü");
  CHECK(del->items[1].key == " ");
  CHECK(del->items[1].etag == "e");
  for (const char* bad : {"", "<Delete/>", "<Delete><Object/></Delete>",
                          "<Delete><Object><Key>a</Key></Delete>", "<Other/>", "junk", "<Delete"}) {
    CAPTURE(bad);
    CHECK_FALSE(ParseDelete(bad).ok());
  }
  std::string many = "<Delete>";
  for (int i = 0; i < 1001; ++i) many += "<Object><Key>k</Key></Object>";
  CHECK_FALSE(ParseDelete(many + "</Delete>").ok());

  auto complete = ParseComplete(
      "<s3:CompleteMultipartUpload xmlns:s3=\"x\"><s3:Part><s3:PartNumber>7</s3:PartNumber>"
      "<s3:ETag>&quot;e&quot;</s3:ETag><s3:ChecksumCRC32>AAAA</s3:ChecksumCRC32></s3:Part></"
      "s3:CompleteMultipartUpload>");
  REQUIRE(complete.ok());
  CHECK(complete->parts[0].number == 7);
  CHECK(complete->parts[0].etag == "e");
  CHECK(complete->parts[0].checksums[0].first == "ChecksumCRC32");
  CHECK_FALSE(ParseComplete("<CompleteMultipartUpload><Part><PartNumber>0</PartNumber><ETag>e</"
                            "ETag></Part></CompleteMultipartUpload>")
                  .ok());
  CHECK(*ParseCreateBucket("<CreateBucketConfiguration><LocationConstraint>eu-1</"
                           "LocationConstraint></CreateBucketConfiguration>") == "eu-1");
}

TEST_CASE("deeply nested and random XML is refused without harm") {
  std::string deep;
  for (int i = 0; i < 200000; ++i) deep += "<Delete>";
  CHECK_FALSE(ParseDelete(deep).ok());
  for (int i = 0; i < 200000; ++i) deep += "</Delete>";
  CHECK_FALSE(ParseDelete(deep).ok());
  const uint64_t seed = SecretU64();
  CAPTURE(seed);
  Random random(seed);
  const std::string good =
      "<Delete><Quiet>1</Quiet><Object><Key>a&amp;b</Key><VersionId>v</VersionId></Object></"
      "Delete>";
  for (int round = 0; round < 2000; ++round) {
    std::string wire = good;
    for (uint64_t i = 0, n = 1 + random.Below(5); i < n; ++i)
      wire[random.Below(wire.size())] = static_cast<char>(random.Next());
    ParseDelete(wire).status().Ignore();  // any verdict will do
    ParseComplete(wire).status().Ignore();
  }
}

TEST_CASE("checksums have their catalogued values") {
  ConstBytes digits = AsBytes("123456789");
  CHECK(Crc32Extend(0, digits) == 0xcbf43926);
  CHECK(Crc64NvmeExtend(0, digits) == 0xae8b14860a799888);
  auto b64 = [&](ChecksumKind kind) {
    Checksum c(kind);
    c.Update(digits);
    return Base64Encode(c.Finish());
  };
  CHECK(b64(ChecksumKind::kCrc32) == "y/Q5Jg==");
  CHECK(b64(ChecksumKind::kCrc32c) == "4waSgw==");
  CHECK(b64(ChecksumKind::kCrc64Nvme) == "rosUhgp5mIg=");
  CHECK(b64(ChecksumKind::kSha1) == "98O8HYCOBHMq32eZZczDTKeuNEE=");
  CHECK(b64(ChecksumKind::kSha256) == "FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU=");
}

TEST_CASE("CRCs over pieces of any size agree with the whole, and halves can be joined") {
  const uint64_t seed = SecretU64();
  CAPTURE(seed);
  Random random(seed);
  std::string data(100000, '\0');
  random.Fill(data.data(), data.size());
  for (int round = 0; round < 20; ++round) {
    size_t cut = random.Below(data.size());
    ConstBytes a = AsBytes(data).first(cut), b = AsBytes(data).subspan(cut);
    uint32_t whole = Crc32Extend(0, AsBytes(data));
    CHECK(Crc32Extend(Crc32Extend(0, a), b) == whole);
    CHECK(Crc32Combine(Crc32Extend(0, a), Crc32Extend(0, b), b.size()) == whole);
    CHECK(Crc32cCombine(Crc32c(a), Crc32c(b), b.size()) == Crc32c(AsBytes(data)));
    uint64_t whole64 = Crc64NvmeExtend(0, AsBytes(data));
    CHECK(Crc64NvmeExtend(Crc64NvmeExtend(0, a), b) == whole64);
    CHECK(Crc64NvmeCombine(Crc64NvmeExtend(0, a), Crc64NvmeExtend(0, b), b.size()) == whole64);
  }
}

TEST_CASE("a version's checksum is stored with its kind") {
  CHECK(EncodeStored({ChecksumKind::kCrc32c, "4waSgw==", false}) == "CRC32C:4waSgw==");
  auto composite = DecodeStored("SHA256:abc=-3");
  REQUIRE(composite);
  CHECK(composite->composite);
  CHECK(composite->kind == ChecksumKind::kSha256);
  CHECK_FALSE(DecodeStored(""));
  CHECK_FALSE(DecodeStored("MD4:abc"));
}

TEST_CASE("a continuation token has these bytes and no others") {
  CHECK(EncodeContinuationToken("a/b") == "AaNAC/thL2I=");
  CHECK(DecodeContinuationToken("AaNAC/thL2I=") == "a/b");
  CHECK(DecodeContinuationToken(EncodeContinuationToken("")) == "");
  for (const char* bad : {"", "a/b", "AaNAC/thL2M=", "AqNAC/thL2I=", "AQ=="})
    CHECK_FALSE(DecodeContinuationToken(bad));
}

}  // namespace
}  // namespace perigee::objectd::s3
