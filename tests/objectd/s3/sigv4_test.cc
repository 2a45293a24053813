// The vectors are those of the AWS documentation: "Signature Calculations for the Authorization
// Header", "Authenticating Requests: Using Query Parameters", "Transferring Payload in Multiple
// Chunks" and its trailing-headers sibling.
#include "objectd/s3/sigv4.h"

#include <doctest/doctest.h>

#include "objectd/s3/aws_chunked.h"
#include "objectd/s3/time_format.h"
#include "tests/objectd/s3/memory_http.h"

namespace perigee::objectd::s3 {
namespace {

using namespace test;

constexpr const char* kEmptySha =
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const Credentials kExample{"AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
                           "us-east-1"};
const Nanos kExampleTime = *ParseAmzDate("20130524T000000Z");

std::string Authorization(const std::string& headers, const std::string& signature) {
  return "AWS4-HMAC-SHA256 "
         "Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,SignedHeaders=" +
         headers + ",Signature=" + signature;
}

struct Verdict {
  std::string code = "ok";
  Authentication auth;
};

Verdict Check(const std::string& method, const std::string& target, const HeaderList& headers,
              Nanos now = kExampleTime, Credentials who = kExample) {
  ManualClock clock(now);
  SigV4 sigv4(who, clock);
  Verdict v;
  Outcome outcome =
      sigv4.Authenticate(MakeHead(method, target, headers), *ParseTarget(target), &v.auth);
  if (!outcome.ok()) v.code = InfoOf(outcome.error().code).name;
  return v;
}

HeaderList GetObjectExample() {
  return {{"Host", "examplebucket.s3.amazonaws.com"},
          {"Range", "bytes=0-9"},
          {"x-amz-content-sha256", kEmptySha},
          {"x-amz-date", "20130524T000000Z"},
          {"Authorization",
           Authorization("host;range;x-amz-content-sha256;x-amz-date",
                         "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41")}};
}

const char* kPresigned =
    "/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%"
    "2Fus-east-1%2Fs3%2Faws4_request"
    "&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
    "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404";

TEST_CASE("the documentation's signed requests are accepted") {
  CHECK(Check("GET", "/test.txt", GetObjectExample()).code == "ok");
  CHECK(Check("PUT", "/test$file.text",
              {{"Date", "Fri, 24 May 2013 00:00:00 GMT"},
               {"Host", "examplebucket.s3.amazonaws.com"},
               {"x-amz-date", "20130524T000000Z"},
               {"x-amz-storage-class", "REDUCED_REDUNDANCY"},
               {"x-amz-content-sha256",
                "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072"},
               {"Authorization",
                Authorization("date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
                              "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd")}})
            .code == "ok");
  HeaderList list{{"Host", "examplebucket.s3.amazonaws.com"},
                  {"x-amz-content-sha256", kEmptySha},
                  {"x-amz-date", "20130524T000000Z"}};
  HeaderList lifecycle = list, pages = list;
  lifecycle.push_back(
      {"Authorization",
       Authorization("host;x-amz-content-sha256;x-amz-date",
                     "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543")});
  CHECK(Check("GET", "/?lifecycle", lifecycle).code == "ok");
  pages.push_back(
      {"Authorization",
       Authorization("host;x-amz-content-sha256;x-amz-date",
                     "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7")});
  CHECK(Check("GET", "/?max-keys=2&prefix=J", pages).code == "ok");
  CHECK(Check("GET", "/?prefix=J&max-keys=2", pages).code == "ok");  // parameters in any order
}

TEST_CASE("what the signature covers cannot be changed") {
  HeaderList other = GetObjectExample();
  other[1].second = "bytes=0-10";
  CHECK(Check("GET", "/test.txt", other).code == "SignatureDoesNotMatch");
  CHECK(Check("HEAD", "/test.txt", GetObjectExample()).code == "SignatureDoesNotMatch");
  CHECK(Check("GET", "/test.txt2", GetObjectExample()).code == "SignatureDoesNotMatch");
  CHECK(Check("GET", "/test.txt?x=1", GetObjectExample()).code == "SignatureDoesNotMatch");
  Credentials wrong = kExample;
  wrong.secret_key[0] = 'W';
  CHECK(Check("GET", "/test.txt", GetObjectExample(), kExampleTime, wrong).code ==
        "SignatureDoesNotMatch");
  HeaderList added = GetObjectExample();
  added.push_back({"x-amz-meta-a", "1"});
  CHECK(Check("GET", "/test.txt", added).code == "AccessDenied");
}

TEST_CASE("requests of strangers, of other regions and of other times are refused by name") {
  CHECK(Check("GET", "/test.txt", {{"Host", "h"}}).code == "AccessDenied");
  Credentials other = kExample;
  other.access_key = "SOMEBODY";
  CHECK(Check("GET", "/test.txt", GetObjectExample(), kExampleTime, other).code ==
        "InvalidAccessKeyId");
  other = kExample;
  other.region = "eu-west-1";
  CHECK(Check("GET", "/test.txt", GetObjectExample(), kExampleTime, other).code ==
        "AuthorizationHeaderMalformed");
  CHECK(Check("GET", "/test.txt", GetObjectExample(), kExampleTime + kClockSkewMax).code == "ok");
  CHECK(
      Check("GET", "/test.txt", GetObjectExample(), kExampleTime + kClockSkewMax + kSecond).code ==
      "RequestTimeTooSkewed");
  CHECK(
      Check("GET", "/test.txt", GetObjectExample(), kExampleTime - kClockSkewMax - kSecond).code ==
      "RequestTimeTooSkewed");
  CHECK(Check("GET", "/", {{"Host", "h"}, {"Authorization", "AWS AKID:c2ln"}}).code ==
        "InvalidRequest");
  CHECK(Check("GET", "/", {{"Host", "h"}, {"Authorization", "AWS4-HMAC-SHA256 nonsense"}}).code ==
        "AuthorizationHeaderMalformed");
  HeaderList no_sha = GetObjectExample();
  no_sha.erase(no_sha.begin() + 2);
  CHECK(Check("GET", "/test.txt", no_sha).code == "InvalidRequest");
  HeaderList token = GetObjectExample();
  token.push_back({"x-amz-security-token", "t"});
  CHECK(Check("GET", "/test.txt", token).code == "InvalidToken");
}

TEST_CASE("the documentation's presigned address works until it expires") {
  HeaderList host{{"Host", "examplebucket.s3.amazonaws.com"}};
  Verdict v = Check("GET", kPresigned, host);
  CHECK(v.code == "ok");
  CHECK(v.auth.payload == PayloadKind::kUnsigned);
  CHECK(Check("GET", kPresigned, host, kExampleTime + 86400 * kSecond).code == "ok");
  CHECK(Check("GET", kPresigned, host, kExampleTime + 86401 * kSecond).code == "AccessDenied");
  CHECK(Check("GET", kPresigned, host, kExampleTime - 3600 * kSecond).code == "AccessDenied");
  CHECK(Check("PUT", kPresigned, host).code == "SignatureDoesNotMatch");
  std::string longer(kPresigned);
  longer.replace(longer.find("86400"), 5, "604801");
  CHECK(Check("GET", longer, host).code == "AuthorizationQueryParametersError");
  std::string cut(kPresigned);
  cut.erase(cut.find("&X-Amz-SignedHeaders=host"), 25);
  CHECK(Check("GET", cut, host).code == "AuthorizationQueryParametersError");
}

// "Transferring Payload in Multiple Chunks": 66,560 bytes of 'a' in chunks of 65,536 and 1,024.
struct ChunkExample {
  PayloadKind kind;
  std::string seed, first, second, last, trailer;
};
const ChunkExample kPlain{PayloadKind::kStreamSigned,
                          "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9",
                          "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
                          "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
                          "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
                          "\r\n"};
const ChunkExample kTrailing{
    PayloadKind::kStreamSignedTrailer,
    "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e",
    "b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2",
    "1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7",
    "2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992",
    "x-amz-checksum-crc32c:sOO8/Q==\r\n"
    "x-amz-trailer-signature:"
    "d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435\r\n\r\n"};

std::string Encoded(const ChunkExample& e, std::string data = std::string(66560, 'a')) {
  return "10000;chunk-signature=" + e.first + "\r\n" + data.substr(0, 65536) +
         "\r\n400;chunk-signature=" + e.second + "\r\n" + data.substr(65536) +
         "\r\n0;chunk-signature=" + e.last + "\r\n" + e.trailer;
}

Code Decode(const ChunkExample& e, const std::string& wire, std::string* out,
            uint64_t length = 66560, std::string* trailer = nullptr) {
  MemoryBody raw(wire, 1000);
  BodySource source(raw);
  ChunkSigning signing{DeriveSigningKey(kExample.secret_key, "20130524", "us-east-1"),
                       "20130524T000000Z", "20130524/us-east-1/s3/aws4_request", e.seed};
  AwsChunkedBody body(source, e.kind, signing, length);
  Code code;
  *out = ReadAll(body, &code);
  if (trailer) *trailer = body.trailers().Get("x-amz-checksum-crc32c");
  return code;
}

TEST_CASE("the documentation's seed signature of a stream is accepted") {
  HeaderList headers{
      {"Host", "s3.amazonaws.com"},
      {"x-amz-date", "20130524T000000Z"},
      {"x-amz-storage-class", "REDUCED_REDUNDANCY"},
      {"x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"},
      {"Content-Encoding", "aws-chunked"},
      {"x-amz-decoded-content-length", "66560"},
      {"Content-Length", "66824"},
      {"Authorization",
       Authorization("content-encoding;content-length;host;x-amz-content-sha256;x-amz-date;"
                     "x-amz-decoded-content-length;x-amz-storage-class",
                     kPlain.seed)}};
  Verdict v = Check("PUT", "/examplebucket/chunkObject.txt", headers);
  CHECK(v.code == "ok");
  CHECK(v.auth.payload == PayloadKind::kStreamSigned);
  CHECK(v.auth.signing.seed == kPlain.seed);
}

TEST_CASE("the documentation's signed chunks and trailers decode") {
  std::string out, trailer;
  CHECK(Decode(kPlain, Encoded(kPlain), &out) == Code::kOk);
  CHECK(out == std::string(66560, 'a'));
  CHECK(Decode(kTrailing, Encoded(kTrailing), &out, 66560, &trailer) == Code::kOk);
  CHECK(out == std::string(66560, 'a'));
  CHECK(trailer == "sOO8/Q==");
}

TEST_CASE("a chunk whose data, signature or trailer was changed is refused") {
  std::string out;
  std::string data(66560, 'a');
  data[65535] = 'b';
  CHECK(Decode(kPlain, Encoded(kPlain, data), &out) == Code::kPermissionDenied);
  data.assign(66560, 'a').back() = 'b';
  CHECK(Decode(kPlain, Encoded(kPlain, data), &out) == Code::kPermissionDenied);
  ChunkExample other = kPlain;
  std::swap(other.first, other.second);
  CHECK(Decode(other, Encoded(other), &out) == Code::kPermissionDenied);
  std::string wire = Encoded(kTrailing);
  wire.replace(wire.find("sOO8/Q=="), 8, "sOO8/R==");
  CHECK(Decode(kTrailing, wire, &out) == Code::kPermissionDenied);
  wire = Encoded(kTrailing);
  wire.insert(wire.find("x-amz-trailer-signature"), "x-amz-checksum-sha1:AAAA\r\n");
  CHECK(Decode(kTrailing, wire, &out) == Code::kPermissionDenied);
  wire = Encoded(kTrailing);
  wire.erase(wire.find("x-amz-trailer-signature"));  // the signature is cut off
  CHECK(Decode(kTrailing, wire + "\r\n", &out) != Code::kOk);
}

TEST_CASE("a signed stream must have the length it announced, and end where it ends") {
  std::string out;
  CHECK(Decode(kPlain, Encoded(kPlain), &out, 66559) == Code::kInvalidArgument);
  CHECK(Decode(kPlain, Encoded(kPlain), &out, 66561) == Code::kUnavailable);
  CHECK(Decode(kPlain, Encoded(kPlain) + "\r\n", &out) == Code::kOk);  // as some SDKs do
  CHECK(Decode(kPlain, Encoded(kPlain) + "x", &out) == Code::kInvalidArgument);
  std::string wire = Encoded(kPlain);
  for (size_t cut : {size_t{0}, size_t{5}, size_t{90}, size_t{40000}, wire.size() - 60}) {
    CHECK(Decode(kPlain, wire.substr(0, cut), &out) != Code::kOk);
  }
}

}  // namespace
}  // namespace perigee::objectd::s3
